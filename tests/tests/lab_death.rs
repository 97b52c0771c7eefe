//! Backends that die, wedge or only look so: who is declared dead, how long clients hang, who serves instead.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use baton_tests::lab::{Lab, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Three checks in a row fail, of which each takes up to a second; what follows takes no time.
const NOTICED: Duration = Duration::from_secs(6);

/// A service that behaves as a file named after its backend says: `silent` accepts and never answers, `closed`
/// besides closes its port, `sick` and `deaf` fail checks or do not answer them, and serve all others. A new life
/// is well.
const MOODY: &str = "
import os, socket, sys, threading, time
name = os.environ['BATON_BACKEND'].encode()
path = os.path.join(sys.argv[1], name.decode())
if os.path.exists(path): os.remove(path)
def mood():
    try: return open(path).read()
    except OSError: return 'well'
def serve(client):
    pending = b''
    while True:
        while b'\\r\\n\\r\\n' not in pending:
            more = client.recv(65536)
            if not more: return
            pending += more
        head, pending = pending.split(b'\\r\\n\\r\\n', 1)
        check = head.split()[1] == b'/health'
        while mood() in ('silent', 'closed') or check and mood() == 'deaf': time.sleep(0.02)
        sick = check and mood() == 'sick'
        status = b'500 Internal Server Error' if sick else b'200 OK'
        client.sendall(b'HTTP/1.1 ' + status + b'\\r\\nx-baton-backend: ' + name + b'\\r\\ncontent-length: 0\\r\\n\\r\\n')
while True:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(('', 8080))
    listener.listen(64)
    listener.settimeout(0.02)
    while mood() != 'closed':
        try: client, _ = listener.accept()
        except TimeoutError: continue
        client.settimeout(None)
        threading.Thread(target=serve, args=(client,), daemon=True).start()
    listener.close()
    while mood() == 'closed': time.sleep(0.02)
";

struct Moody {
    lab: Lab,
    moods: PathBuf,
    active: String,
    pid: i32,
}

impl Moody {
    fn up(flags: &[&str]) -> Self {
        let mut lab = Lab::new();
        let moods = lab.file("moods");
        fs::create_dir(&moods).unwrap();
        let flags: Vec<_> = ["--check", "http:/health"].iter().chain(flags).copied().collect();
        lab.up(&flags, &["python3", "-c", MOODY, moods.to_str().unwrap()]);
        let active = lab.backend("active");
        let pid = i32::try_from(active["pid"].as_u64().unwrap()).unwrap();
        Self { moods, active: active["name"].as_str().unwrap().to_owned(), pid, lab }
    }

    /// The active backend's mood from now on.
    fn set(&self, mood: &str) {
        // Never seen half written.
        let new: &Path = &self.moods.join("new");
        fs::write(new, mood).unwrap();
        fs::rename(new, self.moods.join(&self.active)).unwrap();
    }

    fn send(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid), signal).unwrap();
    }

    /// Stops all its threads, and returns once they have: a thread on another CPU may answer yet until then.
    fn stop(&self) {
        self.send(Signal::SIGSTOP);
        eventually("all its threads have stopped", || {
            let threads = fs::read_dir(format!("/proc/{}/task", self.pid)).unwrap();
            threads.flatten().all(|thread| {
                let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
                status.lines().any(|line| line.starts_with("State:\tT"))
            })
        });
    }

    /// A client with an open connection asks right after `strike`, and new ones try meanwhile. How long the
    /// first one hangs until it hears of the death, and until new connections are answered elsewhere.
    fn measure(&self, what: &str, strike: impl FnOnce()) -> (Duration, Duration) {
        let mut old = self.lab.connect();
        assert_eq!(old.get("/").unwrap().backend, self.active);
        strike();
        let struck = Instant::now();
        let (hang, elsewhere) = std::thread::scope(|scope| {
            let hang = scope.spawn(move || {
                let error = old.get("/").expect_err("the dead do not answer");
                assert_ne!(error.kind(), ErrorKind::WouldBlock, "nobody told the client");
                struck.elapsed()
            });
            eventually("the other one is active", || self.another_is_active());
            let elsewhere = struck.elapsed();
            assert_ne!(self.lab.connect().get("/").unwrap().backend, self.active);
            (hang.join().unwrap(), elsewhere)
        });
        println!(
            "{what}: the open connection hung for {hang:?}, new ones went elsewhere after {elsewhere:?}"
        );
        (hang, elsewhere)
    }

    fn another_is_active(&self) -> bool {
        let status = self.lab.status();
        let backends = status["backends"].as_array().into_iter().flatten();
        backends.clone().any(|one| one["state"] == "active" && one["name"] != self.active.as_str())
    }

    /// Waits for the report of the death, which must say this, and for the dead one's return; the flows that it
    /// names as cut.
    fn assert_restarted(&self, status: &str) -> usize {
        eventually("the dead one is back", || self.lab.states().contains(&"standby".to_owned()));
        let report = self.lab.reports().pop().expect("a report");
        assert_eq!(
            (&report["reason"]["code"], &report["from"]),
            (&"died".into(), &self.active.as_str().into())
        );
        assert!(report["reason"]["status"].as_str().unwrap().contains(status), "{report:#}");
        assert_ne!(report["proof"]["before"], report["proof"]["after"]);
        report["cut"].as_array().map_or(0, Vec::len)
    }

    /// A client goes on asking the active backend until that drains, and longer: it must be answered all along.
    fn assert_suspect(&self, mood: &str, finding: &str) {
        let mut old = self.lab.connect();
        self.set(mood);
        let mut answered_since = None;
        while answered_since.is_none_or(|at: Instant| at.elapsed() < Duration::from_secs(3)) {
            assert_eq!(old.get("/").unwrap().backend, self.active);
            if answered_since.is_none() && self.another_is_active() {
                answered_since = Some(Instant::now());
                assert_ne!(
                    self.lab.connect().get("/").unwrap().backend,
                    self.active,
                    "new flows go elsewhere"
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(self.lab.states().contains(&"draining".to_owned()), "{:?}", self.lab.states());
        drop(old);
        eventually("the suspect is renewed", || self.lab.states().contains(&"standby".to_owned()));
        let report = self.lab.reports().pop().expect("a report");
        assert_eq!(report["reason"]["code"], "unhealthy", "{report:#}");
        assert!(report["reason"]["finding"].as_str().unwrap().contains(finding), "{report:#}");
        assert_eq!(report["outcome"], "completed", "{report:#}");
    }
}

#[test]
fn a_killed_process_is_known_at_once() {
    let moody = Moody::up(&[]);
    let (hang, elsewhere) = moody.measure("killed", || moody.send(Signal::SIGKILL));
    assert!(hang < Duration::from_secs(1) && elsewhere < Duration::from_secs(1), "{hang:?}, {elsewhere:?}");
    // The kernel has closed its sockets, and so its flows, before anybody could look.
    moody.assert_restarted("killed by SIGKILL");
}

#[test]
fn a_stopped_process_is_declared_dead_and_killed() {
    let moody = Moody::up(&[]);
    let (hang, elsewhere) = moody.measure("SIGSTOP", || moody.stop());
    assert!(hang < NOTICED && elsewhere < NOTICED, "{hang:?}, {elsewhere:?}");
    assert_eq!(moody.assert_restarted("no client was answered since"), 1);
}

#[test]
fn a_closed_port_is_a_death_although_the_process_lives() {
    let moody = Moody::up(&[]);
    let (hang, elsewhere) = moody.measure("port closed", || moody.set("closed"));
    assert!(hang < NOTICED && elsewhere < NOTICED, "{hang:?}, {elsewhere:?}");
    assert_eq!(moody.assert_restarted("connection refused, and no client was answered since"), 1);
}

#[test]
fn one_that_accepts_and_never_answers_is_dead() {
    let moody = Moody::up(&[]);
    let (hang, elsewhere) = moody.measure("accepts, silent", || moody.set("silent"));
    assert!(hang < NOTICED && elsewhere < NOTICED, "{hang:?}, {elsewhere:?}");
    assert_eq!(moody.assert_restarted("no answer in time, and no client was answered since"), 1);
}

#[test]
fn one_that_fails_its_checks_and_answers_clients_keeps_them() {
    let moody = Moody::up(&[]);
    moody.assert_suspect("sick", "500");
}

#[test]
fn one_that_leaves_its_checks_unanswered_and_answers_clients_keeps_them() {
    let moody = Moody::up(&[]);
    moody.assert_suspect("deaf", "no answer in time");
}
