//! Bytes of a datagram, written as text: printable ASCII and UTF-8 stand for themselves, the rest is escaped.
//!
//! `\n`, `\r`, `\t`, `\0`, `\"`, `\'` and `\\` mean what they mean in C; `\xHH` is any byte, by two hexadecimal
//! digits.

use serde::{Deserialize, Deserializer, Serializer};
use thiserror::Error;

/// Why a text is no payload.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "`\\{0}` is no escape of a payload: use \\n, \\r, \\t, \\0, \\\\, or \\xHH with two hexadecimal digits"
)]
pub struct PayloadError(String);

/// The bytes that `text` means.
pub fn parse(text: &str) -> Result<Vec<u8>, PayloadError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let unknown = || PayloadError(escape.chars().take(3).collect());
        let (byte, length) = match escape.as_bytes().first() {
            Some(b'n') => (b'\n', 1),
            Some(b'r') => (b'\r', 1),
            Some(b't') => (b'\t', 1),
            Some(b'0') => (0, 1),
            Some(quoted @ (b'\\' | b'"' | b'\'')) => (*quoted, 1),
            Some(b'x') => {
                let digits =
                    escape.get(1..3).filter(|two| two.bytes().all(|digit| digit.is_ascii_hexdigit()));
                let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
                (byte.ok_or_else(unknown)?, 3)
            }
            _ => return Err(unknown()),
        };
        bytes.push(byte);
        rest = &escape[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// The bytes as text that [`parse`] reads back.
pub fn format(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// For serde: the bytes as their text.
pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&format(bytes))
}

/// For serde: the bytes that a text means.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(from)?;
    parse(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_mean_what_they_mean_in_c() {
        assert_eq!(parse(r"ping\n\x00\xFf\\").unwrap(), b"ping\n\x00\xff\\");
        assert_eq!(parse(r#"\0\t\r\"\'7"#).unwrap(), b"\0\t\r\"'7");
        assert_eq!(parse("grüße").unwrap(), "grüße".as_bytes());
        for bad in [r"\", r"\x", r"\x1", r"\x+1", r"\q", r"\xü", r"a\é"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(r"a\qbc").unwrap_err().to_string().starts_with(r"`\qbc` is no escape"));
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_from_their_text(bytes in any::<Vec<u8>>()) {
            prop_assert_eq!(parse(&format(&bytes)).unwrap(), bytes);
        }

        #[test]
        fn text_without_a_backslash_is_itself(text in "[^\\\\]*") {
            prop_assert_eq!(parse(&text).unwrap(), text.as_bytes());
        }

        #[test]
        fn no_text_breaks_it(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
