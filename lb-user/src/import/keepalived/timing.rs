//! Settings of checks that a virtual server has for its real servers, and these for their checkers.

use std::time::Duration;

use super::super::Notes;
use super::super::words::seconds;
use super::tree::Item;

/// What is set at one of the three levels, or above it.
#[derive(Clone, Debug)]
pub(super) struct Timing {
    pub(super) delay_loop: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) retry: Option<u32>,
    pub(super) delay_before_retry: Option<Duration>,
    /// The `delay_loop` of the virtual server, whatever is set below it.
    pub(super) server_delay_loop: Duration,
    /// With its line.
    pub(super) virtualhost: Option<(usize, String)>,
}

impl Default for Timing {
    /// As keepalived has them.
    fn default() -> Self {
        Self {
            delay_loop: Duration::from_mins(1),
            connect_timeout: Duration::from_secs(5),
            retry: None,
            delay_before_retry: None,
            server_delay_loop: Duration::from_mins(1),
            virtualhost: None,
        }
    }
}

impl Timing {
    /// Takes a directive, if it is one of these.
    pub(super) fn take(&mut self, item: &Item, notes: &mut Notes) -> bool {
        let mut time = || {
            let time = seconds(item.word(1));
            if time.is_none() {
                notes.add(item.line, item.shown(), "it is no number of seconds; left out");
            }
            time
        };
        match item.word(0) {
            "delay_loop" => self.delay_loop = time().unwrap_or(self.delay_loop),
            "connect_timeout" => self.connect_timeout = time().unwrap_or(self.connect_timeout),
            "delay_before_retry" => self.delay_before_retry = time().or(self.delay_before_retry),
            "retry" | "nb_get_retry" => match item.word(1).parse() {
                Ok(retry) => self.retry = Some(retry),
                Err(_) => notes.add(item.line, item.shown(), "it is no number; left out"),
            },
            "virtualhost" => self.virtualhost = Some((item.line, item.word(1).to_owned())),
            "warmup" => {
                notes.add(item.line, item.shown(), "checks begin at once, and not all at the same time");
            }
            "alpha" => {
                notes.add(item.line, item.shown(), "it is always so: no backend is up before its checks");
            }
            _ => return false,
        }
        true
    }
}
