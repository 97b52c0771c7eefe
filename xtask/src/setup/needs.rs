//! What Baton's tasks need from the machine, and how to see without running much whether it is there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Scope;
use crate::run::{capture, find};

/// The release of bpf-linker that fits the pinned compiler's LLVM; later ones want one of the system's.
pub(super) const BPF_LINKER: &str = "0.10.3";

/// Something that must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) name: &'static str,
    pub(super) scope: Scope,
    pub(super) purpose: &'static str,
    pub(super) source: Source,
}

/// Where a need comes from, which is also how to see whether it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A component of the pinned toolchain, and a file below the sysroot that only it brings.
    Component { file: &'static str },
    /// bpf-linker, from crates.io.
    BpfLinker,
    /// A command, from the package of this name on Debian and, mostly, elsewhere.
    Package { command: &'static str, package: &'static str },
    /// Python's `venv` module with pip inside, which Debian packages apart from Python.
    PythonVenv { package: &'static str },
}

pub(super) const NEEDS: [Need; 13] = [
    Need {
        name: "rust-src",
        scope: Scope::Build,
        purpose: "to build `core` for the eBPF target",
        source: Source::Component { file: "lib/rustlib/src/rust/library/core/src/lib.rs" },
    },
    Need {
        name: "clippy",
        scope: Scope::Build,
        purpose: "to lint",
        source: Source::Component { file: "bin/cargo-clippy" },
    },
    Need {
        name: "rustfmt",
        scope: Scope::Build,
        purpose: "to format",
        source: Source::Component { file: "bin/rustfmt" },
    },
    Need {
        name: "bpf-linker",
        scope: Scope::Build,
        purpose: "to link the XDP programs",
        source: Source::BpfLinker,
    },
    Need {
        name: "readelf",
        scope: Scope::Build,
        purpose: "to look for panics in the XDP programs",
        source: Source::Package { command: "readelf", package: "binutils" },
    },
    Need {
        name: "cc",
        scope: Scope::Build,
        purpose: "to build the cryptography of checks by HTTPS",
        source: Source::Package { command: "cc", package: "gcc" },
    },
    Need {
        name: "ip",
        scope: Scope::Kernel,
        purpose: "to lay out networks in tests",
        source: Source::Package { command: "ip", package: "iproute2" },
    },
    Need {
        name: "nft",
        scope: Scope::Kernel,
        purpose: "to masquerade what a service's commands send",
        source: Source::Package { command: "nft", package: "nftables" },
    },
    Need {
        name: "ethtool",
        scope: Scope::Kernel,
        purpose: "to look at offloads in tests",
        source: Source::Package { command: "ethtool", package: "ethtool" },
    },
    Need {
        name: "python3",
        scope: Scope::Kernel,
        purpose: "to run services that are not ours in tests",
        source: Source::Package { command: "python3", package: "python3" },
    },
    // The package does not make systemd the init of a machine that has another one; `systemd-sysv` would.
    Need {
        name: "systemd",
        scope: Scope::Kernel,
        purpose: "to run machines with units in tests",
        source: Source::Package { command: "systemctl", package: "systemd" },
    },
    Need {
        name: "python-venv",
        scope: Scope::Demo,
        purpose: "to run a real aging service in the demo",
        source: Source::PythonVenv { package: "python3-venv" },
    },
    Need {
        name: "iperf3",
        scope: Scope::Kernel,
        purpose: "to send streams over handovers in tests",
        source: Source::Package { command: "iperf3", package: "iperf3" },
    },
];

impl Need {
    /// Whether it is there; `sysroot` is the pinned toolchain's.
    pub(super) fn is_met(&self, sysroot: &Path) -> bool {
        match self.source {
            Source::Component { file } => sysroot.join(file).exists(),
            Source::BpfLinker => bpf_linker_version().is_some_and(|version| version == BPF_LINKER),
            Source::Package { command, .. } => find(command).is_some(),
            Source::PythonVenv { .. } => python_has_venv(),
        }
    }
}

/// Where the pinned toolchain lives.
pub(super) fn sysroot() -> Result<PathBuf> {
    let printed = capture(Command::new("rustc").args(["--print", "sysroot"]).current_dir(crate::workspace()))
        .context("cannot ask rustc for its sysroot")?;
    Ok(PathBuf::from(printed.trim_end()))
}

fn bpf_linker_version() -> Option<String> {
    let printed = capture(Command::new(find("bpf-linker")?).arg("--version")).ok()?;
    printed.split_whitespace().nth(1).map(str::to_owned)
}

/// Starting Python to ask it would cost more than all other looks together, so its files are looked for. A
/// Python from anywhere but the system's package brings `venv` along.
fn python_has_venv() -> bool {
    let Some(python) = find("python3") else { return false };
    if python != Path::new("/usr/bin/python3") {
        return true;
    }
    let Ok(libraries) = fs::read_dir("/usr/lib") else { return false };
    libraries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("python3"))
        .any(|entry| entry.path().join("ensurepip").is_dir())
}
