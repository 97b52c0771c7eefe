//! The bodies of answers: at once, computed as they are sent, or slowly.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// Length of the pattern that large bodies repeat; a prime, so that a lost or doubled page shows.
const PATTERN_BYTES: usize = 8191;
/// Distance between the pieces of a slow body.
const TRICKLE_EVERY: Duration = Duration::from_millis(100);
const TRICKLE_PIECE: &[u8] = b"still working\n";

/// The body of an answer.
pub(crate) enum Reply {
    /// All at once.
    Whole(Bytes),
    /// The pattern, over and over.
    Pattern {
        /// One length of the pattern.
        piece: Bytes,
        /// Bytes that are still to be sent.
        left_bytes: u64,
    },
    /// A piece every tenth of a second.
    Trickle {
        /// Runs until the next piece.
        pause: Pin<Box<Sleep>>,
        /// Pieces that are still to be sent.
        left: u64,
    },
}

impl Reply {
    /// A text.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Whole(Bytes::from(text.into()))
    }

    /// `bytes` of the pattern.
    pub(crate) fn pattern(bytes: u64) -> Self {
        let piece: Vec<u8> = (0..PATTERN_BYTES).map(|at| (at * 7 + at / 256) as u8).collect();
        Self::Pattern { piece: piece.into(), left_bytes: bytes }
    }

    /// A body that takes about `time` to send, at least one pause.
    pub(crate) fn trickle(time: Duration) -> Self {
        let left = (time.as_millis() / TRICKLE_EVERY.as_millis()).max(1) as u64;
        Self::Trickle { pause: Box::pin(sleep(TRICKLE_EVERY)), left }
    }

    /// CRC-32 of all that is still to be sent.
    pub(crate) fn crc32(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        match self {
            Self::Whole(bytes) => hasher.update(bytes),
            Self::Pattern { piece, left_bytes } => {
                let mut left_bytes = *left_bytes;
                while left_bytes > 0 {
                    let part = pattern_part(piece, left_bytes);
                    hasher.update(&part);
                    left_bytes -= part.len() as u64;
                }
            }
            Self::Trickle { left, .. } => (0..*left).for_each(|_| hasher.update(TRICKLE_PIECE)),
        }
        hasher.finalize()
    }

    /// Bytes that are still to be sent.
    fn left_bytes(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Pattern { left_bytes, .. } => *left_bytes,
            Self::Trickle { left, .. } => left * TRICKLE_PIECE.len() as u64,
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let reply = self.get_mut();
        if reply.left_bytes() == 0 {
            return Poll::Ready(None);
        }
        let part = match reply {
            Self::Whole(bytes) => std::mem::take(bytes),
            Self::Pattern { piece, left_bytes } => {
                let part = pattern_part(piece, *left_bytes);
                *left_bytes -= part.len() as u64;
                part
            }
            Self::Trickle { pause, left } => {
                ready!(pause.as_mut().poll(context));
                let next = pause.deadline() + TRICKLE_EVERY;
                pause.as_mut().reset(next);
                *left -= 1;
                Bytes::from_static(TRICKLE_PIECE)
            }
        };
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.left_bytes() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left_bytes())
    }
}

fn pattern_part(piece: &Bytes, left_bytes: u64) -> Bytes {
    piece.slice(..piece.len().min(usize::try_from(left_bytes).unwrap_or(usize::MAX)))
}
