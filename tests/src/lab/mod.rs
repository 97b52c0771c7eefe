//! The lab: a whole host inside a network namespace, the real `baton` on it, real clients in front.
//!
//! A lab host has no route to anywhere but its own services, so no packet of a test can leave the machine.
//! Whatever a test started is gone when the lab is dropped, also when the test fails.

#![expect(clippy::missing_panics_doc, reason = "a test fails by a panic, wherever in the lab")]

mod client;
mod leftovers;

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use baton::load::{self, Plan, Report, RequestKind};
use baton::net::netlink::Netlink;
use baton::net::netns::{NetnsHandle, run_in};
use baton::paths::Roots;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::lan;

pub use client::{Answer, Client};
pub use leftovers::{leftovers, network_leftovers};

/// The port of every lab's service.
const PORT: u16 = 8080;
/// Nothing in the lab takes longer, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A host with one service, not yet started.
pub struct Lab {
    netns: NetnsHandle,
    name: String,
    vip: SocketAddrV4,
    files: TempDir,
    controller: Option<Child>,
    command_line: Vec<String>,
    starts: u32,
}

impl Lab {
    /// A host of its own with a service of its own name.
    pub fn new() -> Self {
        let netns = NetnsHandle::anonymous().expect("namespaces: run the tests as root");
        // The loopback interface has index 1 in every namespace.
        run_async(async { Netlink::open(&netns).unwrap().set_up(1).await }).unwrap();
        Self::on(netns)
    }

    /// A service of its own name on the same host.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self::on(self.netns.try_clone().unwrap())
    }

    fn on(netns: NetnsHandle) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let name = format!("lab-{process}-{number}");
        // Services of one machine never share a VIP, even on hosts that do not see each other.
        let [_, high, middle, low] = (process << 6 | number & 0x3f).to_be_bytes();
        let vip = SocketAddrV4::new(Ipv4Addr::new(10, 78 + high % 16, middle, low), PORT);
        let files = tempfile::tempdir().unwrap();
        Self { netns, name, vip, files, controller: None, command_line: Vec::new(), starts: 0 }
    }

    /// Another machine at [`lan::OUTSIDE`], on a cable to this host at [`lan::HOST`]; it knows the way to the
    /// VIP and to nothing else. To be asked for once a host, before its service is up.
    pub fn machine(&self) -> NetnsHandle {
        let machine = NetnsHandle::anonymous().unwrap();
        run_async(async {
            lan::cable(&self.netns, "eth0", lan::HOST, &machine, lan::OUTSIDE).await;
            lan::route(&machine, &format!("{}/32", self.vip.ip()), lan::HOST).await;
        });
        machine
    }

    /// The host's namespace.
    pub fn netns(&self) -> &NetnsHandle {
        &self.netns
    }

    /// Where clients of the service go.
    pub fn vip(&self) -> SocketAddrV4 {
        self.vip
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A file that vanishes with the lab.
    pub fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Starts the service with quick checks and waits until both backends are ready.
    pub fn up(&mut self, flags: &[&str], command: &[&str]) {
        let quick = ["--check-period", "50ms", "--probe-period", "100ms"];
        self.up_as(&[&quick, flags].concat(), command);
    }

    /// Starts the service with checks as they are for everybody and waits until both backends are ready.
    pub fn up_as(&mut self, flags: &[&str], command: &[&str]) {
        let mut line: Vec<String> =
            ["up", "--vip", &self.vip.to_string(), "--name", &self.name].map(str::to_owned).to_vec();
        line.extend(flags.iter().chain(&["--"]).chain(command).map(|word| (*word).to_owned()));
        self.command_line = line;
        self.up_again();
    }

    /// Starts the controller again with the same command line, and waits until both backends are ready.
    pub fn up_again(&mut self) {
        self.start();
        eventually("both backends are ready", || {
            let exited = self.controller.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(exited.is_none(), "the controller ended: {}", self.output());
            let mut states = self.states();
            states.sort();
            states == ["active", "standby"]
        });
    }

    /// Starts the controller again with the same command line, whatever becomes of it.
    pub fn start_again(&mut self) {
        self.start();
    }

    /// Starts the controller again, which is to refuse; its exit code, and what it said.
    pub fn up_refused(&mut self) -> (Option<i32>, String) {
        self.start();
        let mut status = None;
        eventually("the controller refuses", || {
            status = self.controller.as_mut().and_then(|child| child.try_wait().unwrap());
            status.is_some()
        });
        self.controller = None;
        (status.and_then(|status| status.code()), self.output())
    }

    fn start(&mut self) {
        self.starts += 1;
        let output = File::create(self.output_file()).unwrap();
        self.start_into(output);
    }

    /// Starts the controller again with the same command line; what it prints and logs goes there.
    pub fn start_into(&mut self, output: impl Into<OwnedFd>) {
        let output = output.into();
        let mut command = Command::new(baton());
        command
            .args(&self.command_line)
            .stdin(Stdio::null())
            .stderr(output.try_clone().unwrap())
            .stdout(output);
        self.controller = Some(run_in(&self.netns, || command.spawn()).unwrap().unwrap());
    }

    /// Starts the healthy service and waits until both backends are ready.
    pub fn up_healthy(&mut self, flags: &[&str]) {
        let log = self.execution_log();
        let service = aging_service();
        let command =
            [&service, "--listen", "0.0.0.0:8080", "--healthy", "--execution-log", log.to_str().unwrap()];
        self.up(flags, &command);
    }

    /// Where the service of [`Lab::up_healthy`] writes down what it executed.
    pub fn execution_log(&self) -> PathBuf {
        self.file("executed")
    }

    fn output_file(&self) -> PathBuf {
        self.file(&format!("controller-{}", self.starts))
    }

    /// What the controller has printed since it was last started.
    pub fn output(&self) -> String {
        fs::read_to_string(self.output_file()).unwrap_or_default()
    }

    /// The controller's process id.
    pub fn controller(&self) -> u32 {
        self.controller.as_ref().expect("a controller").id()
    }

    /// Kills the controller as a crash would.
    pub fn kill_controller(&mut self) {
        let mut controller = self.controller.take().expect("a controller");
        controller.kill().unwrap();
        controller.wait().unwrap();
    }

    /// Ends the controller in good order and returns its exit code.
    pub fn end_controller(&mut self) -> Option<i32> {
        self.controller.take().and_then(end_in_order)
    }

    /// Runs `baton` on the host to its end.
    pub fn baton(&self, words: &[&str]) -> Output {
        run_in(&self.netns, || Command::new(baton()).args(words).stdin(Stdio::null()).output())
            .unwrap()
            .unwrap()
    }

    /// `baton rejuvenate --wait --json`: the exit code and the report, or what it said instead.
    pub fn rejuvenate(&self) -> (Option<i32>, Result<Value, String>) {
        let output = self.baton(&["rejuvenate", &self.name, "--wait", "--json"]);
        let mut document: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let report = document.get_mut("report").map(Value::take).filter(|report| !report.is_null());
        let said = || String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), report.ok_or_else(said))
    }

    /// The service in `baton status --json`; null while no controller answers.
    pub fn status(&self) -> Value {
        let output = self.baton(&["status", "--name", &self.name, "--json"]);
        let mut all: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        all.get_mut(0).map(Value::take).filter(|found| found["error"].is_null()).unwrap_or_default()
    }

    /// The states of both backends.
    pub fn states(&self) -> Vec<String> {
        let text = |backend: &Value| backend["state"].as_str().unwrap_or_default().to_owned();
        self.status()["backends"].as_array().map(|all| all.iter().map(text).collect()).unwrap_or_default()
    }

    /// A backend of the status by its state.
    pub fn backend(&self, state: &str) -> Value {
        let status = self.status();
        let backends = status["backends"].as_array().expect("a service that is up");
        backends
            .iter()
            .find(|backend| backend["state"] == state)
            .unwrap_or_else(|| panic!("{status:#}"))
            .clone()
    }

    /// The events of the service, one line each.
    pub fn events(&self) -> String {
        String::from_utf8(self.baton(&["events", "--name", &self.name]).stdout).unwrap()
    }

    /// Every drain report that was kept, oldest first.
    pub fn reports(&self) -> Vec<Value> {
        let files = fs::read_dir(self.state_dir().join("reports")).into_iter().flatten().flatten();
        let read = |path: PathBuf| serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let mut reports: Vec<Value> = files.map(|file| read(file.path())).collect();
        reports.sort_by_key(|report| report["cycle"].as_u64());
        reports
    }

    fn state_dir(&self) -> PathBuf {
        Roots::default().service(&self.name.parse().unwrap()).state_dir()
    }

    /// Puts load on the service from this host until `time` is over, while `meanwhile` runs.
    pub fn load(&self, rate: f64, time: Duration, kinds: &[&str], meanwhile: impl FnOnce()) -> Report {
        let plan = self.load_plan(rate, time, kinds);
        thread::scope(|scope| {
            let load = scope.spawn(|| run_in(&self.netns, || load::run_blocking(&plan, &mut ())));
            meanwhile();
            load.join().unwrap().unwrap().unwrap()
        })
    }

    /// A plan of requests to the service.
    pub fn load_plan(&self, rate: f64, time: Duration, kinds: &[&str]) -> Plan {
        let mut plan = Plan::new(self.vip.into());
        plan.kinds = kinds.iter().map(|kind| kind.parse::<RequestKind>().unwrap()).collect();
        (plan.rate, plan.duration) = (rate, time);
        plan
    }

    /// Opens a connection to the VIP from this host.
    pub fn connect(&self) -> Client {
        Client::connect(&self.netns, self.vip).expect("a service that accepts")
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let said = self.output();
        self.end_controller();
        let down = self.baton(&["down", "--name", &self.name]);
        // Reports outlive a service, but not its tests.
        let reports = fs::remove_dir_all(self.state_dir());
        if thread::panicking() {
            eprintln!("the controller said:\n{said}");
            return;
        }
        assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
        assert!(reports.is_ok() || !self.state_dir().exists(), "{reports:?}");
        let mut left = leftovers(&self.name);
        left.extend(network_leftovers(&self.netns, &self.name));
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

/// Runs something asynchronous to its end.
fn run_async<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Ends a controller in good order, or by force if that takes too long; its exit code.
pub fn end_in_order(controller: Child) -> Option<i32> {
    // One that has ended already is only reaped.
    let _ = kill(Pid::from_raw(controller.id().cast_signed()), Signal::SIGTERM);
    await_end(controller)
}

/// Waits for the end of a controller that was told to end, and ends it by force if that takes too long; its exit
/// code.
pub fn await_end(mut controller: Child) -> Option<i32> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match controller.try_wait().unwrap() {
            Some(status) => return status.code(),
            None if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            None => {
                controller.kill().unwrap();
                return controller.wait().unwrap().code();
            }
        }
    }
}

/// Waits for a condition.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The `baton` that was built beside the tests.
pub fn baton() -> PathBuf {
    beside_tests("baton")
}

/// The aging service that was built beside the tests.
pub fn aging_service() -> String {
    beside_tests("aging-service").to_str().unwrap().to_owned()
}

fn beside_tests(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    // Tests are one directory further down than programs.
    let directories = own.ancestors().skip(1);
    let profile = directories.into_iter().find(|directory| !directory.ends_with("deps"));
    let path = profile.map(|profile| profile.join(name)).unwrap_or_default();
    assert!(Path::new(&path).exists(), "{} is not built: `cargo xtask build` builds it", path.display());
    path
}
