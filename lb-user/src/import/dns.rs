//! A question of DNS as a payload of a UDP check, and the answers to it that pass.

/// What begins an answer to [`query`]: the same id, an answer, and no error.
pub(super) const ANSWER: &str =
    r"(?s-u)^Bt[\x80-\xff][\x00\x10\x20\x30\x40\x50\x60\x70\x80\x90\xa0\xb0\xc0\xd0\xe0\xf0]";

/// The message that asks for records of `kind` of `name` (RFC 1035, section 4); `None` if there is no such
/// kind or the name is none.
pub(super) fn query(name: &str, kind: &str) -> Option<Vec<u8>> {
    let kind: u16 = match kind.to_ascii_uppercase().as_str() {
        "A" => 1,
        "NS" => 2,
        "CNAME" => 5,
        "SOA" => 6,
        "PTR" => 12,
        "MX" => 15,
        "TXT" => 16,
        "AAAA" => 28,
        _ => return None,
    };
    // Id, "recursion desired", one question.
    let mut message = b"Bt\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    for label in name.trim_end_matches('.').split('.').filter(|_| name != ".") {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        message.push(length);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    (name.len() <= 253 && name.is_ascii()).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::BodyPattern;

    #[test]
    fn a_question_is_asked_as_the_standard_says() {
        let asked = query("x.example", "a").unwrap();
        assert_eq!(asked[12..], *b"\x01x\x07example\x00\x00\x01\x00\x01");
        assert_eq!(query(".", "SOA").unwrap()[12..], *b"\x00\x00\x06\x00\x01");
        assert!(query("x", "SRVX").is_none() && query("a..b", "A").is_none());
        assert!(query(&"a".repeat(64), "A").is_none());
    }

    #[test]
    fn only_an_answer_without_error_passes() {
        let pattern: BodyPattern = ANSWER.parse().unwrap();
        assert!(pattern.is_match(b"Bt\x81\x80\x00\x01"));
        assert!(!pattern.is_match(b"Bt\x81\x83\x00\x01"), "no such name");
        assert!(!pattern.is_match(b"Bt\x01\x00\x00\x01"), "the question itself");
        assert!(!pattern.is_match(b"Bu\x81\x80\x00\x01"), "the answer to another question");
    }
}
