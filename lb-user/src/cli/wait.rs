//! `baton wait`: until a service stands as a script needs it.

use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::Args;

use super::operate::{End, Outcome, tell};
use super::{TimedOut, runtime};
use crate::api::client::{self, ClientError};
use crate::api::status::{BackendStatus, Done, ServiceStatus};
use crate::clock::Now;
use crate::names::{BackendName, ServiceName};
use crate::recovery::State;

/// How often the controller is asked.
const PERIOD: Duration = Duration::from_millis(100);

/// Waits until a service stands like this; the exit code is 3 if it does not within --timeout.
///
/// While no controller answers, as during its restart, the wait goes on.
#[derive(Debug, Args)]
pub(super) struct WaitForArgs {
    /// The service.
    #[arg(value_name = "SERVICE")]
    name: ServiceName,
    /// `drained`: no backend is finishing old connections; `standby-ready`: a standby is ready to take over;
    /// `state=NAME`: some backend is in this state, as `baton status` names it.
    #[arg(long = "for", value_name = "WHAT")]
    condition: Condition,
    /// Look at this backend only.
    #[arg(long, value_name = "NAME")]
    backend: Option<BackendName>,
    /// How long to wait.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Print one JSON document, as the verbs do: `result`, and how the backends stand in `message`.
    #[arg(long)]
    json: bool,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Drained,
    State(State),
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "drained" => return Ok(Self::Drained),
            "standby-ready" => return Ok(Self::State(State::Standby)),
            _ => {}
        }
        let named = text.strip_prefix("state=");
        let state = State::ALL.into_iter().find(|state| named == Some(state.to_string().as_str()));
        state.map(Self::State).ok_or_else(|| {
            let states: Vec<_> = State::ALL.iter().map(ToString::to_string).collect();
            format!("use `drained`, `standby-ready`, or `state=` with one of {}", states.join(", "))
        })
    }
}

impl Condition {
    fn holds(self, backends: &[&BackendStatus]) -> bool {
        let is = |backend: &BackendStatus, state: State| backend.state == state.to_string();
        match self {
            Self::Drained => !backends.iter().any(|one| is(one, State::Draining) || is(one, State::Drained)),
            Self::State(state) => backends.iter().any(|one| is(one, state)),
        }
    }
}

/// The service, as it will stand; from when on and how long that is waited for.
pub(super) struct Awaited<'a> {
    pub(super) service: &'a ServiceName,
    pub(super) start: Now,
    pub(super) limit: Duration,
}

impl Awaited<'_> {
    /// Waits until the service stands like this; what it was then. While no controller answers, the wait goes on.
    pub(super) fn until(&self, is_so: impl FnMut(&ServiceStatus) -> Result<bool>) -> Result<ServiceStatus> {
        self.until_at(&super::socket_of(self.service)?, is_so)
    }

    fn until_at(
        &self,
        socket: &Path,
        mut is_so: impl FnMut(&ServiceStatus) -> Result<bool>,
    ) -> Result<ServiceStatus> {
        let runtime = runtime()?;
        let mut last = "no controller answers".to_owned();
        loop {
            match runtime.block_on(client::get::<ServiceStatus>(socket, "/v1/status")) {
                Ok(status) if is_so(&status)? => return Ok(status),
                Ok(status) => last = standing(&status),
                Err(
                    ClientError::NotRunning
                    | ClientError::Ending
                    | ClientError::TimedOut
                    | ClientError::Broken(_),
                ) => {}
                Err(error) => return Err(super::not_done(self.service, error)),
            }
            let left = self.limit.saturating_sub(Duration::from_millis(Now::read().ms_since(self.start)));
            if left.is_zero() {
                let waited = humantime::format_duration(self.limit);
                let message = format!("service {}: not so after {waited}: {last}", self.service);
                return Err(anyhow!(TimedOut(message)));
            }
            std::thread::sleep(PERIOD.min(left));
        }
    }
}

/// Whether a backend is in one of these states.
pub(super) fn is_in(status: &ServiceStatus, backend: &BackendName, states: &[State]) -> bool {
    let found = status.backends.iter().find(|known| known.name == *backend);
    found.is_some_and(|found| states.iter().any(|state| found.state == state.to_string()))
}

impl WaitForArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let awaited = Awaited { service: &self.name, start: Now::read(), limit: self.timeout };
        let ended = awaited
            .until(|status| Ok(self.condition.holds(&self.chosen(status)?)))
            .map(|status| End::new(Outcome::Done, standing(&status), Done::default()));
        if self.json {
            let nothing = Done::default();
            tell(&ended, &nothing, &self.name, "wait", self.backend.as_ref(), true)?;
        }
        ended.map(|_| ExitCode::SUCCESS)
    }

    fn chosen<'a>(&self, status: &'a ServiceStatus) -> Result<Vec<&'a BackendStatus>> {
        let Some(name) = &self.backend else { return Ok(status.backends.iter().collect()) };
        match status.backends.iter().find(|backend| backend.name == *name) {
            Some(backend) => Ok(vec![backend]),
            None => bail!("service {} has no backend `{name}`: {}", self.name, standing(status)),
        }
    }
}

fn standing(status: &ServiceStatus) -> String {
    let backends = status.backends.iter();
    backends.map(|one| format!("{} is {}", one.name, one.state)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    #[test]
    fn a_controller_that_ends_or_breaks_off_is_waited_through() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control");
        let status = r#"{"service":"shop","vip":"10.77.0.1:80","controller":1,"epoch":0,"rejuvenations":0,
            "activity":null,"backends":[],"packets":[]}"#;
        let answer = |code: &str, body: &str| {
            let length = body.len();
            format!("HTTP/1.1 {code}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
        };
        let answers = [
            answer("503 Service Unavailable", "the controller is ending"),
            answer("502 Bad Gateway", "it ended before it answered"),
            String::new(),
            answer("200 OK", status),
        ];
        let listener = UnixListener::bind(&socket).unwrap();
        let served = thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 1024]).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let service = "shop".parse().unwrap();
        let awaited = Awaited { service: &service, start: Now::read(), limit: Duration::from_secs(20) };
        let status = awaited.until_at(&socket, |_| Ok(true)).unwrap();
        assert_eq!(status.service, service);
        served.join().unwrap();
    }

    #[test]
    fn conditions_are_read_as_they_are_documented() {
        assert_eq!("drained".parse(), Ok(Condition::Drained));
        assert_eq!("standby-ready".parse(), Ok(Condition::State(State::Standby)));
        for state in State::ALL {
            assert_eq!(format!("state={state}").parse(), Ok(Condition::State(state)));
        }
        for bad in ["", "state=", "state=gone", "standby", "Drained"] {
            let why = bad.parse::<Condition>().unwrap_err();
            assert!(why.contains("maintenance"), "{bad}: {why}");
        }
    }
}
