//! What a dry run of the program tells about one packet: where it would go, and the entry that its flow has.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::bucket::Id;
use crate::flow::{Flow, Halves};
use crate::plain_data;
use crate::reason::Reason;
use crate::steer::{BackendId, NO_BACKEND, ServiceId};

/// Written by a program that was loaded to change nothing else, once for each packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Explanation {
    /// The id of the entry that the flow was found under; 0 if it has none, or was not looked for.
    pub entry: u64,
    /// What the flow had shown before this packet.
    pub halves: u64,
    /// Index of the [`Reason`].
    pub reason: u32,
    /// The group of counters ([`crate::reason::group`]).
    pub group: u32,
    /// Interface that the packet would leave by; 0 if it would not be sent by the program.
    pub ifindex: u32,
    /// Where it would go, or the backend that it comes from; [`NO_BACKEND`] if neither.
    pub backend: BackendId,
    /// 1 once the rest has been written.
    pub is_complete: u16,
}

const _: () = assert!(size_of::<Explanation>() == 32);

impl Explanation {
    /// Why the packet would meet the end that it would meet; `None` if no packet has been explained.
    pub fn reason(&self) -> Option<Reason> {
        Reason::ALL.get(self.reason as usize).copied().filter(|_| self.is_complete == 1)
    }

    /// The service that it is for.
    pub fn service(&self) -> Option<ServiceId> {
        self.group.checked_sub(1).map(|id| id as ServiceId)
    }

    /// The backend that it would go to, or comes from.
    pub fn backend(&self) -> Option<BackendId> {
        Some(self.backend).filter(|id| *id != NO_BACKEND)
    }

    /// Its flow, as the table had it.
    pub fn flow(&self) -> Option<Flow> {
        let id = Id::from_word(self.entry);
        let halves = Halves::from_word(self.halves);
        (!id.is_free()).then(|| Flow { backend: id.backend(), epoch: id.epoch(), halves })
    }
}

plain_data!(Explanation);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::group;

    #[test]
    fn an_explanation_says_nothing_before_it_is_complete() {
        let nothing = Explanation::default();
        assert_eq!((nothing.reason(), nothing.service(), nothing.backend()), (None, None, None));
        assert_eq!(nothing.flow(), None);
    }

    #[test]
    fn an_explanation_tells_what_was_written() {
        let written = Explanation {
            entry: Id::new(7 << 21, 0, 5, 9).to_word() | Id::SPILLED,
            halves: 3,
            reason: Reason::PinnedFlow as u32,
            group: group(Some(0)),
            ifindex: 4,
            backend: 5,
            is_complete: 1,
        };
        assert_eq!(written.reason(), Some(Reason::PinnedFlow));
        assert_eq!((written.service(), written.backend()), (Some(0), Some(5)));
        assert_eq!(written.flow(), Some(Flow { backend: 5, epoch: 9, halves: Halves::from_word(3) }));
        assert_eq!(Explanation { reason: u32::MAX, ..written }.reason(), None);
    }
}
