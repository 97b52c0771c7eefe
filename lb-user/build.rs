//! Builds the XDP programs and hands the object to the crate, which embeds it: users, tests and CI have the
//! same.

#[path = "../lb-ebpf/object.rs"]
mod object;

use std::env;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let workspace = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("..");
    for path in ["lb-ebpf/src", "lb-ebpf/Cargo.toml", "lb-ebpf/object.rs", "lb-common/src", "Cargo.toml"] {
        println!("cargo:rerun-if-changed={}", workspace.join(path).display());
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let features: &[&str] =
        if env::var_os("CARGO_FEATURE_DEBUG_LOG").is_some() { &["debug-log"] } else { &[] };
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    let object = object::build("baton-xdp", features, &arch, &workspace, &out.join("ebpf"))?;
    fs::copy(&object, out.join("baton-xdp")).with_context(|| format!("copy {}", object.display()))?;
    Ok(())
}
