//! Builds the XDP programs and hands the object to the crate, which embeds it: the one build path of the
//! eBPF side, shared by users, tests and CI.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Flags of the eBPF target: BTF for the maps, version 3 of the instruction set for 32-bit jumps and atomics.
const RUSTFLAGS: [&str; 3] = ["-Cdebuginfo=2", "-Clink-arg=--btf", "-Ctarget-cpu=v3"];

fn main() -> Result<()> {
    let workspace = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("..");
    for path in ["lb-ebpf/src", "lb-ebpf/Cargo.toml", "lb-common/src", "Cargo.toml"] {
        println!("cargo:rerun-if-changed={}", workspace.join(path).display());
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let object = build(&workspace, &out.join("ebpf"))?;
    fs::copy(&object, out.join("baton-xdp")).with_context(|| format!("copy {}", object.display()))?;
    Ok(())
}

fn build(workspace: &Path, target_dir: &Path) -> Result<PathBuf> {
    let mut rustflags = vec![format!("--cfg=bpf_target_arch=\"{}\"", env::var("CARGO_CFG_TARGET_ARCH")?)];
    rustflags.extend(RUSTFLAGS.map(str::to_owned));
    let mut cargo = Command::new(env::var_os("CARGO").context("CARGO is not set")?);
    cargo
        .current_dir(workspace)
        .args(["build", "--release", "--package", "lb-ebpf", "--bin", "baton-xdp"])
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
    if env::var_os("CARGO_FEATURE_DEBUG_LOG").is_some() {
        cargo.args(["--features", "debug-log"]);
    }
    let status = cargo.status().context("run cargo for the eBPF programs")?;
    if !status.success() {
        bail!("the eBPF programs do not build; if a tool is missing, `cargo xtask setup` installs it");
    }
    Ok(target_dir.join("bpfel-unknown-none/release/baton-xdp"))
}
