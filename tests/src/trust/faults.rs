//! The rounds: a rejuvenation each, some with a fault.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use serde_json::Value;

use super::judge::Death;
use super::{SERVICE, Trial};
use crate::lab::{Client, eventually};
use crate::plane::backend_name;

/// What goes wrong in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// No standby passes its checks when the rejuvenation is asked for.
    StandbyFails,
    /// The command that starts the backend again hangs.
    RestartHangs,
    /// The controller is killed in the middle, and another one started.
    ControllerKilled,
    /// The backend that has just taken over is killed.
    NewActiveDies,
}

impl Fault {
    /// In the order in which they come.
    pub const ALL: [Self; 4] =
        [Self::StandbyFails, Self::RestartHangs, Self::ControllerKilled, Self::NewActiveDies];
}

/// What became of a round.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// Counted from 1.
    pub round: u32,
    /// What went wrong, if anything did.
    pub fault: Option<Fault>,
    /// How each of its rejuvenations ended, and what its report or the refusal says of the fault.
    pub said: Vec<String>,
}

impl Trial {
    /// A rejuvenation with nothing wrong.
    pub(super) fn plain(&mut self) -> Vec<String> {
        let report = self.governed.rejuvenate(SERVICE, None);
        assert_clean(&report);
        assert!(report.get("troubles").is_none(), "{report:#}");
        vec![in_words(&report)]
    }

    pub(super) fn standby_fails(&mut self) -> Vec<String> {
        let standbys = self.governed.backends_in(SERVICE, "standby");
        for name in &standbys {
            kill(self.pid(name), Signal::SIGSTOP).unwrap();
        }
        eventually("no standby passes its checks", || {
            self.governed.backends_in(SERVICE, "standby").is_empty()
        });
        let active = self.governed.backends_in(SERVICE, "active");
        let output = self.governed.baton(&["rejuvenate", &self.name(), "--wait", "--json"]);
        let refusal = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        assert_eq!(output.status.code(), Some(1), "{refusal}");
        for name in &standbys {
            assert!(refusal.contains("no standby is ready") && refusal.contains(name), "{refusal}");
        }
        assert_eq!(self.governed.backends_in(SERVICE, "active"), active, "{refusal}");
        // What never answers again is restarted without being told to.
        self.governed.until_ready(1);
        let mut said = vec![refusal];
        said.extend(self.plain());
        said
    }

    pub(super) fn restart_hangs(&mut self) -> Vec<String> {
        let active = self.governed.backends_in(SERVICE, "active").remove(0);
        fs::write(self.governed.file(&format!("hang-{}", self.number(&active))), "").unwrap();
        let report = self.governed.rejuvenate(SERVICE, None);
        assert_clean(&report);
        let troubles = report["troubles"].to_string();
        assert!(troubles.contains(&active) && troubles.contains("did not end within"), "{report:#}");
        vec![in_words(&report)]
    }

    pub(super) fn controller_killed(&mut self) -> Vec<String> {
        self.controllers_killed += 1;
        let before = self.reports().len();
        let active = self.governed.backends_in(SERVICE, "active");
        let asked = self.governed.baton(&["rejuvenate", &self.name()]);
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
        // Every other time when the old backend has been told to end.
        let drains = self.controllers_killed % 2 == 1;
        if !drains {
            eventually("it does not drain any more", || {
                self.governed.backends_in(SERVICE, "draining").is_empty()
                    && self.governed.backends_in(SERVICE, "drained").is_empty()
            });
        }
        self.governed.kill_controller();
        self.governed.start();
        self.governed.until_ready(1);
        assert_ne!(self.governed.backends_in(SERVICE, "active"), active);
        eventually("there is a report", || self.reports().len() > before);
        let report = self.reports().remove(before);
        assert_clean(&report);
        let troubles = report["troubles"].to_string();
        // Else it was over when the controller died.
        assert!(!drains || troubles.contains("another one took over"), "{report:#}");
        vec![in_words(&report)]
    }

    pub(super) fn new_active_dies(&mut self) -> Vec<String> {
        let before = self.reports().len();
        let old = self.governed.backends_in(SERVICE, "active").remove(0);
        // Somebody who stays, so that it still drains when the new one dies.
        let vip = self.governed.vip();
        let mut guest = Client::connect(&self.governed.client(0).netns, vip).expect("a service that accepts");
        assert_eq!(guest.get("/free").unwrap().backend, self.number(&old).to_string());
        let asked = self.governed.baton(&["rejuvenate", &self.name()]);
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
        let new = self.governed.backends_in(SERVICE, "active").remove(0);
        assert_ne!(new, old);
        let at_unix_ms = unix_ms();
        kill(self.pid(&new), Signal::SIGKILL).unwrap();
        eventually("both reports are there", || self.reports().len() >= before + 2);
        let reports = self.reports().split_off(before);
        let (undone, died) = (&reports[0], &reports[1]);
        assert_eq!((&undone["outcome"], &undone["from"]), (&"rolled_back".into(), &old.as_str().into()));
        assert!(undone["detail"].as_str().unwrap().starts_with(&format!("{new} failed")), "{undone:#}");
        assert_eq!(
            (&died["reason"]["code"], &died["from"]),
            (&"died".into(), &new.as_str().into()),
            "{died:#}"
        );
        assert!(died["outcome"].as_str().unwrap().starts_with("completed"), "{died:#}");
        self.cut_with_the_killed += died["cut"].as_array().map_or(0, Vec::len) as u64;
        self.deaths.push(Death {
            backend: self.number(&new).to_string(),
            at_unix_ms,
            over_unix_ms: died["times"]["handover_unix_ms"].as_u64().unwrap(),
        });
        self.governed.until_ready(1);
        assert_eq!(guest.get("/free").unwrap().backend, self.number(&old).to_string());
        reports.iter().map(in_words).collect()
    }

    /// Every report that was kept, oldest first.
    pub(super) fn reports(&self) -> Vec<Value> {
        self.governed.reports(SERVICE)
    }

    fn name(&self) -> String {
        self.governed.service(SERVICE)
    }

    fn number(&self, backend: &str) -> usize {
        (0..self.backends).find(|number| backend_name(*number) == backend).expect("a backend")
    }

    fn pid(&self, backend: &str) -> Pid {
        let status = self.governed.status();
        let mut all = status[0]["backends"].as_array().unwrap().iter();
        let pid = all.find(|one| one["name"] == backend).and_then(|one| one["pid"].as_i64());
        Pid::from_raw(i32::try_from(pid.expect("it runs")).unwrap())
    }
}

fn unix_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn assert_clean(report: &Value) {
    assert_eq!(report["outcome"], "completed", "{report:#}");
    assert_eq!(report["cut"].as_array().map(Vec::len), Some(0), "{report:#}");
    let (before, after) = (&report["proof"]["before"], &report["proof"]["after"]);
    assert!(before.is_object() && after.is_object() && before != after, "{report:#}");
}

fn in_words(report: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut words = vec![format!("{} ({})", text(&report["outcome"]), text(&report["reason"]["code"]))];
    words.extend(report["detail"].as_str().map(str::to_owned));
    words.extend(report["troubles"].as_array().into_iter().flatten().map(text));
    words.join("; ")
}
