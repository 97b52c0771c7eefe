//! How an object of XDP programs is compiled: the one way there is.
//!
//! Whoever needs an object includes this file: `lb-user/build.rs` for the programs that ship, which are
//! embedded in `baton`, and `cargo xtask bench` for those that measure them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Flags of the eBPF target: BTF for the maps, version 3 of the instruction set for 32-bit jumps and atomics.
/// Headers behind an Ethernet header are aligned to two bytes only; the machines that Baton is for read and
/// write their words in one access all the same.
const RUSTFLAGS: [&str; 4] = [
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
    "-Clink-arg=--cpu-features=+allows-misaligned-mem-access",
    "-Ctarget-cpu=v3",
];

/// Compiles the program `bin` of the crate `lb-ebpf` for machines of `arch` and returns where the object is,
/// somewhere in `target_dir`.
pub(crate) fn build(
    bin: &str,
    features: &[&str],
    arch: &str,
    workspace: &Path,
    target_dir: &Path,
) -> Result<PathBuf> {
    let mut rustflags = vec![format!("--cfg=bpf_target_arch=\"{arch}\"")];
    rustflags.extend(RUSTFLAGS.map(str::to_owned));
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(workspace)
        .args(["build", "--release", "--package", "lb-ebpf", "--bin", bin, "--features", &features.join(",")])
        .args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"])
        .arg("--target-dir")
        .arg(target_dir)
        // build-std is unstable; only this child may use it.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags.join("\x1f"))
        .env_remove("RUSTFLAGS")
        // Clippy wraps rustc for the host; the eBPF crate is linted apart.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER");
    let status = cargo.status().context("run cargo for the eBPF programs")?;
    if !status.success() {
        bail!("the eBPF programs do not build; if a tool is missing, `cargo xtask setup` installs it");
    }
    Ok(target_dir.join("bpfel-unknown-none/release").join(bin))
}
