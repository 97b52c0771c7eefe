//! The bytes of a request: everything that does not change from request to request is made once a kind.

use super::kind::RequestKind;
use super::plan::Plan;

const BLOCK_BYTES: usize = 16 * 1024;
/// What uploads consist of, repeated; no byte equals its neighbour, so that a shift shows in the checksum.
static BLOCK: [u8; BLOCK_BYTES] = pattern();

/// A body to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Upload {
    /// Bytes.
    pub(super) length: u64,
    /// CRC-32 of all of them.
    pub(super) crc32: u32,
}

impl Upload {
    /// A body of `length` bytes.
    pub(super) fn new(length: u64) -> Self {
        let mut crc32 = crc32fast::Hasher::new();
        blocks(length).for_each(|block| crc32.update(block));
        Self { length, crc32: crc32.finalize() }
    }

    /// The body, piece by piece.
    pub(super) fn blocks(self) -> impl Iterator<Item = &'static [u8]> {
        blocks(self.length)
    }
}

/// The requests of one kind.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// From the request line to where the id begins.
    before_id: String,
    /// From where the id ends to the `Connection` header.
    after_id: String,
    upload: Option<Upload>,
}

impl Outgoing {
    pub(super) fn new(plan: &Plan, kind: &RequestKind) -> Self {
        let RequestKind { method, path, .. } = kind;
        let before_id = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nuser-agent: baton-load/{}\r\naccept: */*\r\nx-request-id: ",
            plan.host,
            env!("CARGO_PKG_VERSION"),
        );
        let upload = kind.upload.map(Upload::new);
        let mut after_id = "\r\n".to_owned();
        if let Some(upload) = upload {
            after_id = format!(
                "\r\ncontent-type: application/octet-stream\r\ncontent-length: {}\r\nx-body-crc32: {:08x}\r\n",
                upload.length, upload.crc32
            );
        } else if matches!(method.as_str(), "POST" | "PUT" | "PATCH") {
            // Servers may refuse a method that usually has a body if nothing says that it is empty.
            after_id += "content-length: 0\r\n";
        }
        Self { before_id, after_id, upload }
    }

    /// The head of the request `id`; `close` asks the server to close the connection after its response.
    pub(super) fn head(&self, id: &str, close: bool) -> Vec<u8> {
        let connection = if close { "connection: close\r\n\r\n" } else { "connection: keep-alive\r\n\r\n" };
        [self.before_id.as_str(), id, &self.after_id, connection].concat().into_bytes()
    }

    /// The body, if there is one.
    pub(super) fn upload(&self) -> Option<&Upload> {
        self.upload.as_ref()
    }
}

fn blocks(length: u64) -> impl Iterator<Item = &'static [u8]> {
    let whole = std::iter::repeat_n(&BLOCK[..], (length / BLOCK_BYTES as u64) as usize);
    whole.chain(std::iter::once(&BLOCK[..(length % BLOCK_BYTES as u64) as usize]))
}

const fn pattern() -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    let mut at = 0;
    while at < BLOCK_BYTES {
        // The second term sets the repetitions of the first apart from each other.
        block[at] = ((at * 131 + at / 251) & 0xff) as u8;
        at += 1;
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_what_http_says() {
        let mut plan = Plan::new(([10, 77, 0, 1], 8080).into());
        plan.kinds = vec!["name=up,path=/up?x=1,upload=20000,method=PUT".parse().unwrap()];
        let outgoing = Outgoing::new(&plan, &plan.kinds[0]);
        let head = String::from_utf8(outgoing.head("run-5", true)).unwrap();
        assert!(head.starts_with("PUT /up?x=1 HTTP/1.1\r\nhost: 10.77.0.1:8080\r\n"), "{head}");
        assert!(head.contains("\r\nx-request-id: run-5\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-length: 20000\r\n"), "{head}");
        assert!(head.ends_with("\r\nconnection: close\r\n\r\n"), "{head}");
    }

    #[test]
    fn an_upload_has_the_length_and_checksum_it_announces() {
        for length in [0, 1, BLOCK_BYTES as u64, 100_000] {
            let upload = Upload::new(length);
            let body: Vec<u8> = upload.blocks().flatten().copied().collect();
            assert_eq!(body.len() as u64, length);
            assert_eq!(crc32fast::hash(&body), upload.crc32);
        }
    }
}
