//! Judges the body of a response while it streams by; keeps none of it.

use super::kind::{BodyCheck, IdCheck, RequestKind};
use super::outgoing::Upload;
use super::record::Outcome;
use super::response::Head;

/// What has been seen of one body.
pub(super) struct BodySeen<'a> {
    bytes: u64,
    crc32: Option<crc32fast::Hasher>,
    id: Option<IdSearch<'a>>,
}

impl<'a> BodySeen<'a> {
    /// Watches for what `kind` checks in the response to the request `id`.
    pub(super) fn new(kind: &RequestKind, id: &'a str) -> Self {
        Self {
            bytes: 0,
            crc32: (kind.check == BodyCheck::Crc32).then(crc32fast::Hasher::new),
            id: (kind.check == BodyCheck::Id).then(|| IdSearch::new(id)),
        }
    }

    /// The next bytes of the body.
    pub(super) fn push(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        if let Some(crc32) = &mut self.crc32 {
            crc32.update(data);
        }
        if let Some(id) = &mut self.id {
            id.push(data);
        }
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Judges the complete response to the request `id`: status, then id, then body.
    pub(super) fn judge(self, kind: &RequestKind, id: &str, upload: Option<&Upload>, head: &Head) -> Outcome {
        if head.status != kind.expect {
            return Outcome::Status(head.status);
        }
        let id_is_right = match (kind.id, head.request_id.as_deref()) {
            (IdCheck::Ignored, _) | (IdCheck::IfPresent, None) => true,
            (_, echoed) => echoed == Some(id),
        };
        if !id_is_right {
            return Outcome::WrongId;
        }
        let length_is_right = kind.length.is_none_or(|length| length == self.bytes);
        if length_is_right && self.passes(kind.check, upload, head) {
            Outcome::Ok
        } else {
            Outcome::WrongBody
        }
    }

    fn passes(self, check: BodyCheck, upload: Option<&Upload>, head: &Head) -> bool {
        match check {
            BodyCheck::Any => true,
            BodyCheck::Id => self.id.is_some_and(|search| search.found),
            // An absent checksum is as wrong as a different one: the kind asked for the proof.
            BodyCheck::Crc32 => self.crc32.map(crc32fast::Hasher::finalize) == head.body_crc32,
            BodyCheck::Receipt => upload.is_some_and(|upload| {
                head.received_length == Some(upload.length) && head.received_crc32 == Some(upload.crc32)
            }),
        }
    }
}

/// Finds an id in a stream, also across the pieces in which it arrives.
struct IdSearch<'a> {
    id: &'a [u8],
    /// The end of what was seen, shorter than the id.
    tail: Vec<u8>,
    found: bool,
}

impl<'a> IdSearch<'a> {
    fn new(id: &'a str) -> Self {
        Self { id: id.as_bytes(), tail: Vec::new(), found: false }
    }

    fn push(&mut self, data: &[u8]) {
        if self.found {
            return;
        }
        self.tail.extend_from_slice(data);
        self.found = self.tail.windows(self.id.len()).any(|window| window == self.id);
        let keep_from = self.tail.len().saturating_sub(self.id.len() - 1);
        self.tail.drain(..keep_from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "run-17";

    fn judge(spec: &str, pieces: &[&str], head: &Head) -> Outcome {
        let kind: RequestKind = format!("name=x,{spec}").parse().unwrap();
        let upload = kind.upload.map(Upload::new);
        let mut seen = BodySeen::new(&kind, ID);
        for piece in pieces {
            seen.push(piece.as_bytes());
        }
        seen.judge(&kind, ID, upload.as_ref(), head)
    }

    fn head(status: u16) -> Head {
        Head { status, ..Head::default() }
    }

    #[test]
    fn another_status_than_the_expected_one_is_a_failure_also_if_it_is_200() {
        assert_eq!(judge("expect=404", &[], &head(404)), Outcome::Ok);
        assert_eq!(judge("expect=404", &[], &head(200)), Outcome::Status(200));
    }

    #[test]
    fn an_id_must_be_the_right_one_and_may_be_required() {
        let echo = |id: &str| Head { request_id: Some(id.to_owned()), ..head(200) };
        assert_eq!(judge("id=present", &[], &echo(ID)), Outcome::Ok);
        assert_eq!(judge("id=present", &[], &echo("run-18")), Outcome::WrongId);
        assert_eq!(judge("id=present", &[], &head(200)), Outcome::Ok);
        assert_eq!(judge("id=required", &[], &head(200)), Outcome::WrongId);
        assert_eq!(judge("id=ignored", &[], &echo("run-18")), Outcome::Ok);
    }

    #[test]
    fn a_body_is_checked_by_length_checksum_and_id() {
        let summed = Head { body_crc32: Some(0x3610_a686), ..head(200) };
        assert_eq!(judge("length=5,check=crc32", &["he", "llo"], &summed), Outcome::Ok);
        assert_eq!(judge("length=6", &["he", "llo"], &summed), Outcome::WrongBody);
        assert_eq!(judge("check=crc32", &["hellO"], &summed), Outcome::WrongBody);
        assert_eq!(judge("check=crc32", &["hello"], &head(200)), Outcome::WrongBody);
        assert_eq!(judge("check=id", &["your id: ru", "n-", "17."], &head(200)), Outcome::Ok);
        assert_eq!(judge("check=id", &["run-1"], &head(200)), Outcome::WrongBody);
    }

    #[test]
    fn an_upload_is_right_if_the_server_received_all_of_it() {
        let upload = Upload::new(1000);
        let receipt =
            |length, crc32| Head { received_length: Some(length), received_crc32: Some(crc32), ..head(200) };
        assert_eq!(judge("upload=1000,check=receipt", &[], &receipt(1000, upload.crc32)), Outcome::Ok);
        assert_eq!(judge("upload=1000,check=receipt", &[], &receipt(999, upload.crc32)), Outcome::WrongBody);
        assert_eq!(judge("upload=1000,check=receipt", &[], &head(200)), Outcome::WrongBody);
    }
}
