//! Ethernet addresses.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a text is not an Ethernet address.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` is not an Ethernet address: write six bytes such as `02:00:00:00:00:01`")]
pub struct MacError(String);

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

/// How the addresses begin that Baton gives.
const OURS: [u8; 2] = [0x02, 0xba];

impl Mac {
    /// The address that Baton gives to the interface that carries `address`: locally administered, unicast,
    /// and different for every IPv4 address.
    ///
    /// An address that is set explicitly also keeps `systemd-udevd` from replacing it after creation.
    pub const fn local_for(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        let [first, second] = OURS;
        Self([first, second, a, b, c, d])
    }

    /// Whether Baton gives such addresses ([`Mac::local_for`]).
    pub const fn is_ours(self) -> bool {
        let [first, second, ..] = self.0;
        first == OURS[0] && second == OURS[1]
    }

    /// The six bytes, as they lie in a frame.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl From<[u8; 6]> for Mac {
    fn from(octets: [u8; 6]) -> Self {
        Self(octets)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, byte) in self.0.iter().enumerate() {
            let colon = if number == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let error = || MacError(text.to_owned());
        let bytes: Vec<u8> = text
            .split(':')
            .map(|byte| u8::from_str_radix(byte, 16).map_err(|_| error()))
            .collect::<Result<_, _>>()?;
        bytes.try_into().map(Self).map_err(|_| error())
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;

    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_the_round_trip_through_text() {
        let mac = Mac::local_for(Ipv4Addr::new(10, 77, 128, 1));
        assert_eq!(mac.to_string(), "02:ba:0a:4d:80:01");
        assert_eq!(mac.to_string().parse(), Ok(mac));
    }

    #[test]
    fn a_text_that_is_no_address_is_refused() {
        for bad in ["", "02:ba", "02:ba:0a:4d:80:01:02", "02:ba:0a:4d:80:zz"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
