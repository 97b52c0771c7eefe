//! The balancing policies by number and name.

/// How a service chooses a backend for a new flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Policy {
    /// The active backend gets all of them; no pool is consulted.
    ActiveStandby = 0,
    /// Round robin: each member in turn.
    Rr = 1,
    /// Weighted round robin: each member as often as its weight says, in an even mix.
    Wrr = 2,
    /// Least connections: the member with the fewest open flows.
    Lc = 3,
    /// Weighted least connections: the member with the fewest open flows for its weight.
    Wlc = 4,
    /// Source hashing: a client's address always leads to the same member.
    Sh = 5,
    /// Maglev hashing: a client's address and port do.
    Maglev = 6,
    /// Weighted failover: the member of the greatest weight that is not at its limit.
    Fo = 7,
    /// The less loaded, for its weight, of two random members.
    Random2 = 8,
}

impl Policy {
    /// All of them, by number.
    pub const ALL: [Self; 9] = [
        Self::ActiveStandby,
        Self::Rr,
        Self::Wrr,
        Self::Lc,
        Self::Wlc,
        Self::Sh,
        Self::Maglev,
        Self::Fo,
        Self::Random2,
    ];

    /// Stable name for configuration, metrics, JSON and people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ActiveStandby => "active-standby",
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
            Self::Sh => "sh",
            Self::Maglev => "maglev",
            Self::Fo => "fo",
            Self::Random2 => "random2",
        }
    }

    /// The policy of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }

    /// The policy of that number.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::ActiveStandby,
            1 => Self::Rr,
            2 => Self::Wrr,
            3 => Self::Lc,
            4 => Self::Wlc,
            5 => Self::Sh,
            6 => Self::Maglev,
            7 => Self::Fo,
            8 => Self::Random2,
            _ => return None,
        })
    }

    /// Whether new flows choose from a pool.
    pub const fn has_pool(self) -> bool {
        !matches!(self, Self::ActiveStandby)
    }

    /// Whether members' weights count.
    pub const fn is_weighted(self) -> bool {
        !matches!(self, Self::ActiveStandby | Self::Rr | Self::Lc)
    }

    /// Whether every choice needs the members' open flows; otherwise only members with a limit are asked.
    pub const fn needs_loads(self) -> bool {
        matches!(self, Self::Lc | Self::Wlc | Self::Random2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_found_by_its_name_and_its_number() {
        for (number, policy) in Policy::ALL.into_iter().enumerate() {
            assert_eq!(policy as usize, number);
            assert_eq!(Policy::from_number(number as u32), Some(policy));
            assert_eq!(Policy::from_name(policy.name()), Some(policy));
        }
        assert_eq!(Policy::from_number(Policy::ALL.len() as u32), None);
        assert_eq!(Policy::from_name("RR"), None);
    }
}
