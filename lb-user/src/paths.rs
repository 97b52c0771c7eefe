//! Where Baton keeps what: one place, so that `down` finds all that `up` left.

use std::fs;
use std::path::{Path, PathBuf};

use crate::names::{BackendName, PlaneName, ServiceName};

/// The roots that everything else hangs from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// What lasts until the machine reboots: sockets, process records, logs (default `/run/baton`).
    pub run: PathBuf,
    /// What outlives a reboot: journals and drain reports (default `/var/lib/baton`).
    pub state: PathBuf,
    /// Where maps, programs and links are pinned (default `/sys/fs/bpf/baton`).
    pub bpf: PathBuf,
    /// Where namespaces are named, as iproute2 does (default `/run/netns`).
    pub netns: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            run: "/run/baton".into(),
            state: "/var/lib/baton".into(),
            bpf: "/sys/fs/bpf/baton".into(),
            netns: "/run/netns".into(),
        }
    }
}

impl Roots {
    /// The run-time directory of every service.
    pub fn services(&self) -> &Path {
        &self.run
    }

    /// The paths of one service.
    pub fn service(&self, name: &ServiceName) -> ServicePaths {
        ServicePaths { roots: self.clone(), name: name.clone() }
    }

    /// The paths of a data plane that services share.
    pub fn plane(&self, name: &PlaneName) -> PlanePaths {
        // No service's name begins so.
        PlanePaths { roots: self.clone(), directory: format!("_{name}") }
    }

    /// Where maps, programs and links of this directory are pinned, by the version of their layout.
    fn pins(&self, layout_version: u32, directory: &str) -> PathBuf {
        self.bpf.join(format!("v{layout_version}")).join(directory)
    }

    /// What is pinned in this directory, by layout version, in order; empty directories do not count.
    fn pinned(&self, directory: &str) -> Vec<(u32, PathBuf)> {
        let layouts = fs::read_dir(&self.bpf).into_iter().flatten().flatten();
        let versions =
            layouts.filter_map(|entry| entry.file_name().to_str()?.strip_prefix('v')?.parse().ok());
        let pins = versions.map(|version| (version, self.pins(version, directory)));
        let mut pinned: Vec<_> = pins
            .filter(|(_, pins)| fs::read_dir(pins).is_ok_and(|mut found| found.next().is_some()))
            .collect();
        pinned.sort();
        pinned
    }
}

/// The paths of a data plane that services share.
#[derive(Clone, Debug)]
pub struct PlanePaths {
    roots: Roots,
    directory: String,
}

impl PlanePaths {
    /// Run-time directory of the data plane and its controller.
    pub fn run_dir(&self) -> PathBuf {
        self.roots.run.join(&self.directory)
    }

    /// Held with `flock` by the one controller of the data plane.
    pub fn lock(&self) -> PathBuf {
        self.run_dir().join("lock")
    }

    /// The control socket of its controller.
    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("control.sock")
    }

    /// Which service and which backend has which id in the tables.
    pub fn ids(&self) -> PathBuf {
        self.run_dir().join("ids.json")
    }

    /// The lock of the site that its controller holds or may hold; durable, for the lock outlives a reboot.
    pub fn fleet_lock(&self) -> PathBuf {
        self.roots.state.join(&self.directory).join("fleet-lock.json")
    }

    /// Where its maps, programs and links are pinned; the directory carries the layout version.
    pub fn pins(&self, layout_version: u32) -> PathBuf {
        self.roots.pins(layout_version, &self.directory)
    }

    /// What is pinned of it, by layout version, in order; empty directories do not count.
    pub fn pinned(&self) -> Vec<(u32, PathBuf)> {
        self.roots.pinned(&self.directory)
    }
}

/// The paths of one service.
#[derive(Clone, Debug)]
pub struct ServicePaths {
    roots: Roots,
    name: ServiceName,
}

impl ServicePaths {
    /// Run-time directory of the service.
    pub fn run_dir(&self) -> PathBuf {
        self.roots.run.join(self.name.as_str())
    }

    /// Durable directory of the service.
    pub fn state_dir(&self) -> PathBuf {
        self.roots.state.join(self.name.as_str())
    }

    /// What is written down of the service for others than its controller.
    pub fn registration(&self) -> PathBuf {
        self.run_dir().join("service.json")
    }

    /// Held with `flock` by the one controller of the service.
    pub fn lock(&self) -> PathBuf {
        self.run_dir().join("lock")
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("control.sock")
    }

    /// Run-time directory of one backend: process record, exit record, log.
    pub fn backend_dir(&self, backend: &BackendName) -> PathBuf {
        self.run_dir().join(backend.as_str())
    }

    /// The journal of transitions.
    pub fn journal(&self) -> PathBuf {
        self.state_dir().join("journal")
    }

    /// One JSON document a rejuvenation.
    pub fn reports(&self) -> PathBuf {
        self.state_dir().join("reports")
    }

    /// Where this service's maps, programs and links are pinned; the directory carries the layout version.
    pub fn pins(&self, layout_version: u32) -> PathBuf {
        self.roots.pins(layout_version, self.name.as_str())
    }

    /// What is pinned of this service, by layout version, in order; empty directories do not count.
    pub fn pinned(&self) -> Vec<(u32, PathBuf)> {
        self.roots.pinned(self.name.as_str())
    }

    /// Name of the balancer's network namespace.
    pub fn balancer_netns(&self) -> PathBuf {
        self.roots.netns.join(format!("baton-{}-lb", self.name))
    }

    /// Name of one backend's network namespace.
    pub fn backend_netns(&self, backend: &BackendName) -> PathBuf {
        self.roots.netns.join(format!("baton-{}-{backend}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_found_whatever_their_layout_and_only_where_something_is_pinned() {
        let bpf = tempfile::tempdir().unwrap();
        for file in ["v1/shop/MAP", "v2/shopping/MAP", "v12/shop/MAP", "v3-attached/shop/link"] {
            let path = bpf.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, []).unwrap();
        }
        fs::create_dir_all(bpf.path().join("v4/shop")).unwrap();
        let roots = Roots { bpf: bpf.path().to_owned(), ..Roots::default() };
        let paths = roots.service(&"shop".parse().unwrap());
        assert_eq!(paths.pinned(), [1, 12].map(|version| (version, paths.pins(version))));
    }
}
