//! A machine of the plane, and what runs on it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use baton::net::mac::Mac;
use baton::net::netns::{NetnsHandle, run_in};

use super::decapsulate::Decapsulator;
use crate::lab::{PATIENCE, aging_service, eventually};

/// How often a thread looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// A network namespace with one interface to the others.
pub struct Machine {
    /// Its namespace.
    pub netns: NetnsHandle,
    /// Its own address.
    pub address: IpAddr,
    /// The balancer's address on its network.
    pub gateway: IpAddr,
    pub(super) mac: Mac,
    /// The balancer's interface towards it.
    pub(super) leg: usize,
    /// The router between, if there is one.
    pub(super) router: Option<NetnsHandle>,
}

impl Machine {
    /// A namespace as a file that any thread of this process can enter it by.
    pub(super) fn path(netns: &NetnsHandle) -> PathBuf {
        format!("/proc/self/fd/{}", netns.file().as_raw_fd()).into()
    }

    /// The namespace that the balancer's cable leads to.
    pub(super) fn plugged(&self) -> &NetnsHandle {
        self.router.as_ref().unwrap_or(&self.netns)
    }

    /// Runs something in the machine's namespace, on a thread of its own.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        run_in(&self.netns, work).expect("a namespace that can be entered")
    }

    /// Runs lines of `ip` commands.
    pub fn ip(&self, lines: &[String]) {
        batch(&self.netns, "ip", &["-batch", "-"], lines);
    }

    /// Opens a connection.
    pub fn connect(&self, to: SocketAddr) -> TcpStream {
        let stream = self.run(|| TcpStream::connect_timeout(&to, PATIENCE)).expect("a service that accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// How many TCP connections there are at a local port, the handshakes and closing ones included.
    pub fn connections(&self, port: u16) -> usize {
        let local = format!(":{port:04X}");
        let is_over = |state: &String| [TIME_WAIT, CLOSED, LISTENS].contains(&state.as_str());
        self.sockets().iter().filter(|(here, state)| here.ends_with(&local) && !is_over(state)).count()
    }

    /// Waits until something listens on one of the machine's own addresses, without a connection to it.
    pub fn until_listening(&self, address: SocketAddr) {
        let port = format!(":{:04X}", address.port());
        eventually("the service listens", || {
            let lines = self.sockets();
            lines.iter().any(|(local, state)| local.ends_with(&port) && state == LISTENS)
        });
    }

    /// The local end and the state of every TCP socket, as the kernel writes them.
    fn sockets(&self) -> Vec<(String, String)> {
        let tables = self.run(|| ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("{SELF}/{table}"))));
        let lines = tables.iter().flatten().flat_map(|table| table.lines().skip(1));
        let ends = lines.filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            Some((fields.next()?.to_owned(), fields.nth(1)?.to_owned()))
        });
        ends.collect()
    }

    /// Serves HTTP as the aging service's healthy twin.
    pub(super) fn serve_http(&self, address: SocketAddr, name: &str) -> Running {
        let mut command = Command::new(aging_service());
        command.args(["--healthy", "--listen", &address.to_string(), "--backend", name]).stdin(Stdio::null());
        let child = Running::Process(self.run(|| command.spawn()).expect("the aging service starts"));
        self.until_listening(address);
        child
    }

    /// Unpacks what arrives in IP-in-IP.
    pub(super) fn decapsulate(&self) -> Running {
        let is_ipv4 = self.address.is_ipv4();
        let mut tunnel = self.run(|| Decapsulator::new(is_ipv4, LOOK)).expect("raw sockets");
        Running::thread(move || tunnel.unpack_one())
    }

    /// Answers each datagram with its name and what it carried.
    pub(super) fn serve_echo(&self, address: SocketAddr, name: u8) -> Running {
        let socket = self.run(|| UdpSocket::bind(address)).expect("an address of the machine");
        socket.set_read_timeout(Some(LOOK)).expect("a timeout");
        let mut packet = [0; 2048];
        packet[0] = name;
        Running::thread(move || {
            if let Ok((length, from)) = socket.recv_from(&mut packet[1..]) {
                // Whether it arrives is for the client to judge.
                let _ = socket.send_to(&packet[..=length], from);
            }
        })
    }
}

/// The namespace of the thread that reads it.
const SELF: &str = "/proc/thread-self/net";
/// States of TCP sockets (`include/net/tcp_states.h`).
const TIME_WAIT: &str = "06";
const CLOSED: &str = "07";
const LISTENS: &str = "0A";

/// Feeds lines to a program in a namespace; panics if it does not like one.
pub(super) fn batch(netns: &NetnsHandle, program: &str, arguments: &[&str], lines: &[String]) {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped());
    let mut child = run_in(netns, || command.spawn()).unwrap().expect(program);
    let text: String = lines.iter().flat_map(|line| [line.as_ref(), "\n"]).collect();
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("a reader");
    assert!(child.wait().expect("an end").success(), "{program} refused one of {lines:#?}");
}

/// Starts gear that the kernel may lack, written in Python, and waits until it is ready.
pub(super) fn gear(netns: &NetnsHandle, script: &str, arguments: &[String]) -> Running {
    let mut command = Command::new("python3");
    command.args(["-c", script]).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = run_in(netns, || command.spawn()).unwrap().expect("python3");
    let mut said = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut said).expect("a line");
    assert_eq!(said, "ready\n");
    Running::Process(child)
}

/// Something that runs on a machine until it is dropped.
pub(super) enum Running {
    /// A process.
    Process(Child),
    /// A thread of this process.
    Thread(Arc<AtomicBool>, Option<JoinHandle<()>>),
}

impl Running {
    /// Does a piece of work, which ends soon, again and again.
    fn thread(mut work: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                work();
            }
        });
        Self::Thread(stop, Some(thread))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        match self {
            Self::Process(child) => {
                // It has no state to save; if it is gone already, that is what was wanted.
                let _ = child.kill();
                let _ = child.wait();
            }
            Self::Thread(stop, thread) => {
                stop.store(true, Ordering::Relaxed);
                let _ = thread.take().map(JoinHandle::join);
            }
        }
    }
}
