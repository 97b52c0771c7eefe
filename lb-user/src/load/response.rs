//! Reads one HTTP/1 response out of bytes as they arrive.
//!
//! Sans-IO: it is told of bytes and of the connection's end, and says whether the response is complete.
//! Interim responses (status 1xx) are skipped.

use super::framing::{BadFraming, BodyDecoder, Framing};

/// A head longer than this is no head; it also bounds what one connection can make this side keep.
const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;

/// What the head of a response says, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    /// Whether the server will take another request on this connection.
    pub(super) keep_alive: bool,
    pub(super) request_id: Option<String>,
    pub(super) backend: Option<String>,
    pub(super) body_crc32: Option<u32>,
    pub(super) received_length: Option<u64>,
    pub(super) received_crc32: Option<u32>,
}

/// The bytes are not an HTTP/1 response.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl From<BadFraming> for Malformed {
    fn from(_: BadFraming) -> Self {
        Self
    }
}

/// Reads the response to one request.
#[derive(Debug)]
pub(super) struct ResponseReader<'a> {
    backend_header: &'a str,
    /// The response to `HEAD` has no body, whatever its headers announce.
    bodiless: bool,
    /// Bytes of a head that is not complete yet.
    pending: Vec<u8>,
    head: Option<Head>,
    decoder: BodyDecoder,
    left_over: bool,
}

impl<'a> ResponseReader<'a> {
    /// A reader for the response to a request with this method.
    pub(super) fn new(method: &str, backend_header: &'a str) -> Self {
        Self {
            backend_header,
            bodiless: method == "HEAD",
            pending: Vec::new(),
            head: None,
            decoder: BodyDecoder::new(Framing::UntilClose),
            left_over: false,
        }
    }

    /// The head, once it is complete.
    pub(super) fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Whether the connection can carry another request after this response.
    pub(super) fn is_reusable(&self) -> bool {
        let keep_alive = self.head.as_ref().is_some_and(|head| head.keep_alive);
        keep_alive && self.decoder.is_done() && !self.left_over
    }

    /// Takes bytes in, gives those of the body to `body`, and says whether the response is complete.
    pub(super) fn push(&mut self, input: &[u8], body: &mut impl FnMut(&[u8])) -> Result<bool, Malformed> {
        if self.head.is_some() {
            return self.push_body(input, body);
        }
        self.pending.extend_from_slice(input);
        while self.head.is_none() {
            let Some(length) = self.parse_head()? else { return Ok(false) };
            self.pending.drain(..length);
        }
        let rest = std::mem::take(&mut self.pending);
        self.push_body(&rest, body)
    }

    /// Whether the connection's end here completes the response.
    pub(super) fn ends_with_connection(&self) -> bool {
        self.head.is_some() && self.decoder.ends_with_connection()
    }

    fn push_body(&mut self, input: &[u8], body: &mut impl FnMut(&[u8])) -> Result<bool, Malformed> {
        let used = self.decoder.push(input, body)?;
        self.left_over |= used < input.len();
        Ok(self.decoder.is_done())
    }

    /// Parses the head at the start of the pending bytes; returns its length if it is all there.
    fn parse_head(&mut self) -> Result<Option<usize>, Malformed> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(&self.pending).map_err(|_| Malformed)? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial if self.pending.len() > MAX_HEAD_BYTES => return Err(Malformed),
            httparse::Status::Partial => return Ok(None),
        };
        let status = response.code.ok_or(Malformed)?;
        if (100..200).contains(&status) && status != 101 {
            return Ok(Some(length));
        }
        let fields = Fields::read(response.headers, self.backend_header, response.version == Some(1))?;
        let bodiless = self.bodiless || matches!(status, 204 | 304);
        self.decoder = BodyDecoder::new(if bodiless { Framing::Length(0) } else { fields.framing });
        self.head = Some(Head { status, ..fields.head });
        Ok(Some(length))
    }
}

/// What the header fields say.
struct Fields {
    head: Head,
    framing: Framing,
}

impl Fields {
    /// Framing by RFC 9112, section 6.3.
    fn read(headers: &[httparse::Header<'_>], backend: &str, is_http11: bool) -> Result<Self, Malformed> {
        let mut head = Head { keep_alive: is_http11, ..Head::default() };
        let (mut length, mut coding) = (None, None);
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            let value = std::str::from_utf8(header.value).unwrap_or_default().trim();
            if is("content-length") {
                let announced = value.parse::<u64>().map_err(|_| Malformed)?;
                if length.replace(announced).is_some_and(|before| before != announced) {
                    return Err(Malformed);
                }
            } else if is("transfer-encoding") {
                coding = Some(value);
            } else if is("connection") {
                let says = |word: &str| value.split(',').any(|token| token.trim().eq_ignore_ascii_case(word));
                head.keep_alive = !says("close") && (is_http11 || says("keep-alive"));
            } else if is("x-request-id") {
                head.request_id = Some(value.to_owned());
            } else if is("x-body-crc32") {
                head.body_crc32 = u32::from_str_radix(value, 16).ok();
            } else if is("x-received-length") {
                head.received_length = value.parse().ok();
            } else if is("x-received-crc32") {
                head.received_crc32 = u32::from_str_radix(value, 16).ok();
            }
            // Not part of the chain: a user may name any header, one of the above included.
            if is(backend) {
                head.backend = Some(value.to_owned());
            }
        }
        let framing = match (coding, length) {
            (Some(coding), _) if coding.to_ascii_lowercase().ends_with("chunked") => Framing::Chunked,
            (Some(_), _) | (None, None) => Framing::UntilClose,
            (None, Some(length)) => Framing::Length(length),
        };
        Ok(Self { head, framing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes `wire` in pieces of `step` bytes; returns the reader, the body and whether it is complete.
    fn read(
        method: &str,
        wire: &str,
        step: usize,
    ) -> Result<(ResponseReader<'static>, String, bool), Malformed> {
        let mut reader = ResponseReader::new(method, "x-baton-backend");
        let (mut body, mut done) = (Vec::new(), false);
        for piece in wire.as_bytes().chunks(step) {
            done = reader.push(piece, &mut |data| body.extend_from_slice(data))?;
        }
        Ok((reader, String::from_utf8(body).unwrap(), done))
    }

    #[test]
    fn a_response_is_read_however_it_arrives() {
        let wire = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX-Request-Id: r-1\r\nX-Baton-Backend: a\r\n\
                    Content-Length: 5\r\nx-body-crc32: 3610a686\r\nX-Received-Length: 7\r\n\r\nhello";
        for step in 1..=wire.len() {
            let (reader, body, done) = read("GET", wire, step).unwrap();
            let head = reader.head().unwrap();
            assert!(done && reader.is_reusable(), "step {step}");
            assert_eq!((head.status, body.as_str()), (200, "hello"));
            assert_eq!((head.request_id.as_deref(), head.backend.as_deref()), (Some("r-1"), Some("a")));
            assert_eq!((head.body_crc32, head.received_length), (Some(0x3610_a686), Some(7)));
        }
    }

    #[test]
    fn a_body_without_length_ends_with_the_connection_only() {
        let (reader, body, done) = read("GET", "HTTP/1.1 200 OK\r\n\r\nabc", 100).unwrap();
        assert!(!done && reader.ends_with_connection() && !reader.is_reusable());
        assert_eq!(body, "abc");
        let (reader, ..) = read("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", 100).unwrap();
        assert!(!reader.ends_with_connection());
        let (reader, ..) = read("GET", "HTTP/1.1 200 OK\r\nConte", 100).unwrap();
        assert!(!reader.ends_with_connection());
    }

    #[test]
    fn head_and_no_content_have_no_body() {
        let (_, _, done) = read("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 100).unwrap();
        assert!(done);
        let (_, _, done) = read("GET", "HTTP/1.1 204 No Content\r\n\r\n", 100).unwrap();
        assert!(done);
    }

    #[test]
    fn a_connection_is_reused_only_if_both_sides_know_where_the_response_ends() {
        let reusable = |wire: &str| read("GET", wire, 1000).unwrap().0.is_reusable();
        assert!(reusable("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
        assert!(reusable("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n"));
        assert!(!reusable("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"));
        assert!(!reusable("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"));
        assert!(!reusable("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nmore"));
        assert!(!reusable("HTTP/1.1 200 OK\r\n\r\n"));
    }

    #[test]
    fn what_is_no_response_is_refused() {
        let two_lengths = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n";
        for bad in ["SSH-2.0-OpenSSH\r\n", two_lengths, "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"] {
            assert_eq!(read("GET", bad, 1000).err(), Some(Malformed), "{bad}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(MAX_HEAD_BYTES));
        assert_eq!(read("GET", &endless, 1000).err(), Some(Malformed));
    }
}
