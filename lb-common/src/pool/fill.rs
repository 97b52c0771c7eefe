//! Building a pool, in user space, from the backends that may get new flows.

use core::fmt;

use super::{LIMITED, MEMBERS_MAX, Member, POINT, Policy, Pool, Slot, maglev, rounds};
use crate::BACKENDS_MAX;
use crate::endpoint::Endpoint;
use crate::steer::{BackendId, NO_BACKEND};

/// A backend that may become a member of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The backend: 1 to [`BACKENDS_MAX`], exclusive.
    pub backend: BackendId,
    /// Its share in proportion to others'; 0 if it gets no new flows.
    pub weight: u16,
    /// Open flows from which on it gets no new ones; 0 if there is no limit.
    pub limit: u32,
    /// What stays the same of it when ids change or other backends come and go, such as [`identity_of`] its
    /// endpoint: the hashing policies lead flows by it.
    pub identity: u64,
}

/// A backend's identity by where it listens; the same on every machine and in every run.
pub fn identity_of(endpoint: &Endpoint) -> u64 {
    let [a, b, c, d] = endpoint.address().words().map(u32::from_be);
    let port = u16::from_be(endpoint.wire_port());
    let words = [a, b, c, d, u32::from(port) << 8 | u32::from(endpoint.protocol())];
    words.into_iter().fold(0, |identity, word| mix(identity ^ u64::from(word)))
}

/// Spreads a number over 64 bits, one to one (the finaliser of splitmix64).
pub(super) const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Why a pool cannot be built; it stays as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// More candidates with weight than [`MEMBERS_MAX`].
    TooMany,
    /// A backend id that no backend can have.
    BackendOutOfRange(BackendId),
    /// A backend that is named twice.
    BackendTwice(BackendId),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => write!(f, "a pool holds at most {MEMBERS_MAX} backends with weight"),
            Self::BackendOutOfRange(id) => {
                write!(f, "backend id {id} is not between 1 and {}", BACKENDS_MAX - 1)
            }
            Self::BackendTwice(id) => write!(f, "backend id {id} is in the pool twice"),
        }
    }
}

impl core::error::Error for Unfit {}

impl Pool {
    /// Makes this the pool of these candidates for a policy; those without weight are left out.
    pub fn fill(&mut self, policy: Policy, candidates: &[Candidate]) -> Result<(), Unfit> {
        let (mut chosen, len) = with_weight(candidates)?;
        let chosen = &mut chosen[..len];
        if matches!(policy, Policy::Fo) {
            chosen.sort_unstable_by_key(|one| (u16::MAX - one.weight, one.identity, one.backend));
        } else {
            chosen.sort_unstable_by_key(|one| (one.identity, one.backend));
        }
        *self = Self { policy: policy as u32, len: len as u32, ..Self::EMPTY };
        for (member, one) in self.members.iter_mut().zip(&*chosen) {
            let weight = if policy.is_weighted() { one.weight } else { 1 };
            let limit = if one.limit == 0 { Member::UNLIMITED } else { one.limit };
            *member = Member { backend: one.backend, weight, limit };
            self.flags |= if one.limit == 0 { 0 } else { LIMITED };
        }
        let members = &self.members[..len];
        let period = match policy {
            Policy::ActiveStandby | Policy::Fo => 0,
            Policy::Sh | Policy::Maglev => maglev::populate(&mut self.table, members, chosen),
            _ => rounds::populate(&mut self.table, members),
        };
        self.set_period(period);
        Ok(())
    }

    /// Notes the number of slots in use, 0 to the length of the table.
    pub(super) fn set_period(&mut self, period: u32) {
        self.period = period;
        self.reciprocal = (1u64 << POINT).div_ceil(u64::from(period.max(1)));
    }
}

/// The candidates that can become members, and how many those are.
fn with_weight(candidates: &[Candidate]) -> Result<([Candidate; MEMBERS_MAX], usize), Unfit> {
    let mut chosen = [Candidate { backend: NO_BACKEND, weight: 0, limit: 0, identity: 0 }; MEMBERS_MAX];
    let mut len = 0;
    for one in candidates {
        if one.backend == NO_BACKEND || u32::from(one.backend) >= BACKENDS_MAX {
            return Err(Unfit::BackendOutOfRange(one.backend));
        }
        if one.weight == 0 {
            continue;
        }
        if chosen[..len].iter().any(|other| other.backend == one.backend) {
            return Err(Unfit::BackendTwice(one.backend));
        }
        *chosen.get_mut(len).ok_or(Unfit::TooMany)? = *one;
        len += 1;
    }
    Ok((chosen, len))
}

/// The slot of the member at `index`.
pub(super) const fn slot_of(members: &[Member], index: usize) -> Slot {
    Slot::new(index, members[index].backend)
}
