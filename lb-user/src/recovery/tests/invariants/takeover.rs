//! What the next controller is bound by.

use std::collections::BTreeMap;

use super::{Checker, Drain, Known};
use crate::clock::Now;
use crate::names::BackendName;
use crate::recovery::journal::{Record, Standing};
use crate::recovery::message::{Instance, Steering};

impl Checker {
    /// The coordinator died; the next one knows what runs, what is on disk and what the kernel does.
    pub(in crate::recovery::tests) fn crash(
        &mut self,
        alive: &BTreeMap<BackendName, Option<Instance>>,
        now: Now,
    ) {
        self.word.active.retain(|name| alive.contains_key(name));
        self.word.draining = self.word.draining.take().filter(|name| alive.contains_key(name));
        for (name, life) in alive {
            let has_served = self.word.active.contains(name)
                || self.word.draining.as_ref() == Some(name)
                || self.durable.iter().any(|record| {
                    matches!(record, Record::Handover { from, instance, .. }
                        if from == name && instance == life)
                });
            let known = self.known_mut(name);
            let (out, warm) =
                (known.out && known.life.is_none(), (has_served && life.is_some()).then_some(true));
            *known = Known { out, warm, ..Known::new(*life, now) };
        }
        let ends_or_begins =
            |record: &&Record| matches!(record, Record::Handover { .. } | Record::Ended { .. });
        let last = self.durable.iter().rfind(ends_or_begins);
        let goes_on =
            |drain: &Drain| matches!(last, Some(Record::Handover { cycle, .. }) if *cycle == drain.cycle);
        self.drain = self.drain.take().filter(goes_on);
        self.cycle_of = self.open_cycle();
        // Whoever is still held out is said to be again.
        self.held_out.clear();
        self.released.clear();
        // What hooks have said the next one has not heard.
        self.asked.clear();
        self.consents.clear();
        self.stop_asked = None;
    }

    /// The machine was started anew, and everything on it is.
    pub(in crate::recovery::tests) fn reboot(&mut self, now: Now) {
        let nobody = self.backends.keys().map(|name| (name.clone(), None)).collect();
        self.crash(&nobody, now);
        for known in self.backends.values_mut() {
            *known = Known::new(None, now);
        }
        (self.word, self.drain, self.cycle_of) = (Steering::default(), None, None);
        self.held_out = Standing::of(&self.durable).held_out;
        self.held_out.retain(|name| self.backends.contains_key(name));
        self.machine_steps.clear();
    }
}
