//! Takes the body out of a response's bytes: by length, in chunks, or until the connection closes.
//!
//! Sans-IO: bytes are pushed in as they arrive, in pieces of any size, and the body comes out in order.
//! Nothing of the body is kept, so memory does not grow with it.

/// Longest line of a chunk's size or trailer; no server needs more.
const MAX_LINE: usize = 8192;
const MAX_TRAILER_LINES: u32 = 100;

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
    /// The connection's end.
    UntilClose,
}

/// The bytes are not a body of the announced framing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadFraming;

/// Decodes one body.
#[derive(Debug)]
pub(super) struct BodyDecoder {
    state: State,
    line: Vec<u8>,
    trailer_lines: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    ChunkSize,
    ChunkData(u64),
    /// The line end after a chunk's data.
    ChunkEnd,
    Trailer,
    Done,
}

impl BodyDecoder {
    pub(super) fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkSize,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, line: Vec::new(), trailer_lines: 0 }
    }

    /// Whether the body is complete.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the connection's end completes the body.
    pub(super) fn ends_with_connection(&self) -> bool {
        matches!(self.state, State::Done | State::UntilClose)
    }

    /// Decodes `input` into `body` and returns how many bytes belonged to this response.
    pub(super) fn push(&mut self, input: &[u8], body: &mut impl FnMut(&[u8])) -> Result<usize, BadFraming> {
        let mut rest = input;
        while !rest.is_empty() && !self.is_done() {
            rest = match self.state {
                State::UntilClose => {
                    body(rest);
                    &[]
                }
                State::Length(left) => {
                    let (data, after) = split_at_most(rest, left);
                    body(data);
                    self.state = match left - data.len() as u64 {
                        0 => State::Done,
                        left => State::Length(left),
                    };
                    after
                }
                State::ChunkData(left) => {
                    let (data, after) = split_at_most(rest, left);
                    body(data);
                    self.state = match left - data.len() as u64 {
                        0 => State::ChunkEnd,
                        left => State::ChunkData(left),
                    };
                    after
                }
                State::ChunkSize | State::ChunkEnd | State::Trailer => self.push_line(rest)?,
                State::Done => rest,
            };
        }
        Ok(input.len() - rest.len())
    }

    /// Collects a line and, once it is whole, acts on it.
    fn push_line<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], BadFraming> {
        let end = input.iter().position(|&byte| byte == b'\n');
        let (part, rest) = input.split_at(end.map_or(input.len(), |end| end + 1));
        self.line.extend_from_slice(part);
        if self.line.len() > MAX_LINE {
            return Err(BadFraming);
        }
        if end.is_some() {
            let line = std::mem::take(&mut self.line);
            self.state = self.after_line(line.trim_ascii_end())?;
        }
        Ok(rest)
    }

    fn after_line(&mut self, line: &[u8]) -> Result<State, BadFraming> {
        match self.state {
            State::ChunkSize => match chunk_size(line)? {
                0 => Ok(State::Trailer),
                size => Ok(State::ChunkData(size)),
            },
            State::ChunkEnd if line.is_empty() => Ok(State::ChunkSize),
            State::Trailer if line.is_empty() => Ok(State::Done),
            State::Trailer if self.trailer_lines < MAX_TRAILER_LINES => {
                self.trailer_lines += 1;
                Ok(State::Trailer)
            }
            _ => Err(BadFraming),
        }
    }
}

fn split_at_most(input: &[u8], most: u64) -> (&[u8], &[u8]) {
    input.split_at(usize::try_from(most).map_or(input.len(), |most| most.min(input.len())))
}

/// The size at the start of a chunk's line; extensions after `;` say nothing that matters here.
fn chunk_size(line: &[u8]) -> Result<u64, BadFraming> {
    let digits = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii_end();
    // `from_str_radix` would allow a sign.
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(BadFraming);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| BadFraming)?;
    u64::from_str_radix(digits, 16).map_err(|_| BadFraming)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Pushes `input` in pieces of `step` bytes; returns the body, the bytes used and whether it is done.
    fn decode(framing: Framing, input: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), BadFraming> {
        let mut decoder = BodyDecoder::new(framing);
        let (mut body, mut used) = (Vec::new(), 0);
        for piece in input.chunks(step) {
            used += decoder.push(piece, &mut |data| body.extend_from_slice(data))?;
        }
        Ok((body, used, decoder.is_done()))
    }

    #[test]
    fn chunks_extensions_and_trailers_are_understood_however_they_arrive() {
        let input = b"4;x=y\r\nWiki\r\nA\r\n0123456789\r\n0\r\nt: 1\r\n\r\nnext";
        for step in 1..input.len() {
            let decoded = decode(Framing::Chunked, input, step);
            assert_eq!(decoded, Ok((b"Wiki0123456789".to_vec(), input.len() - 4, true)), "step {step}");
        }
    }

    #[test]
    fn bytes_after_a_length_are_left_over() {
        assert_eq!(decode(Framing::Length(3), b"abcdef", 6), Ok((b"abc".to_vec(), 3, true)));
        assert_eq!(decode(Framing::Length(0), b"abc", 3), Ok((Vec::new(), 0, true)));
        assert_eq!(decode(Framing::Length(9), b"abc", 1), Ok((b"abc".to_vec(), 3, false)));
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for bad in [&b"x\r\n"[..], b"\r\n", b"+4\r\nabcd", b"4\r\nabcde\r\n", b"11111111111111111\r\n"] {
            assert_eq!(decode(Framing::Chunked, bad, 1), Err(BadFraming));
        }
        assert_eq!(decode(Framing::Chunked, &[b'0'; MAX_LINE + 1], 100), Err(BadFraming));
    }

    proptest! {
        #[test]
        fn any_body_in_any_chunks_and_pieces_comes_out_as_it_was(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8), step in 1usize..50,
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(decode(Framing::Chunked, &wire, step), Ok((chunks.concat(), wire.len(), true)));
        }
    }
}
