//! Commands whose controller was killed while they ran, and what the next controller makes of them.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::order::Order;
use super::tests::Daemon;
use super::*;

/// A command that a killed controller has left running.
struct Left(Child);

impl Left {
    fn new(driver: &CommandDriver, step: Option<Step>, command: &[String]) -> Self {
        let child = Command::new(&command[0]).process_group(0).spawn().unwrap();
        driver.note(&order(driver, step, command, lives::instance(child.id())));
        Self(child)
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn order(driver: &CommandDriver, step: Option<Step>, command: &[String], process: Option<Instance>) -> Order {
    Order {
        command: command.to_vec(),
        step,
        before: driver.life().map(|life| life.instance),
        process,
        ordered_ms: Now::read().boot_ms,
    }
}

/// One command that restarts a daemon after a while, and leaves a line each time.
fn slow_restart(daemon: &Daemon) -> Vec<String> {
    let (pid, ran) = (daemon.path("pid").display().to_string(), daemon.path("ran").display().to_string());
    let text = format!(
        "echo ran >> {ran}\nsleep 0.3\nkill $(cat {pid}) 2>/dev/null\nsleep 60 >/dev/null 2>&1 &\necho $! > {pid}\nsleep 0.3"
    );
    daemon.script("restart", &text)
}

fn runs(daemon: &Daemon) -> usize {
    fs::read_to_string(daemon.path("ran")).unwrap_or_default().lines().count()
}

/// Waits until something is so, at most for a while.
async fn until(is_so: impl Fn() -> bool) {
    let deadline = Deadline::now() + Duration::from_secs(5);
    while !is_so() && Deadline::now() < deadline {
        sleep(POLL).await;
    }
}

#[tokio::test]
async fn a_restart_that_outlives_its_controller_is_waited_for_and_not_run_again() {
    for has_pid_file in [true, false] {
        let daemon = Daemon::new();
        let restart = slow_restart(&daemon);
        let driver = daemon.driver(Actions::Restart(restart.clone()), has_pid_file);
        let first = driver.start().await.unwrap();
        let _ = fs::remove_file(daemon.path("ran"));
        driver.end(Step::Graceful).await.unwrap();
        let mut left = Left::new(&driver, None, &restart);
        until(|| runs(&daemon) > 0).await;

        // The next controller ends what it finds dead, and starts it.
        let next = daemon.driver(Actions::Restart(restart), has_pid_file);
        next.end(Step::Graceful).await.unwrap();
        let second = next.start().await.unwrap();
        assert!(left.has_ended() && second != first, "{second:?}");
        assert_eq!((runs(&daemon), next.alive()), (1, Some(second)), "with a pid file: {has_pid_file}");
        assert!(!daemon.path("run/order.json").exists());

        // From then on it is restarted as ever.
        next.end(Step::Graceful).await.unwrap();
        sleep(Duration::from_millis(2)).await;
        assert_ne!(next.start().await.unwrap(), second);
        assert_eq!(runs(&daemon), 2);
    }
}

#[tokio::test]
async fn a_stop_that_outlives_its_controller_is_waited_for_and_not_run_again() {
    let daemon = Daemon::new();
    let (pid, ran) = (daemon.path("pid").display().to_string(), daemon.path("ran").display().to_string());
    let stop = daemon.script("slow-stop", &format!("echo ran >> {ran}\nsleep 0.3\nkill $(cat {pid})"));
    let Actions::StopStart { start, .. } = daemon.start_and_stop() else { unreachable!() };
    let actions = Actions::StopStart { stop: stop.clone(), start };
    let driver = daemon.driver(actions.clone(), true);
    let first = driver.start().await.unwrap();
    let mut left = Left::new(&driver, Some(Step::Graceful), &stop);
    until(|| runs(&daemon) > 0).await;

    let next = daemon.driver(actions, true);
    assert_eq!(next.alive(), Some(first));
    next.end(Step::Graceful).await.unwrap();
    assert!(left.has_ended() && !lives::is_alive(first));
    assert_eq!((runs(&daemon), next.alive()), (1, None));
    assert_ne!(next.start().await.unwrap(), first);
}

#[tokio::test]
async fn a_command_that_outlives_its_controller_and_its_time_is_killed_and_then_run_again() {
    let daemon = Daemon::new();
    let actions = daemon.start_and_stop();
    let driver = CommandDriver { timeout: Duration::from_millis(200), ..daemon.driver(actions, true) };
    let hang = daemon.script("hang", "sleep 60");
    let mut left = Left::new(&driver, None, &hang);
    let late = driver.start().await.unwrap_err().to_string();
    assert!(late.contains("hang` did not end within 200ms and was killed"), "{late}");
    let process = lives::find(left.0.id());
    until(|| process.is_none_or(|process| !lives::is_alive(process.life))).await;
    assert!(left.has_ended());
    let first = driver.start().await.unwrap();
    assert_eq!(driver.alive(), Some(first));
}

#[tokio::test]
async fn a_command_that_has_ended_was_in_time_however_late_the_next_controller_comes() {
    let daemon = Daemon::new();
    let actions = daemon.start_and_stop();
    let driver =
        CommandDriver { timeout: Duration::from_millis(200), ..daemon.driver(actions.clone(), true) };
    let first = driver.start().await.unwrap();
    let Actions::StopStart { stop, .. } = actions else { unreachable!() };
    let mut ran = Command::new(&stop[0]).spawn().unwrap();
    let process = lives::instance(ran.id());
    ran.wait().unwrap();
    until(|| !lives::is_alive(first)).await;
    driver.note(&Order { ordered_ms: 0, ..order(&driver, Some(Step::Graceful), &stop, process) });
    // Beside others who want the processors, a thread that had to tell of its end would be late now and then.
    let is_over = Arc::new(AtomicBool::new(false));
    let others = thread::available_parallelism().map_or(4, |cpus| 4 * cpus.get());
    let others: Vec<_> = (0..others)
        .map(|_| Arc::clone(&is_over))
        .map(|is_over| thread::spawn(move || while !is_over.load(Ordering::Relaxed) {}))
        .collect();
    let mut found = Vec::new();
    for _ in 0..200 {
        found.push(driver.left_order().await.map(|order| order.is_some()));
    }
    is_over.store(true, Ordering::Relaxed);
    for other in others {
        other.join().unwrap();
    }
    assert!(found.iter().all(|found| matches!(found, Ok(true))), "{found:?}");
    driver.end(Step::Graceful).await.unwrap();
    assert!(driver.life().unwrap().stopped);
    assert_ne!(driver.start().await.unwrap(), first);
}

#[tokio::test]
async fn whether_a_command_ran_whose_process_is_not_known_is_left_to_the_witness() {
    let daemon = Daemon::new();
    let restart = slow_restart(&daemon);
    let actions = Actions::Restart(restart.clone());
    let driver = CommandDriver { timeout: Duration::from_secs(2), ..daemon.driver(actions, true) };
    let first = driver.start().await.unwrap();
    driver.end(Step::Graceful).await.unwrap();
    // Another one runs already: it was.
    let ran = Command::new(&restart[0]).status().unwrap();
    driver.note(&order(&driver, None, &restart, None));
    let second = driver.start().await.unwrap();
    assert!(ran.success() && second != first);
    assert_eq!(runs(&daemon), 2);
    // None does in all its time: it was not.
    driver.end(Step::Graceful).await.unwrap();
    driver.note(&order(&driver, None, &restart, None));
    assert_ne!(driver.start().await.unwrap(), second);
    assert_eq!(runs(&daemon), 3);
}

#[tokio::test]
async fn a_reboot_that_outlives_its_controller_is_waited_for_until_another_boot_runs() {
    let daemon = Daemon::new();
    let boot = daemon.path("boot").display().to_string();
    fs::write(&boot, "1\n").unwrap();
    let reboot = daemon.script(
        "reboot",
        &format!("echo ran >> {}; sleep 0.3; echo 2 > {boot}", daemon.path("ran").display()),
    );
    let higher = Higher {
        reboot: Some(reboot.clone()),
        boot_id: Some(daemon.script("boot-id", &format!("cat {boot}"))),
        ..Higher::default()
    };
    let driver = CommandDriver { higher, ..daemon.driver(Actions::Restart(vec!["/bin/true".into()]), false) };
    let first = driver.start().await.unwrap();
    driver.note_end(driver.life(), true);
    let mut left = Left::new(&driver, Some(Step::Reboot), &reboot);
    until(|| runs(&daemon) > 0).await;
    assert_ne!(driver.clone().start().await.unwrap(), first);
    assert!(left.has_ended());
    assert_eq!((runs(&daemon), driver.life().unwrap().boot.as_deref()), (1, Some("2")));
}
