//! A client that speaks HTTP by hand, so that a test decides when which byte is sent and read.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use baton::net::netns::{NetnsHandle, run_in};

use super::PATIENCE;

/// A connection that carries one request after another.
pub struct Client {
    stream: TcpStream,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The backend that names itself in the headers.
    pub backend: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Client {
    /// Connects from inside a namespace.
    pub fn connect(from: &NetnsHandle, to: impl Into<SocketAddr>) -> io::Result<Self> {
        let to = to.into();
        let stream = run_in(from, || TcpStream::connect_timeout(&to, PATIENCE)).unwrap()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream })
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends a GET and leaves the answer to [`Client::read`].
    pub fn send(&mut self, path: &str) -> io::Result<()> {
        self.stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: lab\r\n\r\n").as_bytes())
    }

    /// Reads one answer.
    pub fn read(&mut self) -> io::Result<Answer> {
        let mut bytes = Vec::new();
        loop {
            if let Some(answer) = parse(&bytes) {
                return Ok(answer);
            }
            let mut more = [0; 16 << 10];
            match self.stream.read(&mut more)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => bytes.extend_from_slice(&more[..count]),
            }
        }
    }

    /// Sends a GET and reads the answer.
    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.send(path)?;
        self.read()
    }
}

/// The answer in `bytes`, once it is complete; the lab's services always say how long it is, or chunk it.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(start) = response.parse(bytes).expect("HTTP") else { return None };
    let header = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        String::from_utf8(found.value.to_vec()).ok()
    };
    let rest = &bytes[start..];
    let complete = match header("content-length") {
        Some(length) => rest.len() == length.parse::<usize>().unwrap(),
        None => rest.ends_with(b"0\r\n\r\n"),
    };
    complete.then(|| Answer {
        status: response.code.unwrap(),
        backend: header("x-baton-backend").unwrap_or_default(),
        body: rest.to_vec(),
    })
}
