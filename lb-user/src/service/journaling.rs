//! The journal as the runtime has it: what was found in it, and what becomes of a disk that refuses.
//!
//! What always holds: a service is taken up whatever its journal is like. While it cannot be written, failures are
//! answered and nothing planned begins.

use std::path::Path;

use super::UpError;
use super::runtime::Runtime;
use crate::clock::Now;
use crate::names::ServiceName;
use crate::recovery::Input;
use crate::recovery::journal::History;

/// How often a journal that failed is tried again.
const RETRY_MS: u64 = 1_000;

/// Says what is wrong with what was found in a journal.
pub(super) fn tell(service: &ServiceName, path: &Path, found: &History) {
    let path = path.display();
    if found.torn > 0 {
        tracing::info!(%service, bytes = found.torn, "the last record of the journal was not written whole and does not count");
    }
    if let Some(damage) = &found.damage {
        tracing::error!(
            %service,
            "the journal is damaged: {damage}. What comes after the damage counts. A word of an operator's may be among what \
             is lost: automatic rejuvenations are paused until `baton resume {service}`, unless that was said since. Look \
             whether backends are to be held out or in maintenance. What was found is kept as {path}.damaged"
        );
    }
    if let Some(error) = &found.unread {
        tracing::error!(
            %service,
            "cannot read {path}: {error}. The service is taken up without it: whether it was paused, or backends held \
             out, is not known. No rejuvenation starts until it can be read"
        );
    }
}

impl Runtime {
    /// From now on failures are answered without a journal.
    pub(super) fn fail_journal(&mut self, error: String, now: Now) {
        self.journal_failed_at = Some(now);
        let outputs = self.coordinator.step(now, Input::Journal(Err(error)));
        self.carry_out(outputs, now);
    }

    /// Tries again, once in a while, whether a journal that failed can be written.
    pub(super) fn retry_journal(&mut self, now: Now) -> Result<(), UpError> {
        if self.journal_failed_at.is_none_or(|at| now.ms_since(at) < RETRY_MS) {
            return Ok(());
        }
        self.journal_failed_at = Some(now);
        match self.journal.probe() {
            Ok(()) => {
                self.journal_failed_at = None;
                tracing::info!(service = %self.service.name, "the journal can be written again");
                self.step(&Input::Journal(Ok(())));
            }
            // Whoever takes the service up again knows what it holds; without a fleet nobody does.
            Err(error) if self.journal.holds_more() && self.purse.is_some() => {
                return Err(UpError::Journal(error.to_string()));
            }
            Err(error) => tracing::debug!(%error, "the journal still cannot be written"),
        }
        Ok(())
    }
}
