//! Pools: what a new flow consults of a service that spreads its flows over many backends.
//!
//! User space builds a pool ([`Pool::fill`]), the packet path chooses from it ([`choose()`]); a backend that
//! is down or drains is simply not in the next pool. What always holds in a pool that was filled:
//! - Whatever can be decided beforehand stands in the pool, so that the packet path neither divides nor
//!   compares policies: members without weight are left out, `rr` is `wrr` with equal weights and `lc` is
//!   `wlc` with equal weights, and `fo` finds its members in the order in which they are to be tried.
//! - A slot of the table names its backend by itself: a choice without limits reads the pool's head and one
//!   slot, two cache lines.
//! - The same members give the same pool, in whatever order they were named.
//!
//! Each service has two pools ([`place`]). User space fills the one that is not in use and publishes it by
//! one store of the steering word ([`steering_to`]). Before it fills the other one it has to wait until no
//! packet can still be reading there (`membarrier(MEMBARRIER_CMD_GLOBAL)` does: XDP programs run under RCU).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::steer::{BackendId, ServiceId};
use crate::{BACKENDS_MAX, SERVICES_MAX, plain_data};

mod choose;
mod fill;
mod maglev;
mod policy;
mod rounds;

pub use choose::{Circumstances, choose};
pub use fill::{Candidate, Unfit, identity_of};
pub use policy::Policy;

/// Members that a pool can have.
pub const MEMBERS_MAX: usize = 64;

/// Places in a pool's table: a power of two, so that a mask keeps an index inside.
pub const SLOTS: usize = 4096;

/// Pools of all services.
pub const POOLS_MAX: u32 = SERVICES_MAX * 2;

/// A backend of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Member {
    /// The backend.
    pub backend: BackendId,
    /// Its share in proportion to the other members'; 1 if the policy ignores weights.
    pub weight: u16,
    /// Open flows from which on it gets no new ones; [`Member::UNLIMITED`] if there is no limit.
    pub limit: u32,
}

impl Member {
    /// The limit of a member that has none.
    pub const UNLIMITED: u32 = u32::MAX;
}

/// A place in a pool's table: a backend (bits 0 to 9) and its index among the members (bits 10 to 15).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Slot(u16);

const BACKEND_BITS: u32 = 10;
const _: () = assert!(BACKENDS_MAX <= 1 << BACKEND_BITS && MEMBERS_MAX <= 1 << (16 - BACKEND_BITS));

impl Slot {
    /// The slot of the member at `index`.
    const fn new(index: usize, backend: BackendId) -> Self {
        Self((index as u16) << BACKEND_BITS | backend & ((1 << BACKEND_BITS) - 1))
    }

    /// The backend.
    #[inline(always)]
    pub const fn backend(self) -> BackendId {
        self.0 & ((1 << BACKEND_BITS) - 1)
    }

    /// Its index among the pool's members.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        (self.0 >> BACKEND_BITS) as u32
    }
}

/// The members of a service's pool and the table from which its policy chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Pool {
    /// `2^48 / period`, rounded up.
    reciprocal: u64,
    /// Slots in use.
    period: u32,
    /// Members.
    len: u32,
    /// The policy's number.
    policy: u32,
    /// Bits of [`LIMITED`].
    flags: u32,
    members: [Member; MEMBERS_MAX],
    table: [Slot; SLOTS],
}

const _: () = assert!(size_of::<Pool>() == 8728 && size_of::<Member>() == 8);

/// Some member has a limit.
const LIMITED: u32 = 1;

/// Bits behind the binary point of [`Pool::reciprocal`]: 32 of the number that is divided, and 13 of a
/// period, are needed for the remainder to be exact (Lemire, Kaser, Kurz, 2019); 51 would still fit.
const POINT: u32 = 48;

impl Pool {
    /// A pool that names no backend.
    pub const EMPTY: Self = Self {
        reciprocal: 0,
        period: 0,
        len: 0,
        policy: Policy::ActiveStandby as u32,
        flags: 0,
        members: [Member { backend: 0, weight: 0, limit: 0 }; MEMBERS_MAX],
        table: [Slot(0); SLOTS],
    };

    /// The policy, unless the memory holds no pool.
    #[inline(always)]
    pub const fn policy(&self) -> Option<Policy> {
        Policy::from_number(self.policy)
    }

    /// The members that get new flows.
    pub fn members(&self) -> &[Member] {
        self.members.get(..self.len as usize).unwrap_or(&self.members)
    }

    /// The slots in use, in the order in which `rr` and `wrr` take them.
    pub fn slots(&self) -> &[Slot] {
        self.table.get(..self.period as usize).unwrap_or(&self.table)
    }

    /// Whether some member has a limit.
    #[inline(always)]
    const fn is_limited(&self) -> bool {
        self.flags & LIMITED != 0
    }

    /// The slot that follows from a random number or a hash: all slots are equally probable.
    #[inline(always)]
    const fn slot_by_hash(&self, hash: u32) -> Slot {
        self.slot(self.position_by_hash(hash))
    }

    /// Where that slot stands.
    #[inline(always)]
    const fn position_by_hash(&self, hash: u32) -> u32 {
        ((hash as u64 * self.period as u64) >> 32) as u32
    }

    /// The slot that it is the turn of: `turn` modulo the period, without a division.
    #[inline(always)]
    const fn slot_by_turn(&self, turn: u32) -> Slot {
        let fraction = self.reciprocal.wrapping_mul(turn as u64) & ((1 << POINT) - 1);
        self.slot(((fraction * self.period as u64) >> POINT) as u32)
    }

    #[inline(always)]
    const fn slot(&self, position: u32) -> Slot {
        self.table[position as usize & (SLOTS - 1)]
    }

    #[inline(always)]
    const fn member(&self, index: u32) -> Member {
        self.members[index as usize & (MEMBERS_MAX - 1)]
    }
}

/// Where one of a service's two pools stands in the map of all pools; `buffer` is 0 or 1.
#[inline(always)]
pub const fn place(service: ServiceId, buffer: u32) -> u32 {
    service as u32 * 2 + (buffer & 1)
}

/// Stands in a steering word for "choose from the pool": no backend has such an id.
const FROM_POOL: BackendId = 1 << 15;
const _: () = assert!(BACKENDS_MAX <= FROM_POOL as u32);

/// What stands in [`crate::Steer::active`] while new flows are spread over the pool in `buffer`, 0 or 1.
#[inline(always)]
pub const fn steering_to(buffer: u32) -> BackendId {
    FROM_POOL | (buffer & 1) as BackendId
}

/// The buffer from which new flows choose, given [`crate::Steer::active`]; `None` if that is a backend.
#[inline(always)]
pub const fn steered_to(active: BackendId) -> Option<u32> {
    if active & FROM_POOL != 0 { Some(active as u32 & 1) } else { None }
}

plain_data!(Member, Slot, Pool);

#[cfg(test)]
mod tests;
