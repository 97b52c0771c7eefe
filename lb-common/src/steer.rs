//! The steering word: what new flows of a service consult, changed by one aligned 64-bit store.

/// Index of a service in its tables, below [`crate::SERVICES_MAX`].
pub type ServiceId = u16;

/// Index of a backend in its table; [`NO_BACKEND`] stands for none.
pub type BackendId = u16;

/// The backend id that no backend has.
pub const NO_BACKEND: BackendId = 0;

/// Where new flows of a service go, and where old ones without an entry go.
///
/// Packed into one word so that a handover is one store: every packet sees the old word or the new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steer {
    /// Gets new flows; [`NO_BACKEND`] if none may.
    pub active: BackendId,
    /// Gets packets of old flows that have no entry; [`NO_BACKEND`] while nothing drains.
    pub draining: BackendId,
    /// Counts handovers of this service; a flow remembers the one under which it was pinned.
    pub epoch: u32,
}

impl Steer {
    /// The word as it stands in the map.
    #[inline(always)]
    pub const fn to_word(self) -> u64 {
        self.active as u64 | (self.draining as u64) << 16 | (self.epoch as u64) << 32
    }

    /// The steering that a word of the map stands for.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self { active: word as u16, draining: (word >> 16) as u16, epoch: (word >> 32) as u32 }
    }

    /// Whether nothing drains.
    #[inline(always)]
    pub const fn is_settled(self) -> bool {
        self.draining == NO_BACKEND
    }

    /// The backend of a new flow.
    #[inline(always)]
    pub const fn for_new_flow(self) -> BackendId {
        self.active
    }

    /// The backend of a flow that was there before its entry: the one that drains, else the active one.
    #[inline(always)]
    pub const fn for_old_flow(self) -> BackendId {
        if self.is_settled() { self.active } else { self.draining }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_word_holds_every_steering(active: u16, draining: u16, epoch: u32) {
            let steer = Steer { active, draining, epoch };
            prop_assert_eq!(Steer::from_word(steer.to_word()), steer);
        }
    }

    #[test]
    fn old_flows_go_to_the_draining_backend_and_new_ones_never() {
        let steer = Steer { active: 2, draining: 1, epoch: 7 };
        assert_eq!((steer.for_new_flow(), steer.for_old_flow()), (2, 1));
        let settled = Steer { active: 2, draining: NO_BACKEND, epoch: 7 };
        assert_eq!((settled.for_new_flow(), settled.for_old_flow()), (2, 2));
    }
}
