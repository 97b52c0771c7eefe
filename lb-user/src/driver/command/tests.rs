//! Daemons that scripts start and stop, and what the driver says of scripts that do not.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::recovery::Evidence;

/// A daemon that a script starts and another one stops, with its pid in a file.
pub(super) struct Daemon {
    files: TempDir,
}

impl Daemon {
    pub(super) fn new() -> Self {
        Self { files: tempfile::tempdir().unwrap() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    pub(super) fn script(&self, name: &str, text: &str) -> Vec<String> {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        vec![path.display().to_string()]
    }

    pub(super) fn start_and_stop(&self) -> Actions {
        let pid = self.path("pid").display().to_string();
        Actions::StopStart {
            start: self.script("start", &format!("sleep 60 >/dev/null 2>&1 & echo $! > {pid}")),
            stop: self.script("stop", &format!("kill $(cat {pid})")),
        }
    }

    pub(super) fn driver(&self, actions: Actions, pid_file: bool) -> CommandDriver {
        CommandDriver {
            dir: self.path("run"),
            service: "shop".parse().unwrap(),
            backend: "a".parse().unwrap(),
            address: "10.1.2.3:80".parse().unwrap(),
            actions,
            higher: Higher::default(),
            pid_file: pid_file.then(|| self.path("pid")),
            timeout: Duration::from_secs(5),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = fs::read_to_string(self.path("pid")).ok().and_then(|text| text.trim().parse().ok());
        if let Some(life) = pid.and_then(lives::find) {
            lives::signal(life.life, rustix::process::Signal::KILL);
        }
    }
}

#[tokio::test]
async fn a_backend_is_started_stopped_and_started_again_each_time_as_another_life() {
    let daemon = Daemon::new();
    let driver = daemon.driver(daemon.start_and_stop(), true);
    let first = driver.start().await.unwrap();
    assert_eq!((driver.alive(), driver.processes()), (Some(first), vec![first.pid]));
    driver.end(Step::Graceful).await.unwrap();
    assert_eq!((driver.alive(), driver.processes()), (None, vec![]));
    assert!(!lives::is_alive(first));
    let second = driver.start().await.unwrap();
    assert!(second != first && driver.alive() == Some(second));
}

#[tokio::test]
async fn what_was_started_by_hand_after_its_end_is_taken_as_it_is() {
    let daemon = Daemon::new();
    let actions = daemon.start_and_stop();
    let Actions::StopStart { start, .. } = &actions else { unreachable!() };
    let driver = daemon.driver(actions.clone(), true);
    let first = driver.start().await.unwrap();
    lives::signal(first, rustix::process::Signal::KILL);
    driver.ended(first).await;
    assert!(std::process::Command::new(&start[0]).status().unwrap().success());
    let by_hand = driver.process().await.unwrap();
    assert_eq!(Some(driver.start().await.unwrap()), by_hand);
    assert_eq!((driver.alive(), by_hand == Some(first)), (by_hand, false));
}

#[tokio::test]
async fn what_was_started_by_hand_after_its_start_had_failed_is_taken_as_it_is_and_no_stranger() {
    let daemon = Daemon::new();
    let Actions::StopStart { start, stop } = daemon.start_and_stop() else { unreachable!() };
    let fails = daemon.path("fails").display().to_string();
    let told = format!("echo >> {fails}\nexit 5");
    let actions = Actions::StopStart { start: daemon.script("fail", &told), stop };
    let driver = daemon.driver(actions, true);
    assert!(std::process::Command::new(&start[0]).status().unwrap().success());
    let first = driver.start().await.unwrap();
    let stranger = || std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let mut early = stranger();
    sleep(Duration::from_millis(20)).await;
    driver.end(Step::Graceful).await.unwrap();
    driver.start().await.unwrap_err();
    // One that was there before, and one that came after the file was written.
    fs::write(daemon.path("pid"), early.id().to_string()).unwrap();
    driver.start().await.unwrap_err();
    sleep(Duration::from_millis(20)).await;
    let mut late = stranger();
    fs::write(daemon.path("pid"), late.id().to_string()).unwrap();
    let long_ago = std::time::UNIX_EPOCH + Duration::from_hours(24);
    fs::File::options().write(true).open(daemon.path("pid")).unwrap().set_modified(long_ago).unwrap();
    driver.start().await.unwrap_err();
    for stranger in [&mut early, &mut late] {
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
    // By hand, and nothing is run beside it.
    sleep(Duration::from_millis(20)).await;
    assert!(std::process::Command::new(&start[0]).status().unwrap().success());
    let by_hand = driver.process().await.unwrap();
    assert_eq!(Some(driver.start().await.unwrap()), by_hand);
    assert_eq!((driver.alive(), by_hand == Some(first)), (by_hand, false));
    assert_eq!(fs::read_to_string(&fails).unwrap().lines().count(), 3);
}

#[tokio::test]
async fn a_backend_that_runs_is_taken_as_it_is_by_every_controller() {
    let daemon = Daemon::new();
    let actions = daemon.start_and_stop();
    let first = daemon.driver(actions.clone(), true).start().await.unwrap();
    let next = daemon.driver(actions.clone(), true);
    assert_eq!((next.alive(), next.start().await.unwrap()), (Some(first), first));
    // Without a file that tells, what was seen once is taken to run until it is stopped.
    let blind = CommandDriver { dir: daemon.path("blind"), ..daemon.driver(actions, false) };
    let life = blind.start().await.unwrap();
    assert!(!life.is_known() && blind.start().await.unwrap() == life);
    assert_eq!(daemon.driver(Actions::Manual, false).alive(), Some(first), "the same files");
}

#[tokio::test]
async fn one_command_that_restarts_is_run_at_the_start_after_a_stop_only() {
    let daemon = Daemon::new();
    let ran = daemon.path("ran").display().to_string();
    let command = daemon.script(
        "restart",
        &format!("echo $BATON_SERVICE/$BATON_BACKEND $BATON_ADDRESS:$BATON_PORT >> {ran}"),
    );
    let driver = daemon.driver(Actions::Restart(command), false);
    let first = driver.start().await.unwrap();
    driver.end(Step::Graceful).await.unwrap();
    assert!(!daemon.path("ran").exists() && driver.alive().is_none());
    sleep(Duration::from_millis(2)).await;
    assert_ne!(driver.start().await.unwrap(), first);
    assert_eq!(fs::read_to_string(&ran).unwrap(), "shop/a 10.1.2.3:80\n");
}

#[tokio::test]
async fn a_command_that_fails_hangs_or_is_not_there_is_told_with_what_it_said() {
    let daemon = Daemon::new();
    let stop = |text: &str| Actions::StopStart { stop: daemon.script("stop", text), start: vec![] };
    let fails = daemon
        .driver(stop("echo no such unit; exit 5"), false)
        .end(Step::Graceful)
        .await
        .unwrap_err()
        .to_string();
    assert!(fails.contains("exit status: 5") && fails.ends_with(": no such unit"), "{fails}");
    let hangs =
        CommandDriver { timeout: Duration::from_millis(100), ..daemon.driver(stop("sleep 60"), false) };
    let hangs = hangs.end(Step::Graceful).await.unwrap_err().to_string();
    assert!(hangs.contains("did not end within 100ms and was killed"), "{hangs}");
    let missing = Actions::StopStart { stop: vec!["/no/such".to_owned()], start: vec![] };
    let missing = daemon.driver(missing, false).end(Step::Graceful).await.unwrap_err().to_string();
    assert!(missing.starts_with("cannot run `/no/such`"), "{missing}");
    let nobody = daemon.script("nobody", "true");
    let nobody = Actions::StopStart { stop: nobody.clone(), start: nobody };
    let driver = CommandDriver { timeout: Duration::from_millis(100), ..daemon.driver(nobody, true) };
    let error = driver.start().await.unwrap_err().to_string();
    assert!(error.contains("names no process that runs"), "{error}");
}

#[tokio::test]
async fn what_does_not_end_politely_is_ended_by_force() {
    let daemon = Daemon::new();
    let pid = daemon.path("pid").display().to_string();
    let actions = Actions::StopStart {
        start: daemon.script("start", &format!("sleep 60 >/dev/null 2>&1 & echo $! > {pid}")),
        stop: daemon.script("stop", "true"),
    };
    let kill = daemon.script("kill", &format!("kill -KILL $(cat {pid})"));
    let higher = Higher { kill: Some(kill), ..Higher::default() };
    let driver =
        CommandDriver { higher, timeout: Duration::from_millis(500), ..daemon.driver(actions, true) };
    let steps: Vec<_> = driver.ladder().iter().map(|rung| (rung.step, rung.evidence)).collect();
    assert_eq!(steps, [(Step::Graceful, Evidence::Process), (Step::Restart, Evidence::Process)]);
    let first = driver.start().await.unwrap();
    let stays = driver.end(Step::Graceful).await.unwrap_err().to_string();
    assert!(stays.ends_with(&format!("but process {} still runs", first.pid)), "{stays}");
    driver.end(Step::Restart).await.unwrap();
    assert!(!lives::is_alive(first) && driver.alive().is_none());
    assert_ne!(driver.start().await.unwrap(), first);
    let none = driver.end(Step::Reboot).await.unwrap_err().to_string();
    assert_eq!(none, "no command for a reboot is configured");
}

/// A machine whose boot is a number in a file.
fn machine(daemon: &Daemon, reboot: &str) -> CommandDriver {
    let boot = daemon.path("boot").display().to_string();
    fs::write(&boot, "1\n").unwrap();
    let higher = Higher {
        reboot: Some(daemon.script("reboot", &reboot.replace("BOOT", &boot))),
        boot_id: Some(daemon.script("boot-id", &format!("cat {boot}"))),
        ..Higher::default()
    };
    let never = daemon.script("never", &format!("touch {}", daemon.path("never-ran").display()));
    let actions = Actions::StopStart { stop: never.clone(), start: never };
    CommandDriver { higher, timeout: Duration::from_secs(2), ..daemon.driver(actions, false) }
}

#[tokio::test]
async fn a_machine_that_boots_again_proves_it_and_brings_the_backend_up() {
    let daemon = Daemon::new();
    // It is deaf for a while, as a machine that boots is.
    let driver = machine(&daemon, "(rm BOOT; sleep 0.3; echo 2 > BOOT) >/dev/null 2>&1 &");
    let first = driver.start().await.unwrap();
    driver.end(Step::Reboot).await.unwrap();
    assert_eq!(fs::read_to_string(daemon.path("boot")).unwrap(), "2\n");
    // The next controller, too, waits for what comes by itself.
    let next = machine(&daemon, "false");
    assert_eq!(next.alive(), None);
    assert_ne!(next.start().await.unwrap(), first);
    assert!(!daemon.path("never-ran").exists());
}

#[tokio::test]
async fn a_machine_that_does_not_boot_again_is_not_taken_to_have_done_so() {
    let daemon = Daemon::new();
    let driver = machine(&daemon, "true");
    driver.start().await.unwrap();
    let same = driver.end(Step::Reboot).await.unwrap_err().to_string();
    assert!(same.ends_with("but its boot id is still 1: the machine was not started again"), "{same}");
    let driver = machine(&daemon, "rm BOOT");
    let silent = driver.end(Step::Reboot).await.unwrap_err().to_string();
    assert!(silent.contains("`boot_id` tells no boot of the machine: exit status 1"), "{silent}");
}

#[tokio::test]
async fn a_backend_whose_record_cannot_be_written_is_started_and_known_all_the_same() {
    let daemon = Daemon::new();
    let driver =
        CommandDriver { dir: daemon.path("taken/run"), ..daemon.driver(daemon.start_and_stop(), true) };
    // Nothing can be made below a file.
    fs::write(daemon.path("taken"), "").unwrap();
    let first = driver.start().await.unwrap();
    // Another driver of the backend, of a service that was taken up again, knows it as well.
    let again = driver.clone();
    assert_eq!((again.alive(), again.start().await.unwrap()), (Some(first), first));
    again.end(Step::Graceful).await.unwrap();
    assert_eq!(driver.alive(), None);
    let second = driver.start().await.unwrap();
    assert!(second != first && driver.alive() == Some(second));
    fs::remove_file(daemon.path("taken")).unwrap();
    assert_eq!(driver.alive(), Some(second));
    let kept: Life = crate::documents::read(&daemon.path("taken/run/life.json")).unwrap();
    assert_eq!((kept.instance, kept.stopped), (second, false));
}

#[tokio::test]
async fn what_a_daemon_prints_that_a_command_has_left_stays_bounded() {
    const KIB: usize = 1 << 10;
    let daemon = Daemon::new();
    let (pid, more) = (daemon.path("pid").display().to_string(), daemon.path("more").display().to_string());
    // It prints 3 MiB, and one line more when it is told to.
    let text = format!(
        "(yes 0123456789abcde | head -c 3145728; echo > {more}.ready\n\
         while ! test -e {more}; do sleep 0.02; done; echo the end; echo > {more}.done; exec sleep 60) &\necho $! > {pid}"
    );
    let start = daemon.script("start", &text);
    let driver = daemon.driver(Actions::StopStart { stop: start.clone(), start }, true);
    driver.start().await.unwrap();
    let until = async |name: &str| {
        let deadline = Deadline::now() + Duration::from_secs(20);
        while !daemon.path(name).exists() && Deadline::now() < deadline {
            sleep(POLL).await;
        }
    };
    until("more.ready").await;
    let (log, aside) = (daemon.path("run/command.log"), daemon.path("run/command.log.1"));
    assert_eq!(fs::metadata(&log).unwrap().len(), 3072 * KIB as u64);
    driver.trim_output();
    let length = |path: &Path| fs::metadata(path).unwrap().len();
    assert_eq!((length(&log), length(&aside)), (0, 1024 * KIB as u64));
    fs::write(daemon.path("more"), "").unwrap();
    until("more.done").await;
    assert_eq!(fs::read_to_string(&log).unwrap(), "the end\n");
    driver.trim_output();
    assert_eq!(driver.last_lines(1), ["the end"]);
}
