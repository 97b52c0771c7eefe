//! Names of services and backends, checked once where they enter.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest name that still fits, with its prefix, everywhere a name is used.
const NAME_MAX: usize = 32;

/// Why a text is not a name.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` is not a name: use 1 to {NAME_MAX} of a-z, 0-9 and `-`, starting with a letter")]
pub struct NameError(String);

/// The name of a service: 1 to 32 of `a-z`, `0-9` and `-`, starting with a letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

/// The name of a backend within its service, such as `a` or `b`; same rules as [`ServiceName`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackendName(String);

/// The name of a data plane that services share; same rules as [`ServiceName`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PlaneName(String);

fn checked(text: &str) -> Result<String, NameError> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let first_is_letter = text.starts_with(|c: char| c.is_ascii_lowercase());
    if first_is_letter && text.len() <= NAME_MAX && text.chars().all(legal) {
        Ok(text.to_owned())
    } else {
        Err(NameError(text.to_owned()))
    }
}

macro_rules! name_type {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                checked(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                checked(&text).map(Self)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name_type!(ServiceName);
name_type!(BackendName);
name_type!(PlaneName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_lower_case_and_starts_with_a_letter() {
        assert!("web-1".parse::<ServiceName>().is_ok());
        for bad in ["", "1web", "-web", "Web", "we b", "a/b", "..", &"a".repeat(33)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad}");
        }
    }
}
