//! What operators ask of the simulated world.

use super::super::name;
use super::World;
use crate::recovery::Input;
use crate::recovery::message::RequestId;

impl World {
    /// An operator asks for a rejuvenation.
    pub(in crate::recovery::tests) fn rejuvenate(&mut self) -> RequestId {
        self.ask(|request| Input::Rejuvenate { request, backend: None, in_window: false })
    }

    /// An operator asks for a rejuvenation of one backend.
    pub(in crate::recovery::tests) fn rejuvenate_one(&mut self, backend: &str) -> RequestId {
        self.ask(|request| Input::Rejuvenate { request, backend: Some(name(backend)), in_window: false })
    }

    /// An operator wants a backend held out.
    pub(in crate::recovery::tests) fn drain(&mut self, backend: &str) -> RequestId {
        self.ask(|request| Input::Drain { request, backend: name(backend) })
    }

    /// An operator takes a backend back.
    pub(in crate::recovery::tests) fn ready(&mut self, backend: &str) -> RequestId {
        self.ask(|request| Input::Ready { request, backend: name(backend) })
    }

    /// An operator asks for a rejuvenation in a window.
    pub(in crate::recovery::tests) fn rejuvenate_in_window(&mut self) -> RequestId {
        self.ask(|request| Input::Rejuvenate { request, backend: None, in_window: true })
    }

    /// An operator leaves no action to Baton, or again.
    pub(in crate::recovery::tests) fn maintain(&mut self, on: bool) -> RequestId {
        self.ask(|request| Input::Maintenance { request, on })
    }

    /// The wall clock is set.
    pub(in crate::recovery::tests) fn set_clock(&mut self, unix_ms: u64) {
        self.now.unix_ms = unix_ms;
    }

    /// The machine is suspended for this long: nothing happens, and then all that was due meanwhile.
    pub(in crate::recovery::tests) fn sleep(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
    }

    /// An operator wants no automatic rejuvenation.
    pub(in crate::recovery::tests) fn pause(&mut self) -> RequestId {
        self.ask(|request| Input::Pause { request })
    }

    /// An operator leaves rejuvenations to the rules.
    pub(in crate::recovery::tests) fn resume_rules(&mut self) -> RequestId {
        self.ask(|request| Input::Resume { request })
    }

    fn ask(&mut self, input: impl FnOnce(RequestId) -> Input) -> RequestId {
        self.requests += 1;
        self.unanswered.insert(self.requests);
        self.tell(&input(self.requests));
        self.requests
    }
}
