//! One backend's processes in a namespace of their own, removed however the test ends.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::id;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use baton::driver::process::{Cgroup, Launch, ProcessDriver};
use baton::names::{BackendName, ServiceName};
use baton::net::netns;
use tempfile::TempDir;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// One backend, its directory and its namespace.
pub struct Backend {
    /// What runs it.
    pub driver: ProcessDriver,
    /// What it runs.
    pub launch: Launch,
    /// Its cgroup, where its memory is bounded.
    pub cgroup: Option<Cgroup>,
    service: ServiceName,
    name: BackendName,
    files: TempDir,
}

impl Backend {
    /// A backend whose command is `script`, run by `sh`, with `shim` as the program that runs shims.
    ///
    /// # Panics
    /// If it cannot be made, as without root.
    pub fn new(shim: &str, script: &str, memory_max: Option<u64>) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let service: ServiceName = format!("proc-{}-{number}", id()).parse().unwrap();
        let name: BackendName = "a".parse().unwrap();
        let files = tempfile::tempdir().unwrap();
        let netns = PathBuf::from(format!("/run/netns/baton-{service}-a"));
        netns::create(&netns).unwrap();
        let cgroup = memory_max.map(|bytes| Cgroup::of(&service, &name, bytes).unwrap());
        let launch = Launch {
            service: service.clone(),
            backend: name.clone(),
            netns,
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            directory: files.path().to_owned(),
            environment: std::env::vars().collect(),
            resolv_conf: None,
            cgroup_procs: cgroup.as_ref().map(Cgroup::procs),
        };
        let driver = ProcessDriver::new(files.path().join("run"), launch.clone(), cgroup.clone())
            .with_shim(shim.into());
        Self { driver, launch, cgroup, service, name, files }
    }

    /// A driver for the same backend that runs something else.
    pub fn driver_of(&self, shim: &str, change: impl FnOnce(&mut Launch)) -> ProcessDriver {
        let mut launch = self.launch.clone();
        change(&mut launch);
        ProcessDriver::new(self.dir(), launch, self.cgroup.clone()).with_shim(shim.into())
    }

    /// Where its records and its log are.
    pub fn dir(&self) -> PathBuf {
        self.files.path().join("run")
    }

    /// A file beside them; scripts find it in their working directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Every process in the backend's namespace, by whatever parent, shims included.
    pub fn inhabitants(&self) -> Vec<u32> {
        let Ok(wanted) = fs::metadata(&self.launch.netns) else { return Vec::new() };
        let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
        processes
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid: &u32| {
                fs::metadata(format!("/proc/{pid}/ns/net"))
                    .is_ok_and(|meta| (meta.dev(), meta.ino()) == (wanted.dev(), wanted.ino()))
            })
            .collect()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // The test's own runtime cannot be blocked on from here.
        let driver = self.driver.clone();
        let _ = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(driver.stop(Duration::ZERO))
        })
        .join();
        let _ = Cgroup::remove_all(&self.service, std::slice::from_ref(&self.name));
        let _ = netns::delete(&self.launch.netns);
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// With `what` was waited for, if that does not come within 10 s.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "waited 10 s until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
