//! Checks: does a backend answer, asked from where its clients' packets come.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::net::netns::{NetnsHandle, run_in};
use crate::recovery::Finding;

/// How to ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The port accepts a connection.
    Tcp,
    /// A GET is answered with one of these statuses.
    Http {
        /// What to get, with a leading slash.
        path: String,
        /// The statuses that are right.
        status: RangeInclusive<u16>,
    },
}

/// Why a text is no check.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` is no check: use `tcp`, or `http:/PATH` for a GET that must be answered with 200 to 399")]
pub struct CheckError(String);

impl std::str::FromStr for Check {
    type Err = CheckError;

    fn from_str(text: &str) -> Result<Self, CheckError> {
        match text.strip_prefix("http:") {
            Some(path) if path.starts_with('/') && path.is_ascii() && !path.contains(' ') => {
                Ok(Self::Http { path: path.to_owned(), status: 200..=399 })
            }
            None if text == "tcp" => Ok(Self::Tcp),
            _ => Err(CheckError(text.to_owned())),
        }
    }
}

/// Asks the backend at `address` from inside `netns`; takes no longer than `limit`.
pub async fn run(
    check: &Check,
    netns: &NetnsHandle,
    address: SocketAddrV4,
    limit: Duration,
) -> Result<(), Finding> {
    timeout(limit, ask(check, netns, address)).await.unwrap_or(Err(Finding::TimedOut))
}

async fn ask(check: &Check, netns: &NetnsHandle, address: SocketAddrV4) -> Result<(), Finding> {
    let socket = run_in(netns, TcpSocket::new_v4)
        .map_err(|error| Finding::Unreachable(error.to_string()))?
        .map_err(|error| Finding::Unreachable(error.to_string()))?;
    let stream = socket.connect(SocketAddr::V4(address)).await.map_err(|error| finding(&error))?;
    match check {
        Check::Tcp => Ok(()),
        Check::Http { path, status } => get(stream, path, status).await,
    }
}

async fn get(stream: TcpStream, path: &str, wanted: &RangeInclusive<u16>) -> Result<(), Finding> {
    let wrong = |error: hyper::Error| Finding::WrongAnswer(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(wrong)?;
    // Ends with the connection, which ends with `sender`.
    tokio::spawn(connection);
    let request = Request::get(path)
        .header("host", "baton-check")
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Finding::WrongAnswer(error.to_string()))?;
    let status = sender.send_request(request).await.map_err(wrong)?.status().as_u16();
    if wanted.contains(&status) {
        Ok(())
    } else {
        let (first, last) = (wanted.start(), wanted.end());
        Err(Finding::WrongAnswer(format!("status {status}, wanted {first} to {last}")))
    }
}

fn finding(error: &io::Error) -> Finding {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Finding::Refused,
        io::ErrorKind::TimedOut => Finding::TimedOut,
        io::ErrorKind::ConnectionReset => Finding::WrongAnswer("connection reset".into()),
        _ => Finding::Unreachable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_tcp_or_http_with_a_path() {
        assert_eq!("tcp".parse(), Ok(Check::Tcp));
        let http = Check::Http { path: "/health".into(), status: 200..=399 };
        assert_eq!("http:/health".parse(), Ok(http));
        for bad in ["", "udp", "http", "http:health", "http:/a b"] {
            assert!(bad.parse::<Check>().is_err(), "{bad}");
        }
    }
}
