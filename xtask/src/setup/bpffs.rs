//! The BPF file system, where maps and programs are pinned; many small machines do not mount it.

use anyhow::Result;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::privilege;
use crate::run::run;

const MOUNT_POINT: &str = "/sys/fs/bpf";

pub(super) fn is_mounted() -> bool {
    statfs(MOUNT_POINT).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC)
}

pub(super) fn ensure_mounted() -> Result<()> {
    if is_mounted() {
        return Ok(());
    }
    println!("setup: no BPF file system at {MOUNT_POINT}");
    run(privilege::as_root("mount", "mount the BPF file system")?.args(["-t", "bpf", "bpf", MOUNT_POINT]))
}
