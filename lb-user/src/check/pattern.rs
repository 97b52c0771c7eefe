//! What an answer must match: a regular expression over bytes, kept and shown as its text.

use std::fmt;
use std::str::FromStr;

use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A compiled pattern takes no more memory than this, in bytes.
const COMPILED_MAX: usize = 1 << 20;

/// A regular expression in the syntax of the `regex` crate, searched for anywhere in an answer's bytes.
///
/// Its time is linear in the answer's length, whatever the pattern. `(?i)` ignores case, `^` and `$` mean the
/// whole answer's ends and with `(?m)` those of lines, `(?-u)\xff` is a byte that is no text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BodyPattern(Regex);

/// Why a text is no pattern.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{text}` is no regular expression: {why}")]
pub struct PatternError {
    text: String,
    why: String,
}

impl BodyPattern {
    /// The text that it was made from.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it is found anywhere in `answer`.
    pub fn is_match(&self, answer: &[u8]) -> bool {
        self.0.is_match(answer)
    }
}

impl PartialEq for BodyPattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for BodyPattern {}

impl fmt::Display for BodyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for BodyPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let failed = |why| PatternError { text: text.to_owned(), why };
        match RegexBuilder::new(text).size_limit(COMPILED_MAX).build() {
            Ok(regex) => Ok(Self(regex)),
            Err(regex::Error::CompiledTooBig(bytes)) => {
                Err(failed(format!("compiled it takes more than {bytes} bytes; make its counts smaller")))
            }
            // The library draws the place below the pattern; its last line says what is wrong.
            Err(error) => {
                let drawn = error.to_string();
                let last = drawn.lines().last().unwrap_or_default();
                Err(failed(last.trim_start_matches("error: ").to_owned()))
            }
        }
    }
}

impl TryFrom<String> for BodyPattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<BodyPattern> for String {
    fn from(pattern: BodyPattern) -> Self {
        pattern.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_found_anywhere_and_in_any_bytes() {
        let pattern: BodyPattern = r"(?i)status:\s*up".parse().unwrap();
        assert!(pattern.is_match(b"\xff\xfe Status: UP\n"));
        assert!(!pattern.is_match(b"status: down"));
        let bytes: BodyPattern = r"^(?-u)\x00\xff".parse().unwrap();
        assert!(bytes.is_match(b"\x00\xff\x01"));
        assert!(!bytes.is_match(b" \x00\xff"));
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        let said = |text: &str| text.parse::<BodyPattern>().unwrap_err().to_string();
        assert_eq!(said("(up"), "`(up` is no regular expression: unclosed group");
        assert!(said(r"(\w{1000}){1000}").contains("make its counts smaller"));
        assert!(!said(r"a\8").contains('\n'));
    }

    proptest! {
        #[test]
        fn any_text_is_a_pattern_or_an_error_of_one_line(text in "\\PC{0,40}") {
            match text.parse::<BodyPattern>() {
                Ok(pattern) => {
                    prop_assert_eq!(pattern.as_str(), &text);
                    let json = serde_json::to_string(&pattern).unwrap();
                    prop_assert_eq!(serde_json::from_str::<BodyPattern>(&json).unwrap(), pattern);
                }
                Err(error) => prop_assert!(!error.why.is_empty() && !error.why.contains('\n')),
            }
        }

        #[test]
        fn an_escaped_text_is_found_where_it_stands(
            text in "\\PC{1,20}", before in any::<Vec<u8>>(), after in any::<Vec<u8>>()
        ) {
            let pattern: BodyPattern = regex::escape(&text).parse().unwrap();
            let answer = [&before[..], text.as_bytes(), &after].concat();
            prop_assert!(pattern.is_match(&answer));
        }
    }
}
