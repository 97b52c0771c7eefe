//! `cargo xtask leftovers`: what Baton has on this machine right now, from processes to pins.
//!
//! `cargo xtask test` compares before with after: what came and did not go is a leak.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{env, io};

use anyhow::{Context, Result, bail};
use clap::Args;
use nix::unistd::Uid;

use crate::privilege;
use crate::run::{capture, find};

/// How long what is being taken down may still be seen.
const GRACE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(250);

/// Programs of this workspace that must not outlive a test.
const PROGRAMS: [&str; 2] = ["baton", "aging-service"];

/// Lists what Baton has on this machine.
///
/// Namespaces, interfaces, run directories, pins, nftables tables and processes, of services that run and
/// of tests that did not clean up. Needs root.
#[derive(Debug, Args)]
pub(crate) struct LeftoversArgs {}

/// Things on this machine, one sentence each.
pub(crate) type Things = BTreeSet<String>;

pub(crate) fn run(_: &LeftoversArgs) -> Result<ExitCode> {
    for thing in things()? {
        println!("{thing}");
    }
    Ok(ExitCode::SUCCESS)
}

/// What is there now; an ordinary user asks a child under `sudo`.
pub(crate) fn things() -> Result<Things> {
    if Uid::effective().is_root() {
        return look();
    }
    let myself = env::current_exe().context("cannot find my own program")?;
    let printed =
        capture(privilege::as_root(myself, "see pins, tables and processes of root")?.arg("leftovers"))?;
    Ok(printed.lines().filter(|line| line.contains(": ")).map(str::to_owned).collect())
}

/// Fails if, after a grace period, there is more than there was `before`.
pub(crate) fn none_since(before: &Things) -> Result<()> {
    let deadline = Instant::now() + GRACE;
    loop {
        let left: Vec<String> = things()?.difference(before).cloned().collect();
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("the tests left behind:\n  {}", left.join("\n  "));
        }
        sleep(POLL);
    }
}

fn look() -> Result<Things> {
    let mut things = Things::new();
    let mut add = |kind: &str, names: Vec<String>| {
        things.extend(names.into_iter().map(|name| format!("{kind}: {name}")));
    };
    add("namespace", names_in("/run/netns", |name| name.starts_with("baton-"))?);
    add("interface", names_in("/sys/class/net", is_veth)?);
    // Directories only: the file beside them is the lock that all services share.
    add("run directory", names_in("/run/baton", |name| Path::new("/run/baton").join(name).is_dir())?);
    add("pin", files_below(Path::new("/sys/fs/bpf/baton"))?);
    add("nft table", tables()?);
    add("process", processes()?);
    Ok(things)
}

/// The host ends of a service's veth pairs are called `bt` and a number.
fn is_veth(name: &str) -> bool {
    name.strip_prefix("bt")
        .is_some_and(|slot| !slot.is_empty() && slot.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The names in a directory that are `wanted`; none if it is not there.
fn names_in(directory: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("cannot list {directory}"))?,
    };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| wanted(name)).collect())
}

fn files_below(directory: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for name in names_in(&directory.to_string_lossy(), |_| true)? {
        let path = directory.join(name);
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path.display().to_string());
        }
    }
    Ok(files)
}

/// Tables of all families that a service made in this namespace.
fn tables() -> Result<Vec<String>> {
    let Some(nft) = find("nft") else { return Ok(Vec::new()) };
    let printed = capture(Command::new(nft).args(["list", "tables"]))?;
    Ok(printed.lines().filter(|line| line.contains(" baton-")).map(str::to_owned).collect())
}

/// Processes that run one of our programs, or whatever they run in one of our namespaces.
fn processes() -> Result<Vec<String>> {
    let namespaces = namespace_inodes()?;
    let pids = names_in("/proc", |name| name.bytes().all(|byte| byte.is_ascii_digit()))?;
    Ok(pids.into_iter().filter_map(|pid| process(&pid, &namespaces)).collect())
}

/// A description of the process if it is Baton's; `None` too if it has just ended.
fn process(pid: &str, namespaces: &BTreeSet<u64>) -> Option<String> {
    let directory = Path::new("/proc").join(pid);
    let program = fs::read_link(directory.join("exe")).ok()?;
    let name = program.file_name()?.to_string_lossy().replace(" (deleted)", "");
    let inside = inode(&directory.join("ns/net")).is_some_and(|inode| namespaces.contains(&inode));
    (inside || PROGRAMS.contains(&name.as_str())).then(|| format!("{pid} {}", program.display()))
}

fn namespace_inodes() -> Result<BTreeSet<u64>> {
    let names = names_in("/run/netns", |name| name.starts_with("baton-"))?;
    Ok(names.iter().filter_map(|name| inode(&Path::new("/run/netns").join(name))).collect())
}

fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_s_interface_is_told_from_others() {
        assert!(is_veth("bt0") && is_veth("bt128"));
        assert!(!is_veth("bt") && !is_veth("btle0") && !is_veth("eth0"));
    }

    #[test]
    fn a_directory_that_is_not_there_holds_nothing() {
        assert_eq!(names_in("/run/no-such-directory-of-baton", |_| true).unwrap(), Vec::<String>::new());
    }
}
