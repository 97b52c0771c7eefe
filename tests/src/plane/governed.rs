//! The machines with a balancer on which `baton run` is at work: what an operator has, from the file to the packet.
//!
//! What always holds: data plane, services and their files have names that no other test has, and are gone when
//! the test is over, also when it fails.

use std::fs::{self, File};
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use baton::dataplane::{AttachPoint, Dataplane, Mode, XdpProgram, unload};
use baton::net::netns::run_in;
use baton::paths::Roots;
use lb_common::Forwarding;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::{Options, Site, backend_name};
use crate::lab::{await_end, baton, eventually};
use crate::pins;
use crate::systemd::{Plan, SystemdMachine};

/// Machines whose balancer is governed by `baton run`.
pub struct Governed {
    site: Site,
    /// How many this process made before.
    pub(super) number: u32,
    /// The name of its data plane, which its services' names begin with.
    name: String,
    files: TempDir,
    /// What the balancer's machine is booted with; `None` if it is the host, in a network of its own.
    init: Option<SystemdMachine>,
    controller: Option<Child>,
    starts: u32,
    /// Lets packets pass at the far ends of the cables.
    far_ends: Dataplane,
    pins: PathBuf,
}

/// The configuration file.
const CONFIG: &str = "baton.toml";

impl Governed {
    /// Lays the cables; nothing is steered yet.
    pub fn new(options: Options) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let pins = pins::fresh();
        let mut governed = Self {
            site: Site::new(options),
            number,
            name: format!("run-{}-{number}", std::process::id()),
            files: tempfile::tempdir().unwrap(),
            init: None,
            controller: None,
            starts: 0,
            far_ends: Dataplane::open(&pins, 1024).expect("a kernel that loads XDP programs"),
            pins,
        };
        governed.let_pass_at_far_ends();
        // Clients are beyond the first of them, as behind a site's router.
        let client = governed.client(0).address;
        governed.balancer().ip(&[format!("route add default via {client}")]);
        if options.forwarding == Forwarding::Ipip {
            for number in 0..options.backends {
                let gear = governed.backend(number).decapsulate();
                governed.services.push(gear);
            }
        }
        governed
    }

    fn let_pass_at_far_ends(&mut self) {
        for (number, cable) in self.site.wiring.cables().iter().enumerate() {
            let point = AttachPoint {
                netns: Some(cable.far_netns.clone()),
                interface: cable.far.clone(),
                program: XdpProgram::Pass,
            };
            self.far_ends.attach(&point, &format!("far{number}"), Mode::Native).expect("native XDP on veth");
        }
    }

    /// A service's name.
    pub fn service(&self, service: &str) -> String {
        format!("{}-{service}", self.name)
    }

    /// A file that vanishes with the test.
    pub fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Boots the balancer's machine, in which the controller and all commands run from then on. Its units find the
    /// networks of the backends by their names in `/run/netns`.
    pub fn boot(&mut self, units: Vec<(String, String)>) {
        let backends = (0..self.options.backends).map(|n| (backend_name(n), &self.backend(n).netns));
        let plan = Plan {
            netns: &self.balancer().netns,
            units,
            wanted: Vec::new(),
            shares: vec![self.files.path().to_owned()],
            networks: backends.collect(),
        };
        self.init = Some(SystemdMachine::boot(&plan));
    }

    /// The balancer's machine, once it is booted.
    pub fn init(&self) -> &SystemdMachine {
        self.init.as_ref().expect("a machine that is booted")
    }

    /// `baton` on the balancer's machine.
    fn command(&self) -> Command {
        match &self.init {
            Some(init) => {
                let mut command = init.entrance();
                command.arg(baton());
                command
            }
            None => Command::new(baton()),
        }
    }

    /// Starts the echo of datagrams on every backend; services of TCP are started by their drivers.
    pub fn serve_datagrams(&mut self) {
        for number in 0..self.options.backends {
            let address = self.listens_on(number);
            let echo = self.backend(number).serve_echo(address, number as u8);
            self.services.push(echo);
        }
    }

    /// Writes the configuration.
    pub fn configure(&self, services: &[String]) {
        fs::write(self.file(CONFIG), format!("{}{}", self.data_plane(), services.concat())).unwrap();
    }

    /// Starts the controller.
    pub fn start(&mut self) {
        self.starts += 1;
        let output = File::create(self.output_file()).unwrap();
        let mut command = self.command();
        command
            .args(["run", "--plane", &self.name, "--config"])
            .arg(self.file(CONFIG))
            .stdin(Stdio::null())
            .stderr(output.try_clone().unwrap())
            .stdout(output);
        self.controller = Some(run_in(&self.balancer().netns, || command.spawn()).unwrap().unwrap());
    }

    /// Writes the configuration, starts the controller and waits until every backend is ready.
    pub fn up(&mut self, services: &[String]) {
        self.configure(services);
        self.start();
        self.until_ready(services.len());
    }

    /// Waits until every backend of so many services is ready.
    pub fn until_ready(&mut self, services: usize) {
        eventually("every backend is ready", || {
            let exited = self.controller.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(exited.is_none(), "the controller ended: {}", self.output());
            let all = self.status();
            all.len() == services && all.iter().all(is_ready)
        });
    }

    /// The status of this test's services.
    pub fn status(&self) -> Vec<Value> {
        let output = self.baton(&["status", "--json"]);
        let all: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let is_own =
            |service: &Value| service["service"].as_str().is_some_and(|name| name.starts_with(&self.name));
        all.into_iter().filter(is_own).collect()
    }

    /// The backends of a service that are in this state.
    pub fn backends_in(&self, service: &str, state: &str) -> Vec<String> {
        let name = self.service(service);
        let all = self.status();
        let backends = all.iter().filter(|found| found["service"] == name.as_str());
        let backends = backends.flat_map(|found| found["backends"].as_array().cloned().unwrap_or_default());
        let found = backends.filter(|backend| backend["state"] == state);
        found.filter_map(|backend| Some(backend["name"].as_str()?.to_owned())).collect()
    }

    /// Network namespaces of a service whose backends run on the balancer.
    pub fn namespaces(&self, service: &str) -> usize {
        let prefix = format!("baton-{}-", self.service(service));
        let entries = fs::read_dir(Roots::default().netns).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)))
            .count()
    }

    /// What the controller has printed since it was last started.
    pub fn output(&self) -> String {
        fs::read_to_string(self.output_file()).unwrap_or_default()
    }

    fn output_file(&self) -> PathBuf {
        self.file(&format!("controller-{}", self.starts))
    }

    /// Runs `baton` on the balancer to its end.
    pub fn baton(&self, words: &[&str]) -> Output {
        let run = || self.command().args(words).stdin(Stdio::null()).output();
        run_in(&self.balancer().netns, run).unwrap().unwrap()
    }

    /// `baton reload`: what it said, good or bad.
    pub fn reload(&self) -> Result<String, String> {
        let output = self.baton(&["reload", "--plane", &self.name]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Rejuvenates a backend, or the active one, and returns the report; panics if a connection was cut.
    pub fn rejuvenate(&self, service: &str, backend: Option<&str>) -> Value {
        let name = self.service(service);
        let mut words = vec!["rejuvenate", &name, "--wait", "--json"];
        if let Some(backend) = backend {
            words.extend(["--backend", backend]);
        }
        let output = self.baton(&words);
        assert!(
            output.status.success(),
            "{}\n{}\n{}",
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout),
            self.output()
        );
        let mut document: Value = serde_json::from_slice(&output.stdout).unwrap();
        document["report"].take()
    }

    /// Every report of a service that was kept, oldest first.
    pub fn reports(&self, service: &str) -> Vec<Value> {
        let paths = Roots::default().service(&self.service(service).parse().unwrap());
        let files = fs::read_dir(paths.reports()).into_iter().flatten().flatten();
        let read = |path| serde_json::from_slice::<Value>(&fs::read(path).ok()?).ok();
        let mut reports: Vec<_> = files.filter_map(|file| read(file.path())).collect();
        reports.sort_by_key(|report| report["cycle"].as_u64());
        reports
    }

    /// Kills the controller as a crash would.
    pub fn kill_controller(&mut self) {
        self.signal(Signal::SIGKILL);
        self.controller.take().expect("a controller").wait().unwrap();
    }

    /// Ends the controller in good order and returns its exit code.
    pub fn end_controller(&mut self) -> Option<i32> {
        self.controller.as_ref()?;
        // Not who entered the machine is told, who would leave the controller alone.
        self.signal(Signal::SIGTERM);
        self.controller.take().and_then(await_end)
    }

    /// Signals the controller.
    pub fn signal(&self, signal: Signal) {
        // It may have ended, which is for the caller to find out.
        let _ = self.controller_pid().map(|pid| kill(pid, signal));
    }

    /// The controller's process; in a machine with an init of its own it is the child of who entered.
    pub fn controller_pid(&self) -> Option<Pid> {
        let child = self.controller.as_ref().expect("a controller").id();
        if self.init.is_none() {
            return Some(Pid::from_raw(child.cast_signed()));
        }
        let children = fs::read_to_string(format!("/proc/{child}/task/{child}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok().map(Pid::from_raw)
    }
}

fn is_ready(service: &Value) -> bool {
    let backends = service["backends"].as_array().map(Vec::as_slice).unwrap_or_default();
    let stands = |backend: &Value| backend["state"] == "active" || backend["state"] == "standby";
    !backends.is_empty() && backends.iter().all(stands)
}

impl Deref for Governed {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl DerefMut for Governed {
    fn deref_mut(&mut self) -> &mut Site {
        &mut self.site
    }
}

impl Drop for Governed {
    fn drop(&mut self) {
        let said = self.output();
        self.end_controller();
        let unloaded = self.baton(&["unload", "--plane", &self.name]);
        for number in 0..self.options.backends {
            let pid =
                fs::read_to_string(self.pid_file(number)).ok().and_then(|text| text.trim().parse().ok());
            // It may have ended.
            let _ = pid.map(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL));
        }
        unload(&self.pins).expect("pins that can be removed");
        let roots = Roots::default();
        for entry in fs::read_dir(&roots.state).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(&self.name)) {
                // Reports outlive a service, but not its tests.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        if std::thread::panicking() {
            eprintln!("the controller said:\n{said}");
            return;
        }
        assert!(unloaded.status.success(), "{}", String::from_utf8_lossy(&unloaded.stderr));
        let plane = roots.plane(&self.name.parse().unwrap());
        assert!(plane.pinned().is_empty() && !plane.run_dir().exists(), "{plane:?} is left");
    }
}
