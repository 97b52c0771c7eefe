//! One request and its response over an open connection.
//!
//! Sending and receiving go on at the same time: a server may answer before it has read everything, and a
//! server that dies may have answered before sending to it fails.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::body::BodySeen;
use super::outgoing::Upload;
use super::record::{Outcome, Record};
use super::response::ResponseReader;

/// Room for one read; large bodies stream through it.
const READ_BYTES: usize = 16 * 1024;

/// How the bytes of a response ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// The response is complete.
    Complete {
        /// Whether all of the request was sent, without which the connection cannot carry another.
        sent: bool,
    },
    /// It is not; this is why.
    Broken(Outcome),
}

/// The connection's end or its error, seen while receiving.
enum Received {
    Complete,
    Eof,
    Failed(io::Error),
    Malformed,
}

/// Sends `head` and `upload` and receives into `reader` and `body`, noting times and sizes in `record`.
///
/// Has no deadline of its own: the caller drops it when the request's time is over, and `record` then holds
/// what was reached.
pub(super) async fn exchange(
    stream: &mut TcpStream,
    (head, upload): (&[u8], Option<&Upload>),
    (reader, body): (&mut ResponseReader<'_>, &mut BodySeen<'_>),
    record: &mut Record,
    now_us: impl Fn() -> u64,
) -> Ending {
    let (mut from_server, mut to_server) = stream.split();
    let send = async {
        to_server.write_all(head).await?;
        for block in upload.into_iter().flat_map(|upload| upload.blocks()) {
            to_server.write_all(block).await?;
        }
        io::Result::Ok(())
    };
    let receive = async {
        let mut bytes = Vec::with_capacity(READ_BYTES);
        loop {
            bytes.clear();
            match from_server.read_buf(&mut bytes).await {
                Ok(0) if reader.ends_with_connection() => return Received::Complete,
                Ok(0) => return Received::Eof,
                Ok(_) => {}
                Err(error) => return Received::Failed(error),
            }
            record.first_byte_us.get_or_insert_with(&now_us);
            let pushed = reader.push(&bytes, &mut |data| body.push(data));
            record.body_bytes = body.bytes();
            if let (None, Some(head)) = (record.status, reader.head()) {
                record.status = Some(head.status);
                record.backend = head.backend.as_deref().map(Arc::from);
            }
            match pushed {
                Ok(true) => return Received::Complete,
                Ok(false) => {}
                Err(_) => return Received::Malformed,
            }
        }
    };
    let (received, sent) = both(send, receive).await;
    let has_begun = record.first_byte_us.is_some();
    match (received, sent) {
        (Received::Complete, sent) => Ending::Complete { sent: matches!(sent, Some(Ok(()))) },
        (Received::Malformed, _) => Ending::Broken(Outcome::Malformed),
        // The kernel tells of a reset once: if sending met it, receiving sees a mere end.
        (Received::Failed(error), _) | (Received::Eof, Some(Err(error))) => {
            Ending::Broken(broken_by(&error, has_begun))
        }
        (Received::Eof, _) if has_begun => Ending::Broken(Outcome::EofMidResponse),
        (Received::Eof, _) => Ending::Broken(Outcome::EofBeforeFirstByte),
    }
}

/// Drives both until the response is over; the request may then be sent, have failed or not be over.
async fn both(
    send: impl Future<Output = io::Result<()>>,
    receive: impl Future<Output = Received>,
) -> (Received, Option<io::Result<()>>) {
    tokio::pin!(send, receive);
    let mut sent = None;
    loop {
        tokio::select! {
            biased;
            result = &mut send, if sent.is_none() => sent = Some(result),
            received = &mut receive => return (received, sent),
        }
    }
}

/// What an error of an established connection means, by whether the response has begun.
fn broken_by(error: &io::Error, has_begun: bool) -> Outcome {
    match (error.kind(), has_begun) {
        (io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe, false) => Outcome::ResetBeforeFirstByte,
        (io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe, true) => Outcome::ResetMidResponse,
        // The kernel gave up on a peer that no longer acknowledges.
        (io::ErrorKind::TimedOut, _) => Outcome::Timeout,
        _ => Outcome::Io(error.raw_os_error().unwrap_or_default()),
    }
}
