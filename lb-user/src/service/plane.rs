//! The data plane of a controller and what its services share of it.
//!
//! One thread runs all services, so a borrow lasts for a call and is never held over an await. What one look
//! at the whole table answers for every service is looked for once and kept for a moment.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;

use lb_common::BackendId;

use crate::clock::Now;
use crate::dataplane::{Dataplane, FlowTimeouts};
use crate::flow_counts::FlowCounts;

/// How often silent flows are forgotten.
const FORGET_PERIOD_MS: u64 = 2_000;
/// A count of the flows is good for this long: a little less than the time between two looks at a drain.
const COUNT_AGE_MS: u64 = 40;

/// A data plane, shared by the services that it serves.
#[derive(Clone)]
pub(super) struct Plane(Rc<Shared>);

struct Shared {
    dataplane: RefCell<Dataplane>,
    timeouts: RefCell<FlowTimeouts>,
    kept: RefCell<Kept>,
}

/// What was found at the last look at the whole table.
#[derive(Default)]
struct Kept {
    counts: Rc<Vec<FlowCounts>>,
    counted_at: Option<Now>,
    forgot_at: Option<Now>,
}

impl Plane {
    /// Shares a data plane whose silent flows are forgotten after these times.
    pub(super) fn new(dataplane: Dataplane, timeouts: FlowTimeouts) -> Self {
        let (dataplane, timeouts) = (RefCell::new(dataplane), RefCell::new(timeouts));
        Self(Rc::new(Shared { dataplane, timeouts, kept: RefCell::default() }))
    }

    /// The data plane itself, for the length of a call.
    pub(super) fn tables(&self) -> RefMut<'_, Dataplane> {
        self.0.dataplane.borrow_mut()
    }

    /// How long silent flows are remembered.
    pub(super) fn timeouts(&self) -> FlowTimeouts {
        self.0.timeouts.borrow().clone()
    }

    /// Changes how long silent flows are remembered.
    pub(super) fn remember_for(&self, timeouts: &FlowTimeouts) {
        timeouts.clone_into(&mut self.0.timeouts.borrow_mut());
    }

    /// The flows of each backend, by its id, as they were a moment ago at most.
    pub(super) fn counts(&self, now: Now) -> Rc<Vec<FlowCounts>> {
        let mut kept = self.0.kept.borrow_mut();
        if kept.counted_at.is_none_or(|at| now.ms_since(at) >= COUNT_AGE_MS) {
            kept.counts = Rc::new(self.tables().count_flows(&self.0.timeouts.borrow()));
            kept.counted_at = Some(now);
        }
        Rc::clone(&kept.counts)
    }

    /// Makes the next count a fresh one.
    pub(super) fn forget_counts(&self) {
        self.0.kept.borrow_mut().counted_at = None;
    }

    /// Forgets silent flows if it is time to; any number of services may ask.
    pub(super) fn forget_expired(&self, now: Now) {
        let mut kept = self.0.kept.borrow_mut();
        if kept.forgot_at.is_none_or(|at| now.ms_since(at) >= FORGET_PERIOD_MS) {
            kept.forgot_at = Some(now);
            self.tables().forget_expired(&self.0.timeouts.borrow());
        }
    }

    /// Forgets the flows of a backend that has been stopped.
    pub(super) fn forget_backend(&self, backend: BackendId) {
        self.tables().forget_backend(backend);
        self.forget_counts();
    }

    /// Forgets that clients are to stay with a backend.
    pub(super) fn forget_leases(&self, backend: BackendId) {
        self.tables().forget_leases(backend);
        self.forget_counts();
    }
}
