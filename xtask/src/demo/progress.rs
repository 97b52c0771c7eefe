//! The live line of a scenario.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::Scenario;
use super::load::Tick;

/// One line that tells how a scenario goes; on a terminal only.
pub(super) struct Progress {
    bar: ProgressBar,
    seconds: u64,
}

impl Progress {
    /// A line for a scenario that takes `seconds`.
    pub(super) fn new(scenario: Scenario, seconds: u64) -> Self {
        let bar = ProgressBar::new(seconds);
        // The template is a constant; the plain bar would do as well.
        if let Ok(style) =
            ProgressStyle::with_template("{prefix:>8} {bar:20.cyan/dim} {pos:>3}/{len} s  {wide_msg}")
        {
            bar.set_style(style);
        }
        bar.set_prefix(scenario.to_string());
        bar.set_message("starting");
        Self { bar, seconds }
    }

    /// Shows a tick of the load and what is known of the service.
    pub(super) fn show(&self, tick: &Tick, service: &str) {
        let served = tick.backends.iter().filter(|(name, _)| *name != "-");
        let by: Vec<_> = served.map(|(name, count)| format!("{name} {count}/s")).collect();
        let by = if by.is_empty() { String::new() } else { format!("  by {}", by.join(", ")) };
        // The last answers come in after the time for sending is over.
        let elapsed = Duration::try_from_secs_f64(tick.t_s).unwrap_or_default().as_secs();
        self.bar.set_position(elapsed.min(self.seconds));
        self.bar.set_message(format!(
            "{} sent  {} failed  p99 {:.0} ms{by}  {service}",
            tick.sent, tick.failed, tick.p99_ms
        ));
    }

    /// Leaves the last state on the screen.
    pub(super) fn finish(&self) {
        self.bar.abandon();
    }
}
