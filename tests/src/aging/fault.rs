//! What is wrong with a service that was told to fail.

use tokio::sync::watch;

/// How many times as long as usual a slow service takes.
const SLOW_FACTOR: u32 = 10;

/// What is wrong from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Connections are accepted, and no request is answered.
    Silent,
    /// Every request is answered with 500.
    Error,
    /// Every request takes ten times as long.
    Slow,
    /// Nobody listens any more; the process lives.
    Closed,
    /// Connections are accepted, and reset once something is asked.
    Reset,
}

impl Fault {
    /// The fault that a query of `/fault` names.
    pub(crate) fn of(query: Option<&str>) -> Option<Self> {
        Some(match query?.strip_prefix("mode=")? {
            "none" => Self::None,
            "silent" => Self::Silent,
            "error" => Self::Error,
            "slow" => Self::Slow,
            "closed" => Self::Closed,
            "reset" => Self::Reset,
            _ => return None,
        })
    }

    /// How many times as long as usual a request takes.
    pub(crate) fn factor(self) -> u32 {
        if self == Self::Slow { SLOW_FACTOR } else { 1 }
    }
}

/// The fault of a service, which its listener follows, too.
pub(crate) struct Faults(watch::Sender<Fault>);

impl Faults {
    /// Nothing is wrong yet.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Fault::None))
    }

    pub(crate) fn set(&self, fault: Fault) {
        self.0.send_replace(fault);
    }

    pub(crate) fn get(&self) -> Fault {
        *self.0.borrow()
    }

    /// Returns once nobody is to listen any more.
    pub(crate) async fn closed(&self) {
        let mut faults = self.0.subscribe();
        // The sender lives as long as this.
        let _ = faults.wait_for(|fault| *fault == Fault::Closed).await;
    }
}
