//! Shows how a run goes on: a bar on a terminal, a line every few seconds elsewhere, or JSON for a program.
//!
//! Everything goes to standard error and nothing here can fail a run.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::load::{Observer, Tick};

/// Seconds between two lines where there is no terminal.
const LINE_EVERY_S: f64 = 5.0;

/// Shows a run that goes on.
pub(super) struct Live {
    how: How,
    duration_s: f64,
}

enum How {
    Quiet,
    Json,
    Bar(ProgressBar),
    Lines {
        /// When the next line is due, in seconds since the start of the run.
        next_s: f64,
    },
}

impl Live {
    pub(super) fn new(quiet: bool, json: bool, duration: Duration) -> Self {
        let how = if quiet {
            How::Quiet
        } else if json {
            How::Json
        } else if io::stderr().is_terminal() {
            How::Bar(bar(duration))
        } else {
            How::Lines { next_s: LINE_EVERY_S }
        };
        Self { how, duration_s: duration.as_secs_f64() }
    }

    /// Leaves the terminal clean for the result.
    pub(super) fn finish(&self) {
        if let How::Bar(bar) = &self.how {
            bar.finish_and_clear();
        }
    }
}

impl Observer for Live {
    fn tick(&mut self, tick: &Tick) {
        match &mut self.how {
            How::Quiet => {}
            How::Json => {
                // A tick is numbers and names: it always has a JSON form.
                if let Ok(text) = serde_json::to_string(tick) {
                    say(&text);
                }
            }
            How::Bar(bar) => {
                bar.set_message(line(tick));
                bar.set_position(Duration::from_secs_f64(tick.t_s).as_millis() as u64);
            }
            How::Lines { next_s } => {
                if tick.t_s >= *next_s || tick.t_s >= self.duration_s {
                    *next_s = tick.t_s + LINE_EVERY_S;
                    say(&format!("{:.0}/{:.0} s  {}", tick.t_s, self.duration_s, line(tick)));
                }
            }
        }
    }

    fn notice(&mut self, text: &str) {
        match &self.how {
            How::Quiet => {}
            How::Json => say(&serde_json::json!({ "notice": text }).to_string()),
            How::Bar(bar) => bar.println(text),
            How::Lines { .. } => say(text),
        }
    }
}

fn line(tick: &Tick) -> String {
    let backends: Vec<_> = tick.backends.iter().map(|(name, count)| format!("{name}:{count}")).collect();
    let served = if backends.is_empty() { String::new() } else { format!("  by {}", backends.join(" ")) };
    format!(
        "{} sent  {} ok  {} failed  {} waiting  p50 {:.1} ms  p99 {:.1} ms{served}",
        tick.sent, tick.ok, tick.failed, tick.outstanding, tick.p50_ms, tick.p99_ms
    )
}

fn bar(duration: Duration) -> ProgressBar {
    let bar = ProgressBar::new(duration.as_millis() as u64);
    // The template is a constant; the plain bar would do as well.
    if let Ok(style) = ProgressStyle::with_template("{bar:16.cyan/dim} {percent:>3} %  {wide_msg}") {
        bar.set_style(style);
    }
    bar
}

fn say(text: &str) {
    // Whoever closed standard error does not want to be told.
    let _ = writeln!(io::stderr(), "{text}");
}
