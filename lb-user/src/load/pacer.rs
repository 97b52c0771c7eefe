//! Sleeps to the microsecond where the runtime's own timer rounds up to the millisecond.
//!
//! At thousands of requests a second a millisecond is several intended times: rounding would send requests in
//! bursts and count up to a millisecond of its own lateness as the server's latency.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

/// A timer of the kernel's.
pub(super) struct Pacer(AsyncFd<Timer>);

impl Pacer {
    /// Needs a runtime with IO enabled.
    pub(super) fn new() -> io::Result<Self> {
        let timer =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "its replacement is unsafe and asks that the descriptor stays open: the timer owns it"
        )]
        let timer = AsyncFd::new(Timer(timer))?;
        Ok(Self(timer))
    }

    /// Waits for `wait`, or for one turn of the runtime if it is zero. Dropping the future ends the wait.
    pub(super) async fn sleep(&self, wait: Duration) -> io::Result<()> {
        if wait.is_zero() {
            tokio::task::yield_now().await;
            return Ok(());
        }
        let once = Expiration::OneShot(TimeSpec::from_duration(wait));
        self.0.get_ref().0.set(once, TimerSetTimeFlags::empty())?;
        loop {
            let mut ready = self.0.readable().await?;
            // Readiness may be left over from a wait that was dropped: only the kernel's word counts.
            if let Ok(result) = ready.try_io(|timer| Ok(timer.get_ref().0.wait()?)) {
                return result;
            }
        }
    }
}

/// Gives the timer's descriptor the form that the runtime asks for.
struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}
