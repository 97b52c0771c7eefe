//! The service under `baton up`: started, watched through its reports, and taken down without a trace.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::child::{Guarded, run};
use super::interrupt::Interrupt;
use super::ready::wait_until_ready;
use super::supervisor::PROBE_PERIOD;

const NAME: &str = "demo";
const VIP: &str = "10.77.0.1";
const PORT: u16 = 8080;
/// Where Baton keeps one JSON document for each rejuvenation of the service.
const REPORTS: &str = "/var/lib/baton/demo/reports";
/// Ending means stopping both backends and removing the namespaces.
const STOP_GRACE: Duration = Duration::from_secs(30);

/// A running `baton up`.
pub(super) struct UnderBaton {
    baton: PathBuf,
    /// `None` once it was stopped.
    up: Option<Guarded>,
    log: PathBuf,
    /// Reports that are older are those of earlier runs.
    started: SystemTime,
}

impl UnderBaton {
    /// The port that the command has to listen on, at all addresses.
    pub(super) const PORT: u16 = PORT;

    /// Where clients reach the service.
    pub(super) fn address() -> Result<SocketAddr> {
        format!("{VIP}:{PORT}").parse().context("the demo's own address")
    }

    /// Starts `command` under Baton with a limit of memory.
    pub(super) fn start(baton: &Path, command: &Command, limit_mib: u64, log: &Path) -> Result<Self> {
        down(baton);
        let started = SystemTime::now();
        let output = File::create(log).with_context(|| format!("create {}", log.display()))?;
        let mut up = Command::new(baton);
        up.args(["up", "--name", NAME, &format!("--vip={VIP}:{PORT}"), &format!("--port={PORT}")])
            .arg(format!("--memory-max={limit_mib}MiB"))
            .arg(format!("--probe-period={}ms", PROBE_PERIOD.as_millis()))
            .arg("--")
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("share a log")?)
            .stderr(output);
        let up = Guarded::spawn(&mut up, STOP_GRACE)?;
        Ok(Self { baton: baton.to_owned(), up: Some(up), log: log.to_owned(), started })
    }

    /// Returns when one backend is active and the other stands by. The VIP is not asked before that: until
    /// Baton has made a route to it, packets for it would leave the machine.
    pub(super) fn wait_until_ready(&mut self, interrupt: &Interrupt) -> Result<()> {
        let Some(up) = &mut self.up else { return Ok(()) };
        let (log, baton) = (&self.log, &self.baton);
        wait_until_ready(interrupt, || match up.exited()? {
            None => Ok(are_both_ready(baton)),
            Some(status) => bail!("`baton up` ended ({status}): {}", last_line(log)),
        })
        .with_context(|| format!("see {}", log.display()))
    }

    /// Rejuvenations that have ended since the start.
    pub(super) fn rejuvenations(&self) -> usize {
        // A directory that cannot be read now is read at the end, where it is an error.
        report_files(self.started).map_or(0, |files| files.len())
    }

    /// The drain report of each of them, oldest first.
    pub(super) fn reports(&self) -> Result<Vec<Value>> {
        let read = |path: &PathBuf| -> Result<Value> {
            let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            serde_json::from_str(&text).with_context(|| format!("{} is no JSON document", path.display()))
        };
        let mut reports = report_files(self.started)?.iter().map(read).collect::<Result<Vec<_>>>()?;
        reports.sort_by_key(|report| report["cycle"].as_u64());
        Ok(reports)
    }

    /// Ends the service and removes everything that was made for it.
    pub(super) fn stop(&mut self) -> Result<()> {
        if let Some(mut up) = self.up.take() {
            up.stop()?;
            down(&self.baton);
        }
        Ok(())
    }
}

impl Drop for UnderBaton {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("warning: {error:#}");
        }
    }
}

/// Whether the controller says that one backend is active and the other stands by; any error means: not yet.
fn are_both_ready(baton: &Path) -> bool {
    let mut command = Command::new(baton);
    command.args(["status", "--name", NAME, "--json"]).stdin(Stdio::null()).stderr(Stdio::null());
    let Ok(output) = command.output() else { return false };
    let services: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let states: Vec<_> = services[0]["backends"]
        .as_array()
        .map(|backends| backends.iter().filter_map(|backend| backend["state"].as_str()).collect())
        .unwrap_or_default();
    ["active", "standby"].iter().all(|state| states.contains(state))
}

/// Removes what a killed `baton up` left, if it did.
fn down(baton: &Path) {
    let mut command = Command::new(baton);
    command.args(["down", "--name", NAME]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Mostly there is nothing to remove, which is no error; what could not be removed shows at the next `up`.
    let _ = run(&mut command, STOP_GRACE);
}

/// The service's reports that were written after `started`; none if there is no directory yet.
fn report_files(started: SystemTime) -> Result<Vec<PathBuf>> {
    let cannot = || format!("read {REPORTS}");
    let entries = match fs::read_dir(REPORTS) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(cannot),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.with_context(cannot)?;
        let written = entry.metadata().and_then(|metadata| metadata.modified()).with_context(cannot)?;
        if written >= started && entry.path().extension() == Some(OsStr::new("json")) {
            files.push(entry.path());
        }
    }
    Ok(files)
}

fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
}
