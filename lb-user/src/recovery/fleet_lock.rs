//! The lock of a site, as one host takes it and gives it back.
//!
//! Pure: it is told whether the lock is needed and what a server answered, and says what to ask next.
//!
//! ```text
//!          ask: refused              ask: done
//!  denied <------------- free ---------------------> held
//!    |  ask again           ^                         |
//!    |  needed no longer    |     give back: done     | needed no longer
//!    +--------------------->+<------------------------+
//!                           |  give back: done
//!                         unknown: no answer, or an earlier controller may have taken it
//! ```
//!
//! What always holds: whoever may hold the lock and does not need it gives it back until a server has said that it
//! is done.

use crate::clock::Now;

/// Wait before a request is made again; it doubles up to 64 times this.
const RETRY_MS: u64 = 1_000;

/// What is known of the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Holding {
    Free,
    Denied(String),
    Unknown(String),
    Held,
}

/// What to ask the server for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The lock. That it may be held has to be written down before.
    Take,
    /// To take it back. Once it is done, nothing has to be written down any more.
    GiveBack,
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// It is not, and nothing has changed.
    Denied(String),
    /// Nobody knows.
    Failed(String),
}

/// One host's part of the lock.
#[derive(Clone, Debug)]
pub struct FleetLock {
    holding: Holding,
    /// Requests in a row that came to nothing.
    attempts: u32,
    not_before: Option<Now>,
}

impl FleetLock {
    /// A lock that an earlier controller may have taken, or has not.
    pub fn new(may_be_held: bool) -> Self {
        let left = "an earlier controller may have taken it".to_owned();
        let holding = if may_be_held { Holding::Unknown(left) } else { Holding::Free };
        Self { holding, attempts: 0, not_before: None }
    }

    /// Whether this host holds it, as far as is known.
    pub fn may_be_held(&self) -> bool {
        matches!(self.holding, Holding::Held | Holding::Unknown(_))
    }

    /// Whether nothing is held, nor may be.
    pub fn is_free(&self) -> bool {
        self.holding == Holding::Free
    }

    /// What to ask for at this moment.
    pub fn next(&mut self, needed: bool, now: Now) -> Option<Request> {
        if !needed && matches!(self.holding, Holding::Denied(_)) {
            *self = Self::new(false);
        }
        let request = match (&self.holding, needed) {
            (Holding::Free | Holding::Denied(_) | Holding::Unknown(_), true) => Request::Take,
            (Holding::Held | Holding::Unknown(_), false) => Request::GiveBack,
            (Holding::Held, true) | (Holding::Free | Holding::Denied(_), false) => return None,
        };
        let is_due = self.not_before.is_none_or(|at| now.boot_ms >= at.boot_ms);
        is_due.then_some(request)
    }

    /// Takes in what came of a request.
    pub fn hear(&mut self, request: Request, answer: Answer, now: Now) {
        self.holding = match (request, answer) {
            (Request::Take, Answer::Done) => Holding::Held,
            (Request::GiveBack, Answer::Done) => Holding::Free,
            (Request::Take, Answer::Denied(why)) => Holding::Denied(why),
            (Request::GiveBack, Answer::Denied(why)) | (_, Answer::Failed(why)) => Holding::Unknown(why),
        };
        if matches!(self.holding, Holding::Held | Holding::Free) {
            (self.attempts, self.not_before) = (0, None);
        } else {
            self.not_before = Some(now.plus_ms(RETRY_MS << self.attempts.min(6)));
            self.attempts = self.attempts.saturating_add(1);
        }
    }

    /// Why nobody may begin what needs the lock; none while it is held.
    pub fn waits(&self) -> Option<String> {
        match &self.holding {
            Holding::Held => None,
            Holding::Free => Some("for the lock of the fleet".to_owned()),
            Holding::Denied(why) | Holding::Unknown(why) => Some(format!("for the lock of the fleet: {why}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn denied() -> Answer {
        Answer::Denied("another host has it".into())
    }

    #[test]
    fn a_lock_that_is_denied_is_asked_for_ever_more_slowly_and_forgotten_when_nobody_needs_it() {
        let (mut lock, mut now) = (FleetLock::new(false), Now::default());
        assert_eq!(lock.next(false, now), None);
        let mut waits = Vec::new();
        for _ in 0..9 {
            let begun = now;
            while lock.next(true, now).is_none() {
                now = now.plus_ms(500);
            }
            waits.push(now.ms_since(begun) / 1_000);
            lock.hear(Request::Take, denied(), now);
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 64, 64]);
        assert_eq!(lock.waits().unwrap(), "for the lock of the fleet: another host has it");
        assert_eq!((lock.next(false, now), lock.is_free()), (None, true));
    }

    #[test]
    fn what_an_earlier_controller_may_have_taken_is_given_back_or_taken_again() {
        let now = Now::default();
        assert_eq!(FleetLock::new(true).next(false, now), Some(Request::GiveBack));
        let mut lock = FleetLock::new(true);
        assert_eq!(lock.next(true, now), Some(Request::Take));
        lock.hear(Request::Take, Answer::Done, now);
        assert_eq!((lock.next(true, now), lock.waits()), (None, None));
        assert_eq!(lock.next(false, now), Some(Request::GiveBack));
        lock.hear(Request::GiveBack, Answer::Done, now);
        assert!(lock.is_free());
    }

    proptest! {
        /// Against a server of its own: whoever is let in holds the lock, and nobody keeps it who does not need it.
        #[test]
        fn a_lock_is_held_only_while_it_is_needed_or_could_not_be_given_back(
            steps in proptest::collection::vec((any::<bool>(), 0u8..4), 1..80)
        ) {
            let (mut lock, mut now, mut held) = (FleetLock::new(false), Now::default(), false);
            for (needed, luck) in steps {
                now = now.plus_ms(70_000);
                let Some(request) = lock.next(needed, now) else { continue };
                // A server that fails may have done it all the same.
                let answer = match luck {
                    0 => Answer::Failed("no answer".into()),
                    1 if request == Request::Take && !held => denied(),
                    _ => Answer::Done,
                };
                if answer == Answer::Done || luck == 0 && now.boot_ms % 140_000 == 0 {
                    held = request == Request::Take;
                }
                lock.hear(request, answer, now);
                prop_assert!(lock.may_be_held() || !held, "it holds the lock and does not know");
                prop_assert!(lock.waits().is_some() || held, "it goes on without the lock");
            }
            now = now.plus_ms(70_000);
            if let Some(request) = lock.next(false, now) {
                prop_assert_eq!(request, Request::GiveBack);
                lock.hear(request, Answer::Done, now);
                held = false;
            }
            prop_assert!(lock.is_free() && !held);
        }
    }
}
