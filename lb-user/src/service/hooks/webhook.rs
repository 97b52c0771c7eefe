//! Posts a document to an address of the operator's until it is taken.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{HeaderValue, USER_AGENT};
use tokio::time::{sleep, timeout};

use crate::check::TlsCheck;
use crate::post;

/// Posts JSON until a status of 2xx answers, at most `retries` times more, `wait` apart; each attempt has `limit`.
pub(super) async fn post(
    url: &str,
    trust: &TlsCheck,
    document: &[u8],
    limit: Duration,
    retries: u32,
    wait: Duration,
) -> Result<(), String> {
    let mut left = retries;
    loop {
        let attempt = timeout(limit, attempt(url, trust, document)).await;
        let late = || Err(format!("no answer within {}", humantime::format_duration(limit)));
        match attempt.unwrap_or_else(|_| late()) {
            Err(why) if left == 0 => {
                return Err(if retries > 0 { format!("{why} ({retries} retries)") } else { why });
            }
            Err(why) => tracing::debug!(url, why, "a webhook is tried again"),
            Ok(()) => return Ok(()),
        }
        left -= 1;
        sleep(wait).await;
    }
}

async fn attempt(url: &str, trust: &TlsCheck, document: &[u8]) -> Result<(), String> {
    let agent = HeaderMap::from_iter([(USER_AGENT, HeaderValue::from_static("baton-hook"))]);
    let document = Bytes::copy_from_slice(document);
    // What the body says is of no interest.
    let status = post::json(url, agent, document, trust).await?.status;
    if status.is_success() { Ok(()) } else { Err(format!("status {}", status.as_u16())) }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::net::closed_port;

    const PATIENCE: Duration = Duration::from_secs(10);
    const NO_WAIT: Duration = Duration::ZERO;

    /// A server that gives each of these answers once, and returns the requests.
    async fn serve(answers: &'static [&'static str]) -> (String, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/told?by=baton", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = String::new();
                while !request.ends_with('}') {
                    let mut bytes = [0; 1024];
                    let length = stream.read(&mut bytes).await.unwrap();
                    assert_ne!(length, 0, "the request broke off: {request}");
                    request.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
                requests.push(request);
            }
            requests
        });
        (url, served)
    }

    const NO: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    const YES: &str = "HTTP/1.1 204 No Content\r\n\r\n";

    #[tokio::test]
    async fn a_document_is_posted_until_it_is_taken() {
        let (url, served) = serve(&[NO, YES]).await;
        assert_eq!(post(&url, &TlsCheck::default(), br#"{"call":1}"#, PATIENCE, 1, NO_WAIT).await, Ok(()));
        let requests = served.await.unwrap();
        assert_eq!(requests.len(), 2);
        assert!(requests[1].starts_with("POST /told?by=baton HTTP/1.1\r\n"), "{}", requests[1]);
        assert!(requests[1].contains("content-type: application/json\r\n"), "{}", requests[1]);
        assert!(requests[1].ends_with("\r\n\r\n{\"call\":1}"), "{}", requests[1]);
    }

    #[tokio::test]
    async fn what_nobody_takes_says_why() {
        let (url, served) = serve(&[NO, NO]).await;
        let why = post(&url, &TlsCheck::default(), b"{}", PATIENCE, 1, NO_WAIT).await;
        assert_eq!(why, Err("status 503 (1 retries)".to_owned()));
        served.await.unwrap();
        let (_held, closed) = closed_port(std::net::Ipv4Addr::LOCALHOST.into());
        let url = format!("http://{closed}");
        let why = post(&url, &TlsCheck::default(), b"{}", PATIENCE, 0, NO_WAIT).await.unwrap_err();
        assert!(why.contains("refused"), "{why}");
    }

    #[tokio::test]
    async fn authorities_that_cannot_be_read_are_named() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        let trust = TlsCheck { ca_file: Some(file.clone()), ..TlsCheck::default() };
        let why = post(&url, &trust, b"{}", PATIENCE, 0, NO_WAIT).await.unwrap_err();
        assert!(why.starts_with(&format!("{}: No such file", file.display())), "{why}");
        std::fs::write(&file, "no PEM\n").unwrap();
        let why = post(&url, &trust, b"{}", PATIENCE, 0, NO_WAIT).await.unwrap_err();
        assert_eq!(why, format!("{}: there is no certificate in it: it must be PEM", file.display()));
    }

    #[tokio::test]
    async fn one_that_never_answers_is_given_up() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let why = post(&url, &TlsCheck::default(), b"{}", Duration::from_millis(50), 0, NO_WAIT).await;
        assert_eq!(why, Err("no answer within 50ms".to_owned()));
    }
}
