//! How cargo is called: for the host, for the eBPF target, and what a build says about where things are.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{run, workspace};

/// The flags under which `lb-user/build.rs` compiles the eBPF programs, for tools that look at them apart.
const EBPF_TARGET: [&str; 4] = ["--target", "bpfel-unknown-none", "-Z", "build-std=core"];

/// A cargo command in the workspace, where `rust-toolchain.toml` pins the toolchain.
pub(crate) fn cargo(words: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(workspace()).args(words);
    command
}

/// A cargo command on the eBPF crate alone, for its own target and in a directory of its own, so that
/// neither side's fingerprints undo the other's.
pub(crate) fn cargo_ebpf(words: &[&str], rustc_args: &[&str]) -> Command {
    let mut command = cargo(words);
    command
        .args(["--package", "lb-ebpf"])
        .args(EBPF_TARGET)
        .arg("--target-dir")
        .arg(target_dir().join("ebpf"))
        // build-std is unstable; only this child may use it.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH))
        .env_remove("RUSTFLAGS");
    if !rustc_args.is_empty() {
        command.arg("--").args(rustc_args);
    }
    command
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// What a build made.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Built {
    /// Executables by the name of their target.
    pub(crate) executables: BTreeMap<String, PathBuf>,
    /// The directory into which `lb-user/build.rs` wrote the eBPF object.
    pub(crate) out_dir: Option<PathBuf>,
}

impl Built {
    /// The executable called `name`.
    pub(crate) fn executable(&self, name: &str) -> Result<PathBuf> {
        self.executables.get(name).cloned().with_context(|| format!("cargo built no program `{name}`"))
    }

    /// The eBPF object that is embedded in `baton`.
    pub(crate) fn ebpf_object(&self) -> Result<PathBuf> {
        let out =
            self.out_dir.as_ref().context("cargo did not say where lb-user/build.rs wrote its object")?;
        Ok(out.join("baton-xdp"))
    }
}

/// Builds, and says what came out.
pub(crate) fn build(words: &[&str]) -> Result<Built> {
    let mut command = cargo(&["build"]);
    command.args(words);
    println!("$ {}", run::shown(&command));
    command.arg("--message-format=json-render-diagnostics").stdin(Stdio::null());
    read_messages(&run::capture(&mut command)?)
}

fn read_messages(messages: &str) -> Result<Built> {
    let mut built = Built::default();
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).context("cannot read what cargo printed")?;
        let text = |pointer| message.pointer(pointer).and_then(Value::as_str);
        match text("/reason") {
            Some("compiler-artifact") => {
                if let (Some(name), Some(path)) = (text("/target/name"), text("/executable")) {
                    built.executables.insert(name.to_owned(), path.into());
                }
            }
            // Identifiers of workspace members end in `/lb-user#0.1.0`.
            Some("build-script-executed")
                if text("/package_id").is_some_and(|id| id.contains("/lb-user#")) =>
            {
                built.out_dir = text("/out_dir").map(PathBuf::from);
            }
            _ => {}
        }
    }
    Ok(built)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_says_where_its_programs_and_the_ebpf_object_are() {
        let messages = r#"
{"reason":"compiler-artifact","target":{"name":"libc"},"executable":null}
{"reason":"build-script-executed","package_id":"registry+https://x#libc@0.2","out_dir":"/t/libc/out"}
{"reason":"build-script-executed","package_id":"path+file:///w/lb-user#0.1.0","out_dir":"/t/lb-user/out"}
{"reason":"compiler-artifact","target":{"name":"baton"},"executable":"/t/debug/baton"}
{"reason":"build-finished","success":true}"#;
        let built = read_messages(messages.trim_start()).unwrap();
        assert_eq!(built.executable("baton").unwrap(), PathBuf::from("/t/debug/baton"));
        assert_eq!(built.ebpf_object().unwrap(), PathBuf::from("/t/lb-user/out/baton-xdp"));
        assert!(built.executable("libc").is_err());
    }
}
