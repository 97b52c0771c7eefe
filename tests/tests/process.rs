//! The process driver with real shims, commands, namespaces and cgroups. Needs root.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use baton::driver::process::{Cgroup, ProcessDriver, Running, StartError};
use baton::probe::{self, Sample};
use baton::recovery::Instance;
use baton_tests::processes::{Backend, wait_until};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Runs shims, and plays the controller that is killed.
const LAB: &str = env!("CARGO_BIN_EXE_process-lab");
const GRACE: Duration = Duration::from_secs(5);

fn backend(script: &str) -> Backend {
    Backend::new(LAB, script, None)
}

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

#[track_caller]
fn assert_empty(pids: &[u32]) {
    assert!(pids.is_empty(), "processes {pids:?} are left");
}

fn wait_for_line(driver: &ProcessDriver, wanted: &str) {
    wait_until(&format!("it prints {wanted}"), || driver.last_lines(50).iter().any(|line| line == wanted));
}

/// Starts the backend's command from a process of its own, which `lab` begins; returns that and the instance.
fn controller(backend: &Backend, lab: &mut Command) -> (Child, Instance) {
    let launch = backend.file("launch");
    fs::write(&launch, serde_json::to_vec(&backend.launch).unwrap()).unwrap();
    let mut controller =
        lab.arg("start").args([backend.dir(), launch]).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(controller.stdout.take().unwrap()).read_line(&mut said).unwrap();
    (controller, serde_json::from_str(&said).unwrap())
}

/// Runs a script to its end; returns how it ended.
async fn run_to_end(backend: &Backend) -> String {
    let instance = backend.driver.start().await.unwrap();
    backend.driver.ended(instance).await
}

#[tokio::test]
async fn what_a_command_prints_and_how_it_ends_is_kept() {
    let backend = backend("echo first; echo second >&2; printf third; exit 3");
    let instance = backend.driver.start().await.unwrap();
    assert_eq!(backend.driver.ended(instance).await, "exited with status 3");
    let mut lines = backend.driver.last_lines(10);
    lines.sort();
    assert_eq!(lines, ["first", "second", "third"]);
    assert_eq!(backend.driver.alive(), None);
    wait_until("the shim is gone", || backend.inhabitants().is_empty());
}

#[tokio::test]
async fn a_command_finds_its_namespace_its_directory_its_names_and_the_resolver_it_needs() {
    let backend = backend(
        "stat -L -c %i /proc/self/ns/net; pwd; echo $BATON_SERVICE/$BATON_BACKEND; echo $KEPT; \
         cat /etc/resolv.conf; touch made-inside",
    );
    let names = backend.file("resolv.conf");
    fs::write(&names, "nameserver 192.0.2.1\n").unwrap();
    let before = fs::read_to_string("/etc/resolv.conf").ok();
    let driver = backend.driver_of(LAB, |launch| {
        launch.resolv_conf = Some(names);
        launch.environment.push(("KEPT".into(), "kept".into()));
    });
    let instance = driver.start().await.unwrap();
    assert_eq!(driver.ended(instance).await, "exited with status 0");
    let lines = driver.last_lines(10);
    let netns = fs::metadata(&backend.launch.netns).unwrap().ino().to_string();
    let directory = backend.launch.directory.display().to_string();
    let named = format!("{}/a", backend.launch.service);
    assert_eq!(lines, [&netns, &directory, &named, "kept", "nameserver 192.0.2.1"]);
    assert!(backend.file("made-inside").exists(), "the file system is not shared");
    assert_eq!(fs::read_to_string("/etc/resolv.conf").ok(), before, "the host's resolver was changed");
}

#[tokio::test]
async fn a_killed_controller_leaves_the_command_and_its_output_running_and_the_next_adopts_both() {
    let backend = backend("i=0; while :; do echo line $i; i=$((i + 1)); sleep 0.02; done");
    let (mut controller, instance) = controller(&backend, &mut Command::new(LAB));

    controller.kill().unwrap();
    controller.wait().unwrap();

    assert_eq!(backend.driver.alive(), Some(instance));
    let mut tail = backend.driver.tail();
    let mut lines = tail.lines();
    wait_until("output goes on", || {
        lines.extend(tail.lines());
        lines.len() > 5
    });
    assert_eq!(backend.driver.alive(), Some(instance));
    backend.driver.stop(GRACE).await.unwrap();
    assert_eq!(backend.driver.ended(instance).await, "killed by SIGTERM");
    assert_empty(&backend.inhabitants());
}

#[tokio::test]
async fn signals_that_end_a_controller_do_not_end_a_shim() {
    let backend = backend("exec sleep 1000");
    let instance = backend.driver.start().await.unwrap();
    let shim = backend.driver.running().unwrap().shim;
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT] {
        send(shim.pid, signal);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(backend.driver.running().map(|running| running.shim), Some(shim));
    assert!(fs::read_to_string(format!("/proc/{}/stat", shim.pid)).unwrap().contains("(bt-shim) S"));
    // The command itself is free to hear them.
    send(instance.pid, Signal::SIGHUP);
    assert_eq!(backend.driver.ended(instance).await, "killed by SIGHUP");
}

#[tokio::test]
async fn a_command_hears_the_signals_that_whoever_started_the_controller_ignores() {
    let backend = backend("exec sleep 1000");
    let (mut controller, instance) =
        controller(&backend, Command::new("sh").args(["-c", "trap '' HUP; exec \"$@\"", "sh", LAB]));
    send(instance.pid, Signal::SIGHUP);
    let ended = tokio::time::timeout(GRACE, backend.driver.ended(instance)).await;
    controller.kill().unwrap();
    controller.wait().unwrap();
    assert_eq!(ended.as_deref(), Ok("killed by SIGHUP"));
}

#[tokio::test]
async fn a_command_that_listens_to_the_term_signal_ends_as_it_likes() {
    let backend = backend("trap 'sleep 0.2; echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done");
    let instance = backend.driver.start().await.unwrap();
    wait_for_line(&backend.driver, "up");
    backend.driver.stop(GRACE).await.unwrap();
    assert_eq!(backend.driver.ended(instance).await, "exited with status 0");
    assert_eq!(backend.driver.last_lines(1), ["bye"]);
}

#[tokio::test]
async fn a_server_behind_a_wrapper_has_the_whole_grace_to_end() {
    let backend = backend(
        "sh -c \"trap 'sleep 0.5; echo saved; exit' TERM; echo up; while :; do sleep 0.02; done\"; true",
    );
    backend.driver.start().await.unwrap();
    wait_for_line(&backend.driver, "up");
    backend.driver.stop(GRACE).await.unwrap();
    assert_eq!(backend.driver.last_lines(1), ["saved"]);
    assert_empty(&backend.inhabitants());
}

#[tokio::test]
async fn a_command_that_ignores_the_term_signal_is_killed_after_the_grace() {
    let backend = backend("trap '' TERM; echo up; while :; do sleep 0.02; done");
    let instance = backend.driver.start().await.unwrap();
    wait_for_line(&backend.driver, "up");
    let begun = Instant::now();
    backend.driver.stop(Duration::from_millis(300)).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300) && begun.elapsed() < GRACE);
    assert_eq!(backend.driver.ended(instance).await, "killed by SIGKILL");
    assert_empty(&backend.inhabitants());
}

#[tokio::test]
async fn daemons_in_sessions_of_their_own_are_found_and_ended() {
    let backend =
        backend("setsid sh -c \"trap '' TERM; setsid sleep 1000 & wait; sleep 1000\" & exec sleep 1000");
    backend.driver.start().await.unwrap();
    wait_until("all are up", || backend.driver.processes().len() == 3);
    backend.driver.stop(Duration::from_millis(100)).await.unwrap();
    assert_empty(&backend.inhabitants());
}

#[tokio::test]
async fn a_daemon_does_not_outlive_the_command_that_left_it() {
    let backend = backend("setsid sleep 1000 & sleep 0.1; exit 0");
    assert_eq!(run_to_end(&backend).await, "exited with status 0");
    wait_until("the daemon and the shim are gone", || backend.inhabitants().is_empty());
}

#[tokio::test]
async fn processes_that_flee_by_forking_are_caught() {
    // Twenty at a time, each a new session a generation; they would end by themselves after 3,000.
    let backend = backend(
        "printf '%s\\n' 'sleep 0.01' '[ $1 -gt 3000 ] || setsid sh flee $(($1 + 1)) &' > flee; \
         for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do setsid sh flee 0 & done; \
         echo up; exec sleep 1000",
    );
    backend.driver.start().await.unwrap();
    wait_for_line(&backend.driver, "up");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(backend.inhabitants().len() > 10);
    backend.driver.stop(Duration::from_millis(50)).await.unwrap();
    assert_empty(&backend.inhabitants());
}

#[tokio::test]
async fn without_its_shim_a_life_can_still_be_ended() {
    let backend = backend("setsid sh -c 'setsid sleep 1000 & sleep 0.1' & exec sleep 1000");
    let instance = backend.driver.start().await.unwrap();
    wait_until("the daemon is an orphan", || backend.driver.processes().len() == 2);
    wait_until("the daemon is up", || backend.inhabitants().len() == 3);
    send(backend.driver.running().unwrap().shim.pid, Signal::SIGKILL);
    wait_until("the shim is gone", || backend.inhabitants().len() == 2);
    assert_eq!(backend.driver.alive(), Some(instance));
    assert!(backend.driver.processes().contains(&instance.pid));
    backend.driver.stop(GRACE).await.unwrap();
    assert_eq!(backend.driver.ended(instance).await, "ended, and its shim did not say how");
    assert_empty(&backend.inhabitants());
}

#[tokio::test]
async fn a_backend_never_has_two_lives() {
    let backend = backend("exec sleep 1000");
    let instance = backend.driver.start().await.unwrap();
    let again = backend.driver.start().await;
    assert!(matches!(again, Err(StartError::StillRunning(name, pid)) if name == "a" && pid == instance.pid));
    // Not even for a controller that has lost the records.
    let record = backend.dir().join("running.json");
    let kept = fs::read(&record).unwrap();
    fs::remove_file(&record).unwrap();
    let error = backend.driver.start().await.unwrap_err().to_string();
    assert!(error.contains("processes of an earlier life have not ended yet"), "{error}");
    fs::write(&record, kept).unwrap();
    assert_eq!(backend.driver.alive(), Some(instance));
}

#[tokio::test]
async fn a_new_life_begins_when_the_old_one_has_ended() {
    let backend = backend("echo up; exec sleep 1000");
    let first = backend.driver.start().await.unwrap();
    wait_for_line(&backend.driver, "up");
    backend.driver.stop(GRACE).await.unwrap();
    let second = backend.driver.start().await.unwrap();
    assert_ne!(first, second);
    wait_for_line(&backend.driver, "up");
    assert_eq!(backend.driver.last_lines(9), ["up"], "the first life's output is taken for the second's");
}

#[tokio::test]
async fn a_stranger_that_got_a_recorded_pid_is_left_alone() {
    let backend = backend("exec sleep 1000");
    let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
    let reused = Instance { pid: stranger.id(), start_ticks: 1 };
    let record = Running { instance: reused, shim: reused, started_unix_ms: 0 };
    fs::create_dir_all(backend.dir()).unwrap();
    fs::write(backend.dir().join("running.json"), serde_json::to_vec(&record).unwrap()).unwrap();
    assert_eq!(backend.driver.alive(), None);
    assert!(backend.driver.processes().is_empty());
    backend.driver.stop(Duration::ZERO).await.unwrap();
    backend.driver.start().await.unwrap();
    assert!(stranger.try_wait().unwrap().is_none(), "a stranger was killed");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn a_start_that_cannot_be_says_why_and_leaves_nothing() {
    let backend = backend("true");
    let missing = backend.driver_of(LAB, |launch| launch.command = vec!["./no-such-server".into()]);
    let error = missing.start().await.unwrap_err().to_string();
    assert!(error.contains("cannot run `./no-such-server`") && error.contains("No such file"), "{error}");
    let nowhere = backend.driver_of(LAB, |launch| launch.netns = "/run/netns/baton-none".into());
    let error = nowhere.start().await.unwrap_err().to_string();
    assert!(error.contains("cannot open network namespace /run/netns/baton-none"), "{error}");
    let error = backend.driver_of("/no/such/program", |_| ()).start().await.unwrap_err().to_string();
    assert!(error.contains("/no/such/program"), "{error}");
    wait_until("the shims are gone", || backend.inhabitants().is_empty());
}

#[tokio::test]
async fn a_life_whose_start_cannot_be_recorded_is_ended_again() {
    let backend = backend("exec sleep 1000");
    fs::create_dir_all(backend.dir().join("running.json.new")).unwrap();
    let error = backend.driver.start().await.unwrap_err().to_string();
    assert!(error.contains("cannot record what runs"), "{error}");
    wait_until("nothing is left", || backend.inhabitants().is_empty());
}

#[tokio::test]
async fn secrets_in_the_environment_and_the_output_are_for_the_owner_only() {
    let backend = backend("exec sleep 1000");
    backend.driver.start().await.unwrap();
    for name in ["launch.json", "running.json", "output.log"] {
        assert_eq!(fs::metadata(backend.dir().join(name)).unwrap().mode() & 0o077, 0, "{name}");
    }
}

#[tokio::test]
async fn a_talkative_command_fills_two_files_and_no_more() {
    let backend = backend("yes a line of some length or other | head -c 30000000; echo; echo end");
    assert_eq!(run_to_end(&backend).await, "exited with status 0");
    assert_eq!(backend.driver.last_lines(1), ["end"]);
    for name in ["output.log", "output.log.1"] {
        assert!(fs::metadata(backend.dir().join(name)).unwrap().len() < 9 << 20);
    }
    assert!(!backend.dir().join("output.log.2").exists());
}

#[tokio::test]
async fn a_full_disk_costs_lines_and_not_the_service() {
    let backend = backend("yes | head -c 1000000; touch still-running; exec sleep 1000");
    fs::create_dir_all(backend.dir()).unwrap();
    mount(Some("tmpfs"), &backend.dir(), Some("tmpfs"), MsFlags::empty(), Some("size=64k")).unwrap();
    let started = backend.driver.start().await;
    wait_until("the command went on", || backend.file("still-running").exists());
    let stopped = backend.driver.stop(GRACE).await;
    let left = backend.inhabitants();
    umount2(&backend.dir(), MntFlags::MNT_DETACH).unwrap();
    started.unwrap();
    stopped.unwrap();
    assert_empty(&left);
}

#[tokio::test]
async fn a_command_beyond_its_memory_limit_is_killed_and_its_end_says_so() {
    let backend = Backend::new(LAB, "echo up; exec tail /dev/zero", Some(64 << 20));
    let cgroup = backend.cgroup.clone().unwrap();
    let instance = backend.driver.start().await.unwrap();
    let status = backend.driver.ended(instance).await;
    assert!(status.starts_with("killed by SIGKILL, after the kernel killed 1 of its processes"), "{status}");
    assert_eq!(cgroup.oom_kills(), 1);
    // The next life's end is not blamed on the last one's.
    backend.driver.stop(GRACE).await.unwrap();
    let innocent = backend.driver_of(LAB, |launch| launch.command = vec!["true".into()]);
    let instance = innocent.start().await.unwrap();
    assert_eq!(innocent.ended(instance).await, "exited with status 0");
}

#[tokio::test]
async fn a_cgroup_holds_the_command_and_not_the_shim_and_goes_when_asked() {
    let backend = Backend::new(LAB, "sleep 1000 & setsid sleep 1000 & exec sleep 1000", Some(64 << 20));
    let cgroup = backend.cgroup.clone().unwrap();
    let instance = backend.driver.start().await.unwrap();
    wait_until("all are up", || cgroup.processes().len() == 3);
    assert!(cgroup.processes().contains(&instance.pid));
    assert!(!cgroup.processes().contains(&backend.driver.running().unwrap().shim.pid));
    backend.driver.stop(GRACE).await.unwrap();
    assert!(cgroup.processes().is_empty());
    let names = [backend.launch.backend.clone()];
    Cgroup::remove_all(&backend.launch.service, &names).unwrap();
    assert!(!cgroup.procs().exists());
    Cgroup::remove_all(&backend.launch.service, &names).unwrap();
}

#[tokio::test]
async fn another_memory_limit_counts_from_the_next_start_on() {
    let backend = Backend::new(LAB, "exec sleep 1000", Some(64 << 20));
    let bound = |cgroup: &Cgroup| -> u64 {
        let files = ["memory.max", "memory.limit_in_bytes"].map(|name| cgroup.procs().with_file_name(name));
        let text = files.iter().find_map(|file| fs::read_to_string(file).ok()).unwrap();
        text.trim().parse().unwrap()
    };
    let first = backend.driver.start().await.unwrap();
    // Both ways, and back again over the old limit.
    for bytes in [32 << 20, 128 << 20] {
        let before = bound(backend.cgroup.as_ref().unwrap());
        let cgroup = Cgroup::of(&backend.launch.service, &backend.launch.backend, bytes).unwrap();
        let next = ProcessDriver::new(backend.dir(), backend.launch.clone(), Some(cgroup.clone()))
            .with_shim(LAB.into());
        assert_eq!(bound(&cgroup), before, "the life that runs keeps its limit");
        assert!(next.start().await.is_err(), "it runs");
        assert_eq!(bound(&cgroup), before);
        next.stop(GRACE).await.unwrap();
        assert_ne!(next.start().await.unwrap(), first);
        assert_eq!(bound(&cgroup), bytes);
    }
}

#[tokio::test]
async fn a_sample_sums_the_whole_tree() {
    let backend = backend("sleep 1000 & setsid sleep 1000 & exec sleep 1000");
    backend.driver.start().await.unwrap();
    wait_until("all are up", || {
        let pids = backend.driver.processes();
        let is_sleep =
            |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "sleep\n");
        pids.len() == 3 && pids.iter().all(is_sleep)
    });
    let pids = backend.driver.processes();
    let each = || pids.iter().map(|pid| probe::sample(&[*pid])).collect::<Vec<_>>();
    let sums = |samples: &[Sample]| {
        let rss: u64 = samples.iter().map(|one| one.memory_rss_bytes).sum();
        let fds: u64 = samples.iter().map(|one| one.fds_count).sum();
        (rss, fds)
    };
    // They may still be loading what they need.
    let is_loaded = |one: &Sample| one.memory_rss_bytes > 100 << 10 && one.fds_count >= 3;
    wait_until("all are loaded, and the sums are right", || {
        each().iter().all(is_loaded) && sums(&[probe::sample(&pids)]) == sums(&each())
    });
    let sample = probe::sample(&pids);
    assert_eq!((sample.processes_count, sample.threads_count), (3, 3));
}
