//! Installs what is missing: components with rustup, bpf-linker with cargo, packages with apt.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::needs::{BPF_LINKER, Need, Source};
use crate::privilege;
use crate::run::{find, run};

/// Seconds to wait for another apt to finish.
const APT_LOCK_WAIT_S: &str = "DPkg::Lock::Timeout=120";

/// What to install from where; each list is empty or becomes one command.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    components: Vec<&'static str>,
    bpf_linker: bool,
    packages: Vec<&'static str>,
}

impl Plan {
    fn of(missing: &[Need]) -> Self {
        let mut plan = Self::default();
        for need in missing {
            match need.source {
                Source::Component { .. } => plan.components.push(need.name),
                Source::BpfLinker => plan.bpf_linker = true,
                Source::Package { package, .. } | Source::PythonVenv { package } => {
                    plan.packages.push(package);
                }
            }
        }
        plan
    }
}

/// Installs all of `missing`, each kind with one command.
pub(super) fn install(missing: &[Need]) -> Result<()> {
    for need in missing {
        println!("setup: {} is missing ({})", need.name, need.purpose);
    }
    let plan = Plan::of(missing);
    if !plan.packages.is_empty() {
        install_packages(&plan.packages)?;
    }
    if !plan.components.is_empty() {
        install_components(&plan.components)?;
    }
    if plan.bpf_linker {
        install_bpf_linker()?;
    }
    Ok(())
}

fn install_packages(packages: &[&str]) -> Result<()> {
    if !Path::new("/etc/debian_version").exists() || find("apt-get").is_none() {
        bail!(
            "this is no Debian: install what is missing by hand; the packages are usually called {}",
            packages.join(", ")
        );
    }
    let why = format!("install the packages {}", packages.join(", "));
    let apt = |words: &[&str]| -> Result<Command> {
        let mut command = privilege::as_root("env", &why)?;
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", APT_LOCK_WAIT_S]).args(words);
        Ok(command)
    };
    // A new machine knows no packages yet; a package that is missing is rare enough to ask every time.
    run(&mut apt(&["update"])?)?;
    run(apt(&["install", "--yes", "--no-install-recommends"])?.args(packages))
}

fn install_components(components: &[&str]) -> Result<()> {
    if find("rustup").is_none() {
        bail!("there is no rustup here: install the Rust components {} by hand", components.join(", "));
    }
    run(Command::new("rustup").args(["component", "add"]).args(components).current_dir(crate::workspace()))
}

fn install_bpf_linker() -> Result<()> {
    println!("setup: bpf-linker is compiled once; that takes some minutes");
    run(Command::new("cargo")
        .args(["install", "bpf-linker", "--version", BPF_LINKER, "--locked"])
        .current_dir(crate::workspace()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::needs::NEEDS;

    #[test]
    fn each_missing_thing_goes_to_the_one_that_installs_it() {
        let plan = Plan::of(&NEEDS);
        assert_eq!(plan.components, ["rust-src", "clippy", "rustfmt"]);
        assert!(plan.bpf_linker);
        assert_eq!(
            plan.packages,
            [
                "binutils",
                "gcc",
                "iproute2",
                "nftables",
                "ethtool",
                "python3",
                "systemd",
                "python3-venv",
                "iperf3"
            ]
        );
    }
}
