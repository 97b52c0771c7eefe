//! The machines with a balancer on which `baton run` is at work: what an operator has, from the file to the packet.
//!
//! What always holds: data plane, services and their files have names that no other test has, and are gone when
//! the test is over, also when it fails.

use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use baton::dataplane::{AttachPoint, Dataplane, Mode, XdpProgram, unload};
use baton::net::netns::run_in;
use baton::paths::Roots;
use lb_common::Forwarding;
use lb_common::endpoint::TCP;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::{BACKEND_PORT, Options, Site};
use crate::lab::{aging_service, baton, end_in_order, eventually};
use crate::pins;

/// Machines whose balancer is governed by `baton run`.
pub struct Governed {
    site: Site,
    /// The name of its data plane, which its services' names begin with.
    name: String,
    files: TempDir,
    controller: Option<Child>,
    starts: u32,
    /// Lets packets pass at the far ends of the cables.
    far_ends: Dataplane,
    pins: PathBuf,
}

/// The configuration file.
const CONFIG: &str = "baton.toml";

/// What backends are called: `b0`, `b1`, …
pub fn backend_name(number: usize) -> String {
    format!("b{number}")
}

impl Governed {
    /// Lays the cables; nothing is steered yet.
    pub fn new(options: Options) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let pins = pins::fresh();
        let mut governed = Self {
            site: Site::new(options),
            name: format!("run-{}-{number}", std::process::id()),
            files: tempfile::tempdir().unwrap(),
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

    /// The part of a configuration that all services share.
    pub fn data_plane(&self) -> String {
        let interfaces: Vec<_> = self.site.wiring.cables().iter().map(|cable| cable.near.clone()).collect();
        format!("[data_plane]\ninterfaces = {interfaces:?}\nflow_table = 16_384\n")
    }

    /// A service of all backends at the VIP, with `settings` of its own.
    pub fn describe(&self, service: &str, settings: &str) -> String {
        self.describe_at(service, self.vip(), settings)
    }

    /// The same at another VIP.
    pub fn describe_at(&self, service: &str, vip: SocketAddr, settings: &str) -> String {
        let is_tcp = self.options.protocol == TCP;
        let forwarding = match self.options.forwarding {
            Forwarding::Nat => "nat",
            Forwarding::Dsr => "dsr",
            Forwarding::Ipip => "ipip",
        };
        let mut text = format!(
            "[[service]]\nname = \"{}\"\nvip = \"{vip}\"\nprotocol = \"{}\"\nforwarding = \"{forwarding}\"\n{settings}\n",
            self.service(service),
            if is_tcp { "tcp" } else { "udp" },
        );
        text.push_str("[service.check]\n");
        text.push_str(if is_tcp {
            "type = \"http\"\npath = \"/free\"\n"
        } else {
            "type = \"udp\"\npayload = \"well?\"\nanswer = \"well\"\n"
        });
        text.push_str("interval = \"50ms\"\nfast_interval = \"50ms\"\n");
        text.push_str("[service.rejuvenation]\nprobe_interval = \"100ms\"\n");
        for number in 0..self.options.backends {
            text.push_str(&self.describe_backend(number));
        }
        text
    }

    /// A VIP for a service whose backends run on the balancer.
    pub fn embedded_vip(&self) -> SocketAddr {
        // Services of one machine never share a VIP, even on hosts that do not see each other.
        let [_, high, middle, low] = (std::process::id() << 6).to_be_bytes();
        ([10, 94 + high % 16, middle, low | 1], BACKEND_PORT).into()
    }

    /// A service of processes on the balancer, each in a namespace of its own.
    pub fn describe_processes(
        &self,
        service: &str,
        vip: SocketAddr,
        backends: &[&str],
        settings: &str,
    ) -> String {
        let head = format!(
            "[[service]]\nname = \"{}\"\nvip = \"{vip}\"\n{settings}\n[service.check]\ntype = \"tcp\"\n\
             interval = \"50ms\"\nfast_interval = \"50ms\"\n",
            self.service(service)
        );
        let command = aging_service();
        let backends = backends.iter().map(|name| {
            format!(
                "[[service.backend]]\nname = \"{name}\"\naddress = \"0.0.0.0:{BACKEND_PORT}\"\n\
                 [service.backend.driver]\ntype = \"process\"\n\
                 command = [\"{command}\", \"--healthy\", \"--listen\", \"0.0.0.0:{BACKEND_PORT}\"]\n"
            )
        });
        std::iter::once(head).chain(backends).collect()
    }

    fn describe_backend(&self, number: usize) -> String {
        let name = backend_name(number);
        let address = SocketAddr::new(self.backend(number).address, BACKEND_PORT);
        let head = format!("[[service.backend]]\nname = \"{name}\"\naddress = \"{address}\"\n");
        let driver = if self.options.protocol == TCP {
            let (start, stop) = self.scripts(number);
            let pid_file = self.pid_file(number).display().to_string();
            format!("start = [\"{start}\"]\nstop = [\"{stop}\"]\npid_file = \"{pid_file}\"\n")
        } else {
            "restart = [\"/bin/true\"]\n".to_owned()
        };
        format!("{head}[service.backend.driver]\ntype = \"command\"\n{driver}")
    }

    /// The file that holds the process id of a backend.
    pub fn pid_file(&self, number: usize) -> PathBuf {
        self.file(&format!("pid-{number}"))
    }

    /// What starts and stops the service on a backend's machine, as an init script would.
    fn scripts(&self, number: usize) -> (String, String) {
        let machine = self.backend(number);
        let namespace = format!("/proc/{}/fd/{}", std::process::id(), machine.netns.file().as_raw_fd());
        let any: SocketAddr = if machine.address.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, BACKEND_PORT).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, BACKEND_PORT).into()
        };
        let pid_file = self.pid_file(number).display().to_string();
        let (service, hangs) = (aging_service(), self.file(&format!("hang-{number}")).display().to_string());
        let start = format!(
            "if mv {hangs} {hangs}.done 2>/dev/null; then sleep 600; fi\n\
             nsenter --net={namespace} {service} --healthy --listen {any} --backend {number} >/dev/null 2>&1 &\n\
             echo $! > {pid_file}\n"
        );
        // One that does not run on never hears that it is to end.
        let stop = format!("kill $(cat {pid_file})\nkill -CONT $(cat {pid_file})\n");
        (self.script(&format!("start-{number}"), &start), self.script(&format!("stop-{number}"), &stop))
    }

    /// A script of the test's own; its path.
    pub fn script(&self, name: &str, text: &str) -> String {
        let path = self.file(name);
        fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
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
        let mut command = Command::new(baton());
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
        let run = || Command::new(baton()).args(words).stdin(Stdio::null()).output();
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

    /// Signals the controller.
    pub fn signal(&self, signal: Signal) {
        let controller = self.controller.as_ref().expect("a controller").id();
        kill(Pid::from_raw(controller.cast_signed()), signal).expect("a controller");
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
