//! Ends a run before its time.

use tokio::sync::watch;

/// Tells a run to end; clones tell the same run.
#[derive(Clone, Debug)]
pub struct Stop(watch::Sender<Level>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Go,
    Finish,
    Abandon,
}

impl Stop {
    /// One that has not been used yet.
    pub fn new() -> Self {
        Self(watch::Sender::new(Level::Go))
    }

    /// Nothing more is sent; what is outstanding is waited for.
    pub fn finish(&self) {
        self.raise(Level::Finish);
    }

    /// Nothing more is sent, and what is outstanding ends as [`Abandoned`](super::Outcome::Abandoned).
    pub fn abandon(&self) {
        self.raise(Level::Abandon);
    }

    pub(super) async fn finishing(&self) {
        self.reached(Level::Finish).await;
    }

    pub(super) async fn abandoning(&self) {
        self.reached(Level::Abandon).await;
    }

    fn raise(&self, level: Level) {
        self.0.send_modify(|now| *now = level.max(*now));
    }

    async fn reached(&self, level: Level) {
        // An error would mean that the sender is gone, but `self` is the sender.
        let _ = self.0.subscribe().wait_for(|now| *now >= level).await;
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}
