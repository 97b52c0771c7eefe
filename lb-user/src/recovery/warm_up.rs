//! What came of warming a backend up.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which way the requests of a warm-up took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Through {
    /// A client's: to the VIP, and through the packet path to this backend.
    DataPath,
    /// That of checks: straight to the backend.
    Direct,
}

/// What came of a warm-up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmUp {
    /// Which way its requests took.
    pub through: Through,
    /// Requests that were answered as they should.
    pub ok: u64,
    /// The others, those that could not be sent in time among them.
    pub failed: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// What the first request that failed asked for and met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_failure: Option<String>,
}

impl WarmUp {
    /// Whether so many percent of its requests have succeeded.
    pub(super) fn reaches(&self, percent: u8) -> bool {
        let all = self.ok.saturating_add(self.failed);
        all > 0 && u128::from(self.ok) * 100 >= u128::from(all) * u128::from(percent)
    }
}

impl fmt::Display for WarmUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.through {
            Through::DataPath => "through the data path",
            Through::Direct => "straight to the backend",
        };
        let (all, seconds) = (self.ok.saturating_add(self.failed), self.took_ms as f64 / 1000.0);
        write!(f, "{} of {all} requests {way} succeeded in {seconds:.1} s", self.ok)?;
        self.first_failure.as_ref().map_or(Ok(()), |what| write!(f, "; the first that failed: {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_reached_by_whole_requests_and_by_none_of_none() {
        let of =
            |ok, failed| WarmUp { through: Through::Direct, ok, failed, took_ms: 0, first_failure: None };
        assert!(of(95, 5).reaches(95) && !of(94, 6).reaches(95));
        assert!(of(1, 0).reaches(100) && !of(0, 0).reaches(1));
        assert!(of(2, 1).reaches(66) && !of(2, 1).reaches(67));
    }
}
