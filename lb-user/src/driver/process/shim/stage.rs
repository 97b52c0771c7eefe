//! Where a command finds itself when it starts: namespaces, cgroup, environment.

use std::fs::File;
use std::io::PipeWriter;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::driver::process::cgroup;
use crate::driver::process::record::Launch;

/// Enters the backend's namespaces; before any other thread is made, since they belong to threads.
pub(super) fn enter(launch: &Launch) -> Result<()> {
    let netns = File::open(&launch.netns)
        .with_context(|| format!("cannot open network namespace {}", launch.netns.display()))?;
    setns(&netns, CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("cannot enter network namespace {}", launch.netns.display()))?;
    launch.resolv_conf.as_deref().map_or(Ok(()), replace_resolv_conf)
}

/// Shows the command another `/etc/resolv.conf`; the rest of the file system stays shared, later mounts included.
fn replace_resolv_conf(file: &Path) -> Result<()> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).context("cannot detach mounts")?;
    mount(Some(file), "/etc/resolv.conf", none, MsFlags::MS_BIND, none)
        .with_context(|| format!("cannot put {} over /etc/resolv.conf", file.display()))
}

/// Starts the command. It is in the cgroup from its first instruction on, because the shim is, too, until it
/// leaves again: its own memory is not the backend's.
pub(super) fn spawn(launch: &Launch, stdout: PipeWriter, stderr: PipeWriter) -> Result<Child> {
    let [program, arguments @ ..] = &launch.command[..] else { bail!("the command is empty") };
    if let Some(procs) = &launch.cgroup_procs {
        cgroup::join(procs).with_context(|| format!("cannot join {}", procs.display()))?;
    }
    Command::new(program)
        .args(arguments)
        .current_dir(&launch.directory)
        .env_clear()
        .envs(launch.environment.iter().map(|(name, value)| (name, value)))
        .env("BATON_SERVICE", launch.service.as_str())
        .env("BATON_BACKEND", launch.backend.as_str())
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run `{program}` in {}", launch.directory.display()))
}
