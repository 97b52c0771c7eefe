//! Asking the agent of a backend: a port that says in one line how the backend is, in the words of HAProxy's agent
//! check, so that the agents that there are for HAProxy can be used.
//!
//! A line is words between spaces, tabs and commas, up to its end or to a `#`: `up`, `down`, `failed`, `stopped`;
//! `ready`, `drain`, `maint`; a percentage. Words of other kinds are passed over. The agent is not the backend: one
//! that does not answer changes nothing.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::{excerpt, socket, within};
use crate::net::netns::NetnsHandle;
use crate::recovery::Finding;

/// The longest line that is read, in bytes.
const LINE_MAX: u64 = 1024;
/// The largest share of its weight that a backend can be given.
const PERCENT_MAX: u16 = 256;

/// What an agent said; what it did not speak of stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentWord {
    /// Whether the backend is well, and the word for it if not.
    pub health: Option<Result<(), &'static str>>,
    /// Whether it is to be given new flows, from the operator of its machine.
    pub wanted: Option<Wanted>,
    /// Its share of its configured weight in percent (0 to 256).
    pub percent: Option<u16>,
}

/// Whether a backend is to be given new flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It may be given them again.
    Ready,
    /// It finishes those that it has.
    Drain,
}

impl AgentWord {
    /// What a line says; `None` if none of its words means anything.
    fn of(line: &str) -> Option<Self> {
        let said = line.split('#').next().unwrap_or_default();
        let mut word = Self::default();
        for text in said.split([' ', '\t', ',']) {
            match text.to_ascii_lowercase().as_str() {
                "up" => word.health = Some(Ok(())),
                "down" => word.health = Some(Err("down")),
                "fail" | "failed" => word.health = Some(Err("failed")),
                "stopped" => word.health = Some(Err("stopped")),
                "ready" => word.wanted = Some(Wanted::Ready),
                "drain" | "maint" => word.wanted = Some(Wanted::Drain),
                other => {
                    let percent = other.strip_suffix('%').and_then(|number| number.parse::<u16>().ok());
                    word.percent = percent.map(|percent| percent.min(PERCENT_MAX)).or(word.percent);
                }
            }
        }
        (word != Self::default()).then_some(word)
    }
}

impl fmt::Display for AgentWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let health = self.health.map(|health| health.err().unwrap_or("up").to_owned());
        let wanted = self.wanted.map(|wanted| match wanted {
            Wanted::Ready => "ready".to_owned(),
            Wanted::Drain => "drain".to_owned(),
        });
        let percent = self.percent.map(|percent| format!("{percent}%"));
        let words: Vec<_> = [health, wanted, percent].into_iter().flatten().collect();
        f.write_str(&words.join(" "))
    }
}

/// Asks an agent from inside `netns`; takes no longer than `limit`.
pub async fn ask_agent(
    netns: &NetnsHandle,
    address: SocketAddr,
    limit: Duration,
) -> Result<AgentWord, Finding> {
    let line = within(limit, async {
        let stream = socket::connect(netns, address).await?;
        read_line(stream).await
    });
    let line = line.await?;
    let text = String::from_utf8_lossy(&line);
    AgentWord::of(&text).ok_or_else(|| Finding::WrongAnswer(format!("the agent said {}", excerpt(&line))))
}

/// The first line; an agent may leave its end to the end of the connection.
async fn read_line(stream: tokio::net::TcpStream) -> Result<Vec<u8>, Finding> {
    let mut stream = stream.take(LINE_MAX);
    let mut line = Vec::new();
    let mut chunk = [0; 256];
    loop {
        let length = stream.read(&mut chunk).await.map_err(|error| socket::finding(&error))?;
        let read = chunk.get(..length).unwrap_or_default();
        let end = read.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        line.extend_from_slice(read.get(..end.unwrap_or(length)).unwrap_or_default());
        if length == 0 || end.is_some() {
            return Ok(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_what_they_mean_to_haproxy() {
        let shown = |line| AgentWord::of(line).map(|word| word.to_string());
        assert_eq!(shown("up").as_deref(), Some("up"));
        assert_eq!(shown("75%").as_deref(), Some("75%"));
        assert_eq!(shown("up, ready\t50% maxconn:30").as_deref(), Some("up ready 50%"));
        assert_eq!(shown("DOWN#the disk is full, not up").as_deref(), Some("down"));
        assert_eq!(shown("maint").as_deref(), Some("drain"));
        assert_eq!(shown("fail 999%").as_deref(), Some("failed 256%"));
        assert_eq!((shown(""), shown("hello"), shown("#up"), shown("-5%")), (None, None, None, None));
    }
}
