//! What the checker knows of rules and maintenance.

use super::invariants::{Checker, Verdict};
use crate::clock::Now;
use crate::names::BackendName;
use crate::recovery::event::Event;
use crate::recovery::journal::Record;
use crate::recovery::report::Reason;
use crate::recovery::window::Window;

impl Checker {
    /// 8: in maintenance only what was under way is ended, and what an operator has named is restarted.
    pub(super) fn may_act(&mut self, name: &BackendName) -> Verdict {
        let named = self.taken_back.remove(name);
        let under_way = self.cycle_of.as_ref().is_some_and(|(_, from)| from == name);
        if self.maintenance && !named && !under_way {
            return Err(format!("{name} is stopped in maintenance"));
        }
        Ok(())
    }

    /// 9: rules rejuvenate in a window.
    pub(super) fn may_rule(&self, event: &Event, now: Now) -> Verdict {
        let Event::Handover { from, reason, .. } = event else { return Ok(()) };
        let by_rule = match reason {
            Reason::Ceiling { .. } => !self.policy.ceiling_breaks_window,
            Reason::Age { .. } => true,
            Reason::Operator | Reason::Unhealthy { .. } | Reason::Died { .. } => false,
        };
        let is_open = |window: &Window| {
            window.opening(now.unix_ms).is_some_and(|opening| opening.from_unix_ms <= now.unix_ms)
        };
        let windows = &self.policy.windows;
        if by_rule && !windows.is_empty() && !windows.iter().any(is_open) {
            return Err(format!("{from} is rejuvenated by a rule outside its window"));
        }
        if self.maintenance && reason.is_planned() && !matches!(reason, Reason::Operator) {
            return Err(format!("{from} is rejuvenated by a rule in maintenance"));
        }
        Ok(())
    }

    pub(super) fn forget_cycle(&mut self, cycle: u64) {
        self.cycle_of = self.cycle_of.take().filter(|(number, _)| *number != cycle);
    }

    /// The rejuvenation that goes on as far as is written down, also if its end could not be.
    pub(super) fn open_cycle(&self) -> Option<(u64, BackendName)> {
        let begun = self.durable.iter().rposition(|record| matches!(record, Record::Handover { .. }))?;
        let Record::Handover { cycle, from, .. } = &self.durable[begun] else { return None };
        let ends = |record: &Record| matches!(record, Record::Ended { cycle: ended, .. } if ended == cycle);
        (!self.durable[begun..].iter().any(ends)).then(|| (*cycle, from.clone()))
    }
}
