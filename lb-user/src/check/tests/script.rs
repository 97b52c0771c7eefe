//! The check by a script, and what it must not leave behind.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::kill;
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::time::sleep;

use super::*;
use crate::check::{ScriptCheck, Target};

/// Where no backend has to be.
fn nowhere() -> SocketAddr {
    "[fd77::7]:8080".parse().unwrap()
}

fn check(command: &[&str]) -> Check {
    Check::Script(ScriptCheck { command: command.iter().map(ToString::to_string).collect() })
}

/// A script of one's own, and a place for what it writes.
struct Script {
    directory: TempDir,
}

impl Script {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("check");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { directory }
    }

    /// The command that runs it, with the file that it may write as its argument.
    fn check(&self) -> Check {
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        check(&["/bin/sh", &path("check"), &path("written")])
    }

    fn written(&self) -> PathBuf {
        self.directory.path().join("written")
    }
}

/// The process ids that a script has written, once they are all there.
async fn pids(file: &Path, count: usize) -> Vec<Pid> {
    let read = async {
        loop {
            let text = fs::read_to_string(file).unwrap_or_default();
            let pids: Vec<_> = text.lines().filter_map(|line| line.parse().ok()).map(Pid::from_raw).collect();
            if pids.len() == count {
                return pids;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("the script has written its processes")
}

/// Waits until nothing is left of a process but, for a moment, what its parent has still to reap.
async fn gone(pid: Pid) {
    let ended = async {
        // Orphans are reaped by whoever adopts them.
        while kill(pid, None).is_ok() && state(pid) != Some('Z') {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("the process ends");
}

fn state(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[tokio::test]
async fn the_exit_status_is_the_answer_and_output_explains_it() {
    assert_eq!(ask(&check(&["/bin/true"]), nowhere()).await, Ok(()));
    assert_eq!(
        ask(&check(&["/bin/false"]), nowhere()).await,
        Err(Finding::WrongAnswer("exit status 1".into()))
    );
    let shell = |text| check(&["/bin/sh", "-c", text]);
    assert_wrong(
        &ask(&shell("echo 'queue full'; exit 3"), nowhere()).await,
        r#"exit status 3: "queue full""#,
    );
    assert_wrong(
        &ask(&shell("echo 'no licence' >&2; exit 2"), nowhere()).await,
        r#"exit status 2: "no licence""#,
    );
    assert_wrong(&ask(&shell("kill -TERM $$"), nowhere()).await, "ended by signal 15");
    // It writes more than a pipe holds, and is not held up by that.
    assert_eq!(ask(&shell("head -c 1000000 /dev/zero"), nowhere()).await, Ok(()));
}

#[tokio::test]
async fn a_command_that_cannot_run_is_no_fault_of_the_backend() {
    assert_unchecked(
        &ask(&check(&["/nonexistent/check"]), nowhere()).await,
        "/nonexistent/check: No such file",
    );
    assert_unchecked(&ask(&check(&["/etc/passwd"]), nowhere()).await, "/etc/passwd: Permission denied");
    assert_unchecked(&ask(&check(&[]), nowhere()).await, "");
}

#[tokio::test]
async fn a_script_learns_whom_it_checks_and_no_shell_reads_its_arguments() {
    let script = Script::new("echo $BATON_SERVICE/$BATON_BACKEND $BATON_ADDRESS $BATON_PORT $(pwd) $2 >$1");
    let Check::Script(mut command) = script.check() else { unreachable!() };
    command.command.push("$HOME; exit 1".to_owned());
    let check = Check::Script(command);
    let own = NetnsHandle::own().unwrap();
    let target = Target { address: nowhere(), service: "shop".parse().ok(), backend: "b".parse().ok() };
    assert_eq!(run(&check, &own, target, PATIENCE).await, Ok(()));
    let written = || fs::read_to_string(script.written()).unwrap();
    assert_eq!(written(), "shop/b fd77::7 8080 / $HOME; exit 1\n");
    assert_eq!(run(&check, &own, nowhere(), PATIENCE).await, Ok(()));
    assert_eq!(written(), "/ fd77::7 8080 / $HOME; exit 1\n");
}

#[tokio::test]
async fn a_script_runs_in_the_network_of_the_backend() {
    let script = Script::new("readlink /proc/self/ns/net >$1");
    let elsewhere = NetnsHandle::anonymous().unwrap();
    let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
    let written = || PathBuf::from(fs::read_to_string(script.written()).unwrap().trim());
    assert_eq!(run(&script.check(), &elsewhere, nowhere(), PATIENCE).await, Ok(()));
    assert_ne!(written(), own);
    assert_eq!(ask(&script.check(), nowhere()).await, Ok(()));
    assert_eq!(written(), own);
}

#[tokio::test]
async fn a_script_that_hangs_is_killed_with_its_children() {
    let script = Script::new("trap '' TERM INT HUP; sleep 1000 & echo $! >$1; echo $$ >>$1; wait");
    assert_eq!(ask_briefly(&script.check(), nowhere()).await, Err(Finding::TimedOut));
    let [child, leader] = pids(&script.written(), 2).await[..] else { unreachable!() };
    gone(child).await;
    assert!(kill(leader, None).is_err(), "the script itself is reaped when the check has ended");
}

#[tokio::test]
async fn what_a_script_leaves_in_the_background_is_killed_when_it_ends() {
    // The child holds the pipe open, and the check does not wait for it.
    let script = Script::new("sleep 1000 & echo $! >$1; exit 0");
    assert_eq!(ask(&script.check(), nowhere()).await, Ok(()));
    gone(pids(&script.written(), 1).await[0]).await;
    let script = Script::new("sleep 1000 & echo $! >$1; echo oh; exit 1");
    assert_wrong(&ask(&script.check(), nowhere()).await, "oh");
    gone(pids(&script.written(), 1).await[0]).await;
}

#[tokio::test]
async fn a_script_that_closes_its_output_is_waited_for() {
    let shell = |text| check(&["/bin/sh", "-c", text]);
    let text = "exec >&- 2>&-; sleep 0.1; exit 4";
    assert_eq!(ask(&shell(text), nowhere()).await, Err(Finding::WrongAnswer("exit status 4".into())));
}

#[tokio::test]
async fn a_script_that_never_stops_writing_is_stopped_by_the_limit() {
    let found = ask_briefly(&check(&["/bin/cat", "/dev/zero"]), nowhere()).await;
    assert_eq!(found, Err(Finding::TimedOut));
}

#[tokio::test]
async fn a_check_that_is_given_up_kills_its_script() {
    let script = Script::new("sleep 1000 & echo $! >$1; echo $$ >>$1; wait");
    let check = script.check();
    let written = {
        let asked = ask(&check, nowhere());
        let written = script.written();
        let written = async move { pids(&written, 2).await };
        tokio::select! {
            found = asked => panic!("it ended: {found:?}"),
            written = written => written,
        }
    };
    for pid in written {
        gone(pid).await;
    }
}

#[test]
fn no_file_and_no_process_is_left_by_many_checks() {
    // Only this thread's children; files can only be counted for the whole process, in which other tests run.
    let children =
        || fs::read_to_string(format!("/proc/self/task/{}/children", nix::unistd::gettid())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let before = open_files();
    runtime.block_on(async {
        for _ in 0..400 {
            assert_eq!(ask(&check(&["/bin/true"]), nowhere()).await, Ok(()));
        }
    });
    assert_eq!(children(), "");
    let after = open_files();
    assert!(after < before + 200, "{before} files were open, now {after}");
}
