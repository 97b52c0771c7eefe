//! A host played inside a network namespace, with a LAN behind it: what the topology tests run on. Nothing of
//! the real host's network is touched, and everything is removed even when a test fails.

use std::collections::BTreeSet;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use baton::driver::netns::{self, DEFAULT_POOL, Ready, Spec, backend_names};
use baton::names::ServiceName;
use baton::net::netlink::Netlink;
use baton::net::netns::{NetnsHandle, run_in};
use baton::net::sysctl;
use baton::paths::Roots;
use baton_tests::lan::{HOST, OUTSIDE, cable};

const PATIENCE: Duration = Duration::from_secs(3);

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A host in a namespace; the test runs inside it.
pub(crate) struct Host {
    pub(crate) roots: Roots,
    pub(crate) netns: NetnsHandle,
    pub(crate) outside: NetnsHandle,
    prefix: String,
}

/// Runs a test on a host of its own and clears up after it.
pub(crate) fn on_a_host<F: Future<Output = ()>>(services: &[&str], test: impl FnOnce(Host) -> F + Send) {
    let own = NetnsHandle::anonymous().expect("run the tests as root");
    let run = tempfile::tempdir().unwrap();
    let roots = Roots { run: run.path().join("run"), state: run.path().join("state"), ..Roots::default() };
    let prefix = format!("t{}x{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
    let outcome = run_in(&own, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async { test(Host::set_up(roots.clone(), prefix.clone()).await).await });
        }));
        for service in services {
            let name = format!("{prefix}-{service}").parse().unwrap();
            let cleared = runtime.block_on(netns::remove(&roots, &name));
            assert!(outcome.is_err() || cleared.is_ok(), "{cleared:?}");
        }
        outcome
    });
    if let Err(panic) = outcome.unwrap() {
        resume_unwind(panic);
    }
}

impl Host {
    async fn set_up(roots: Roots, prefix: String) -> Self {
        let netns = NetnsHandle::own().unwrap();
        let outside = NetnsHandle::anonymous().unwrap();
        let host = Self { roots, netns, outside, prefix };
        host.attach("eth0", HOST, &host.outside, OUTSIDE).await;
        host
    }

    /// Lays a cable of a /24 between the host and another machine.
    pub(crate) async fn attach(&self, ifname: &str, own: Ipv4Addr, other: &NetnsHandle, address: Ipv4Addr) {
        cable(&self.netns, ifname, own, other, address).await;
    }

    pub(crate) fn netlink(&self) -> Netlink {
        Netlink::open(&self.netns).unwrap()
    }

    pub(crate) fn name(&self, service: &str) -> ServiceName {
        format!("{}-{service}", self.prefix).parse().unwrap()
    }

    pub(crate) fn spec(&self, service: &str, vip: &str) -> Spec {
        Spec {
            name: self.name(service),
            vip: vip.parse().unwrap(),
            pool: DEFAULT_POOL,
            backends: backend_names(),
        }
    }

    pub(crate) async fn create(&self, service: &str, vip: &str) -> Ready {
        netns::create(&self.roots, &self.spec(service, vip)).await.unwrap()
    }

    /// Everything about this host's network that a service may change, in words.
    pub(crate) async fn snapshot(&self) -> BTreeSet<String> {
        let netlink = self.netlink();
        let mut seen = BTreeSet::new();
        seen.extend(netlink.links().await.unwrap().iter().map(|link| format!("{link:?}")));
        seen.extend(netlink.addresses().await.unwrap().iter().map(|address| format!("{address:?}")));
        seen.extend(netlink.routes().await.unwrap().iter().map(|route| format!("{route:?}")));
        seen.extend(netlink.proxies().await.unwrap().iter().map(|proxy| format!("{proxy:?}")));
        for key in ["eth0/forwarding", "all/forwarding", "default/forwarding", "all/rp_filter"] {
            seen.insert(format!("{key} {}", sysctl::read(&format!("ipv4/conf/{key}")).unwrap()));
        }
        let tables = Command::new("nft").args(["list", "ruleset"]).output().unwrap();
        seen.insert(String::from_utf8(tables.stdout).unwrap());
        let named = baton::net::netns::list(&self.roots.netns).unwrap();
        let ours = named.iter().filter(|path| path.to_string_lossy().contains(&self.prefix));
        seen.extend(ours.map(|path| path.display().to_string()));
        seen
    }
}

/// Exchanges a few bytes over TCP; returns whom the server saw, or `None` if the client got nothing.
pub(crate) fn exchange(
    server: &NetnsHandle,
    listen_on: Ipv4Addr,
    client: &NetnsHandle,
    connect_to: Ipv4Addr,
) -> Option<IpAddr> {
    let listener = run_in(server, || TcpListener::bind((listen_on, 0))).unwrap().unwrap();
    let target = SocketAddrV4::new(connect_to, listener.local_addr().unwrap().port());
    thread::scope(|scope| {
        let served = scope.spawn(|| serve_one(&listener));
        let answer = run_in(client, || ask(target.into())).unwrap();
        if answer.is_err() {
            // Lets the server end: it waits for somebody.
            let own = SocketAddr::new(listen_on.into(), target.port());
            let _ = run_in(server, || TcpStream::connect_timeout(&own, PATIENCE)).unwrap();
        }
        let seen = served.join().unwrap();
        answer.ok().map(|()| seen)
    })
}

fn serve_one(listener: &TcpListener) -> IpAddr {
    let (mut stream, peer) = listener.accept().unwrap();
    let _ = stream.write_all(b"hello");
    peer.ip()
}

fn ask(target: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.read_exact(&mut [0; 5])
}
