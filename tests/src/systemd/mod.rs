//! Machines that a real systemd runs: its own processes, files, units and boots, in the network of a lab.
//!
//! What always holds:
//! - A machine can write nothing of the host's but what it was given: its root is in memory, programs and
//!   libraries are bound into it to be read, and kernel settings but for those of its network, too.
//! - Whatever ends its init boots it anew, as a host does for its guests.
//! - It is gone when it is dropped, and when the process that made it ends in whatever way.

#![expect(clippy::missing_panics_doc, reason = "a test fails by a panic, wherever in the lab")]

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use baton::net::netns::{NetnsHandle, run_in};
use tempfile::TempDir;

use crate::lab::{PATIENCE, baton, eventually};

/// What a machine is booted with.
pub struct Plan<'a> {
    /// Its network.
    pub netns: &'a NetnsHandle,
    /// Units by name.
    pub units: Vec<(String, String)>,
    /// Units that are started at boot.
    pub wanted: Vec<String>,
    /// Directories of the host that it may write.
    pub shares: Vec<PathBuf>,
    /// Other networks, which it finds in `/run/netns` by these names.
    pub networks: Vec<(String, &'a NetnsHandle)>,
}

/// A machine with systemd as its init.
pub struct SystemdMachine {
    files: TempDir,
    cgroup: PathBuf,
    supervisor: Child,
}

/// What units need of a machine that starts nothing of the host's.
const EMPTY_TARGETS: [&str; 3] = ["basic.target", "shutdown.target", "sysinit.target"];

impl SystemdMachine {
    /// Boots a machine and waits until systemd has started what is wanted at boot.
    pub fn boot(plan: &Plan<'_>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let cgroup = cgroup2().join(format!("baton-lab-{process}-{number}"));
        let files = tempfile::tempdir().unwrap();
        write_down(files.path(), plan);
        let log = File::create(files.path().join("log")).unwrap();
        let mut command = Command::new("sh");
        command
            .arg(files.path().join("supervise.sh"))
            .args([files.path(), &cgroup, &files.path().join("boot.sh")])
            .stdin(Stdio::piped())
            .stderr(log.try_clone().unwrap())
            .stdout(log);
        let supervisor = run_in(plan.netns, || command.spawn()).unwrap().expect("a shell");
        let machine = Self { files, cgroup, supervisor };
        machine.until_booted();
        machine
    }

    /// Waits until systemd has started what is wanted at boot.
    pub fn until_booted(&self) {
        let start = Instant::now();
        while !self.systemctl(&["is-active", "machine.target"]).status.success() {
            assert!(start.elapsed() < PATIENCE, "the machine does not boot: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its init, as the host numbers processes; `None` while it boots.
    pub fn init(&self) -> Option<u32> {
        fs::read_to_string(self.init_file()).ok()?.trim().parse().ok()
    }

    fn init_file(&self) -> PathBuf {
        self.files.path().join("init")
    }

    /// What it keeps over boots; it finds it in `/disk`.
    pub fn disk(&self) -> PathBuf {
        self.files.path().join("disk")
    }

    /// A line of shell that runs a program in the machine, whichever boot of it runs then.
    pub fn enter(&self, program: &str) -> String {
        let init = self.init_file();
        format!("nsenter --target \"$(cat {})\" {} -- {program}", init.display(), NAMESPACES.join(" "))
    }

    /// A line of shell that ends the machine as a power failure does; it boots again by itself.
    pub fn power_off(&self) -> String {
        format!("kill -KILL \"$(cat {})\"", self.init_file().display())
    }

    /// What runs the words after it in the machine.
    pub fn entrance(&self) -> Command {
        let mut command = Command::new("nsenter");
        let init = self.init().map_or_else(|| "none".to_owned(), |init| init.to_string());
        command.args(["--target", &init]).args(NAMESPACES).arg("--").stdin(Stdio::null());
        command
    }

    /// Runs a program in the machine to its end.
    pub fn run(&self, words: &[&str]) -> Output {
        self.entrance().args(words).output().expect("nsenter")
    }

    /// Runs `systemctl` in the machine.
    pub fn systemctl(&self, words: &[&str]) -> Output {
        self.run(&[&["systemctl"], words].concat())
    }

    /// A property of a unit.
    pub fn property(&self, unit: &str, property: &str) -> String {
        let output = self.systemctl(&["show", "--value", "--property", property, unit]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Gives the machine a unit while it runs.
    pub fn add_unit(&self, name: &str, text: &str) {
        fs::write(self.disk().join(name), text).unwrap();
        let copied = self.run(&["cp", &format!("/disk/{name}"), "/run/systemd/system/"]);
        assert!(copied.status.success() && self.systemctl(&["daemon-reload"]).status.success());
    }

    /// What its boots have printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.files.path().join("log")).unwrap_or_default()
    }
}

/// What `nsenter` enters.
const NAMESPACES: [&str; 6] = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"];

fn write_down(directory: &Path, plan: &Plan<'_>) {
    let units = directory.join("units");
    fs::create_dir(&units).unwrap();
    for target in EMPTY_TARGETS {
        fs::write(units.join(target), "[Unit]\nDefaultDependencies=no\n").unwrap();
    }
    let wanted = plan.wanted.join(" ");
    let target = format!("[Unit]\nDefaultDependencies=no\nWants={wanted}\nAfter={wanted}\n");
    fs::write(units.join("machine.target"), target).unwrap();
    for (name, text) in &plan.units {
        fs::write(units.join(name), text).unwrap();
    }
    let binaries = baton();
    let read = format!("ro {}\n", binaries.parent().unwrap().display());
    let written = plan.shares.iter().map(|share| format!("rw {}\n", share.display()));
    fs::write(directory.join("shares"), std::iter::once(read).chain(written).collect::<String>()).unwrap();
    let path = |netns: &NetnsHandle| format!("/proc/{}/fd/{}", std::process::id(), netns.file().as_raw_fd());
    let networks = plan.networks.iter().map(|(name, netns)| format!("{name} {}\n", path(netns)));
    fs::write(directory.join("networks"), networks.collect::<String>()).unwrap();
    fs::write(directory.join("supervise.sh"), include_str!("supervise.sh")).unwrap();
    fs::write(directory.join("boot.sh"), include_str!("boot.sh")).unwrap();
}

/// Where cgroups of version 2 are.
fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = fields.find(|fields| fields.get(2) == Some(&"cgroup2"));
    mount.expect("a kernel with cgroup2, mounted")[1].into()
}

impl Drop for SystemdMachine {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the machine said:\n{}", self.log());
        }
        // Its end is what the supervisor waits for.
        drop(self.supervisor.stdin.take());
        self.supervisor.wait().expect("a child");
        if thread::panicking() {
            // Without a second panic; the supervisor's other half sees to it all the same.
            return;
        }
        eventually("the machine is gone", || !self.cgroup.exists());
    }
}
