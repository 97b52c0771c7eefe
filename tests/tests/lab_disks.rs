//! Disks that are full or refuse, and interfaces that are not there: services go on, and nothing is left half-done.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output};

use baton::paths::Roots;
use baton_tests::lab::eventually;
use baton_tests::plane::{Governed, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const QUICK_DRAIN: &str = "[service.drain]\ndeadline = \"20s\"\n";

/// A disk of its own over one directory, until it is dropped.
struct Disk(PathBuf);

impl Disk {
    fn over(directory: PathBuf) -> Self {
        fs::create_dir_all(&directory).unwrap();
        let disk = Self(directory);
        disk.mount(&["-t", "tmpfs", "-o", "size=256k", "tmpfs"]);
        disk
    }

    fn mount(&self, words: &[&str]) {
        let mounted = Command::new("mount").args(words).arg(&self.0).output().unwrap();
        assert!(mounted.status.success(), "{}", said(&mounted));
    }

    fn remount(&self, option: &str) {
        self.mount(&["-o", &format!("remount,{option}")]);
    }

    /// Leaves no room; a file that goes away makes some again.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("fill");
        let mut file = File::create(&path).unwrap();
        while file.write_all(&[b'x'; 4096]).is_ok() {}
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A controller that has files open there keeps them.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
        let _ = fs::remove_dir(&self.0);
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Kills the active backend, and waits until another one is active and all are ready.
fn strike_active(governed: &mut Governed) {
    eventually("one is active", || !governed.backends_in("shop", "active").is_empty());
    let active = governed.backends_in("shop", "active");
    let number = active[0][1..].parse().unwrap();
    let pid = fs::read_to_string(governed.pid_file(number)).unwrap().trim().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    eventually("another one is active", || {
        let now = governed.backends_in("shop", "active");
        !now.is_empty() && now != active
    });
    governed.until_ready(1);
}

#[test]
fn a_service_whose_journal_cannot_be_written_is_taken_up_and_answers_failures() {
    let mut governed = Governed::new(Options::default());
    let state = Disk::over(Roots::default().state.join(governed.service("shop")));
    let text = governed.describe("shop", QUICK_DRAIN);
    governed.up(&[text]);
    governed.kill_controller();
    state.remount("ro");
    governed.start();
    governed.until_ready(1);

    let refused = governed.baton(&["rejuvenate", &governed.service("shop"), "--wait"]);
    assert!(!refused.status.success());
    assert!(
        said(&refused).contains("the journal cannot be written: Read-only file system"),
        "{}",
        said(&refused)
    );
    strike_active(&mut governed);

    state.remount("rw");
    eventually("it is tried again", || governed.output().contains("the journal can be written again"));
    assert_eq!(governed.rejuvenate("shop", None)["outcome"], "completed");
    governed.kill_controller();
}

#[test]
fn a_journal_that_cannot_be_read_at_first_is_heeded_as_soon_as_it_can() {
    let mut governed = Governed::new(Options::default());
    let text = governed.describe("shop", QUICK_DRAIN);
    governed.up(&[text]);
    assert!(governed.baton(&["pause", &governed.service("shop")]).status.success());
    governed.kill_controller();
    let journal = Roots::default().state.join(governed.service("shop")).join("journal");
    let kept = governed.file("journal");
    fs::copy(&journal, &kept).unwrap();
    fs::remove_file(&journal).unwrap();
    // Nobody reads a directory.
    fs::create_dir(&journal).unwrap();
    governed.start();
    governed.until_ready(1);
    assert_eq!(governed.status()[0]["paused"], false);
    let refused = governed.baton(&["rejuvenate", &governed.service("shop"), "--wait"]);
    assert!(said(&refused).contains("it cannot be read either: Is a directory"), "{}", said(&refused));

    fs::remove_dir(&journal).unwrap();
    fs::copy(&kept, &journal).unwrap();
    eventually("the service is taken up again", || {
        governed.status().first().is_some_and(|status| status["paused"] == true)
    });
    governed.until_ready(1);
    assert!(governed.output().contains("the journal can be read by now"), "{}", governed.output());
    assert_eq!(governed.rejuvenate("shop", None)["outcome"], "completed");
}

#[test]
fn a_backend_that_dies_while_there_is_no_room_is_started() {
    let mut governed = Governed::new(Options::default());
    let run = Disk::over(Roots::default().run.join(governed.service("shop")));
    let text = governed.describe("shop", QUICK_DRAIN);
    governed.up(&[text]);
    run.fill();
    strike_active(&mut governed);
    strike_active(&mut governed);
    governed.kill_controller();
}

#[test]
fn ids_that_cannot_be_written_down_end_no_controller() {
    let mut governed = Governed::new(Options { backends: 3, ..Options::default() });
    let name = governed.service("").trim_end_matches('-').to_owned();
    let plane = Disk::over(Roots::default().plane(&name.parse().unwrap()).run_dir());
    let all = governed.describe("shop", &format!("policy = \"rr\"\n{QUICK_DRAIN}"));
    governed.up(std::slice::from_ref(&all));
    let fill = plane.fill();
    let third = all.rfind("[[service.backend]]").unwrap();
    governed.configure(&[all[..third].to_owned()]);
    governed.reload().unwrap();
    eventually("it is said", || governed.output().contains("it is tried again until it succeeds"));
    governed.until_ready(1);
    fs::remove_file(fill).unwrap();
    eventually("it is done", || governed.output().contains("what failed has succeeded"));
    governed.kill_controller();
}

/// What `ip` says of an interface of the balancer.
fn link(governed: &Governed, interface: &str) -> String {
    let show = || Command::new("ip").args(["link", "show", "dev", interface]).output().unwrap();
    String::from_utf8(governed.balancer().run(show).stdout).unwrap()
}

fn links_held(governed: &Governed) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", governed.controller_pid().unwrap())).unwrap();
    let is_link = |path: PathBuf| {
        path.to_string_lossy().contains("bpf_link") || path.to_string_lossy().contains("bpf-link")
    };
    descriptors
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .filter(|path| is_link(path.clone()))
        .count()
}

#[test]
fn an_interface_is_let_go_of_by_a_reload_and_taken_again_by_the_next_or_none_is() {
    let mut governed = Governed::new(Options::default());
    let shop = governed.describe("shop", QUICK_DRAIN);
    let all = governed.data_plane();
    let last = all.split('"').rev().nth(1).unwrap().to_owned();
    let fewer = all.replace(&format!(", \"{last}\""), "");
    let wrong = all.replace(&format!("\"{last}\""), &format!("\"{last}\", \"nosuch0\""));
    assert!(fewer != all && wrong != all, "{all}");
    let write = |governed: &Governed, plane: &str| {
        fs::write(governed.file("baton.toml"), format!("{plane}{shop}")).unwrap();
    };

    // A start that fails leaves nothing.
    write(&governed, &wrong);
    governed.start();
    let stat = format!("/proc/{}/stat", governed.controller_pid().unwrap());
    eventually("it has ended", || fs::read_to_string(&stat).unwrap().contains(") Z "));
    assert_eq!(governed.end_controller(), Some(1), "{}", governed.output());
    let name = governed.service("").trim_end_matches('-').to_owned();
    assert!(Roots::default().plane(&name.parse().unwrap()).pinned().is_empty());

    governed.up(std::slice::from_ref(&shop));
    assert!(link(&governed, &last).contains("xdp"), "{}", link(&governed, &last));
    for _ in 0..3 {
        governed.reload().unwrap();
    }
    assert_eq!(links_held(&governed), 0, "a pin is all that holds a link");

    write(&governed, &fewer);
    governed.reload().unwrap();
    // The kernel takes its time with what nobody holds any more.
    eventually("the interface is let go of", || !link(&governed, &last).contains("xdp"));
    write(&governed, &wrong);
    let refused = governed.reload().unwrap_err();
    assert!(refused.contains("there is no interface `nosuch0`"), "{refused}");
    eventually("it is let go of again", || !link(&governed, &last).contains("xdp"));
    write(&governed, &all);
    governed.reload().unwrap();
    assert!(link(&governed, &last).contains("xdp"), "{}", link(&governed, &last));
}
