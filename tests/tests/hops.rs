//! Next hops on a real kernel: what is cut, moved or narrowed on the way is noticed, and noticed again when it
//! is mended. Needs root. Every namespace is anonymous and ends with its test.

use std::fmt::Write as _;
use std::fs;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use baton::net::hops::{self, HopChange, Hops, Resolved, Unresolved};
use baton::net::mac::Mac;
use baton::net::netlink::Netlink;
use baton::net::netns::{NetnsHandle, run_in};
use baton::net::sysctl;
use baton_tests::lan::cable;
use tokio::sync::watch;
use tokio::time::timeout;

const BALANCER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const MACHINE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// What the kernel announces arrives within this; carrier changes are announced once a second.
const SOON: Duration = Duration::from_millis(1_500);
/// What has to be asked for arrives within this.
const ASKED: Duration = Duration::from_secs(5);

/// A namespace in which the test runs, with a machine at the other end of a cable called `lan`.
struct Lab {
    machine: NetnsHandle,
}

fn in_a_lab<F: Future<Output = ()>>(test: impl FnOnce(Lab) -> F + Send) {
    let own = NetnsHandle::anonymous().expect("run the tests as root");
    run_in(&own, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            use_addresses_at_once();
            let lab = Lab { machine: machine() };
            plug("lan", BALANCER, &lab.machine, MACHINE).await;
            ip("addr add fd00::1/64 dev lan nodad");
            lab.machine("addr add fd00::2/64 dev eth0 nodad");
            // A machine that nobody holds is gone, and the cable with it.
            let _machine = lab.machine.try_clone().unwrap();
            test(lab).await;
        });
    })
    .unwrap();
}

impl Lab {
    /// Runs `ip` on the machine.
    fn machine(&self, arguments: &str) {
        run_in(&self.machine, || ip(arguments)).unwrap();
    }
}

fn machine() -> NetnsHandle {
    let machine = NetnsHandle::anonymous().unwrap();
    run_in(&machine, use_addresses_at_once).unwrap();
    machine
}

async fn plug(ifname: &str, own: Ipv4Addr, machine: &NetnsHandle, address: Ipv4Addr) {
    cable(&NetnsHandle::own().unwrap(), ifname, own, machine, address).await;
    // Questions for neighbours are repeated after a tenth of a second instead of a whole one.
    for family in ["ipv4", "ipv6"] {
        sysctl::write(&format!("{family}/neigh/{ifname}/retrans_time_ms"), "100").unwrap();
    }
}

/// Without a second of doubt whether somebody else has them.
fn use_addresses_at_once() {
    sysctl::write("ipv6/conf/default/accept_dad", "0").unwrap();
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

async fn index(name: &str) -> u32 {
    Netlink::open(&NetnsHandle::own().unwrap()).unwrap().link(name).await.unwrap().unwrap().index
}

fn watch(targets: &[&str]) -> watch::Receiver<Hops> {
    let targets = targets.iter().map(|target| address(target)).collect();
    hops::watch(Path::new("/proc/thread-self/ns/net"), targets).unwrap()
}

/// Waits until the hop to `target` is as wanted.
async fn until(
    hops: &mut watch::Receiver<Hops>,
    within: Duration,
    target: &str,
    wanted: impl Fn(&Result<Resolved, Unresolved>) -> bool,
) -> Result<Resolved, Unresolved> {
    let target = address(target);
    let reached = timeout(within, hops.wait_for(|hops| wanted(&hops.get(target)))).await.is_ok();
    let state = hops.borrow().get(target);
    assert!(reached, "{target} is {state:?} after {within:?}");
    state
}

/// Waits until frames can be sent to `target`.
async fn found(hops: &mut watch::Receiver<Hops>, target: &str) -> Resolved {
    until(hops, ASKED, target, Result::is_ok).await.unwrap()
}

/// Waits until frames cannot be sent to `target`, for this reason.
async fn lost(hops: &mut watch::Receiver<Hops>, within: Duration, target: &str, why: &str) {
    let wanted = |state: &Result<Resolved, Unresolved>| state.as_ref().is_err_and(|e| e.to_string() == why);
    until(hops, within, target, wanted).await.unwrap_err();
}

fn goes_to(hop: Resolved) -> Mac {
    Mac::from(hop.hop.destination)
}

/// The machine, by both families.
const BOTH: [&str; 2] = ["192.0.2.2", "fd00::2"];

/// Waits until frames can be sent to the machine by both families.
async fn both_found(hops: &mut watch::Receiver<Hops>) {
    for target in BOTH {
        found(hops, target).await;
    }
}

#[test]
fn hops_of_both_families_are_found() {
    in_a_lab(|_| async {
        let mut hops = watch(&BOTH);
        for target in BOTH {
            let hop = found(&mut hops, target).await;
            assert_eq!(hop.hop.ifindex, index("lan").await);
            assert_eq!(goes_to(hop), Mac::local_for(MACHINE));
            assert_eq!(Mac::from(hop.hop.source), Mac::local_for(BALANCER));
            assert_eq!(hop.mtu, 1500);
        }
        let nowhere = address("198.51.100.1");
        assert_eq!(hops.borrow().get(nowhere), Err(Unresolved::NotRead), "nobody asked for it");
    });
}

#[test]
fn neighbours_that_are_verified_again_and_again_make_no_news() {
    in_a_lab(|_| async {
        let mut hops = watch(&BOTH);
        both_found(&mut hops).await;
        hops.mark_unchanged();
        assert!(timeout(ASKED, hops.changed()).await.is_err(), "{:?}", hops.borrow());
    });
}

#[test]
fn a_cable_that_is_pulled_out_and_put_back_is_noticed() {
    in_a_lab(|lab| async move {
        let mut hops = watch(&BOTH);
        both_found(&mut hops).await;
        lab.machine("link set eth0 down");
        for target in BOTH {
            lost(&mut hops, SOON, target, "interface `lan` has no carrier").await;
        }
        lab.machine("link set eth0 up");
        lab.machine("addr replace fd00::2/64 dev eth0 nodad");
        both_found(&mut hops).await;
    });
}

#[test]
fn an_interface_that_is_switched_off_and_on_is_noticed() {
    in_a_lab(|_| async {
        ip("route add 198.51.100.0/24 via 192.0.2.2");
        let mut hops = watch(&["192.0.2.2", "198.51.100.1"]);
        let before = found(&mut hops, "198.51.100.1").await;
        ip("link set lan down");
        lost(&mut hops, SOON, "192.0.2.2", "there is no route").await;
        lost(&mut hops, SOON, "198.51.100.1", "there is no route").await;
        ip("link set lan up");
        found(&mut hops, "192.0.2.2").await;
        // The kernel forgets such a route with the interface, and announces nothing.
        lost(&mut hops, SOON, "198.51.100.1", "there is no route").await;
        ip("route add 198.51.100.0/24 via 192.0.2.2");
        assert_eq!(found(&mut hops, "198.51.100.1").await, before);
    });
}

#[test]
fn a_neighbour_that_falls_silent_is_noticed_though_nothing_tells_of_it() {
    in_a_lab(|lab| async move {
        let mut hops = watch(&BOTH);
        both_found(&mut hops).await;
        let before = hops.borrow().clone();
        lab.machine("addr del 192.0.2.2/24 dev eth0");
        lab.machine("addr del fd00::2/64 dev eth0");
        for target in BOTH {
            let why = format!("neighbour {target} on `lan` does not answer");
            lost(&mut hops, ASKED, target, &why).await;
        }
        let changes = hops.borrow().changes_since(&before);
        assert_eq!(changes.len(), 2);
        assert!(changes.iter().all(HopChange::is_loss));
        lab.machine("addr add 192.0.2.2/24 dev eth0");
        lab.machine("addr add fd00::2/64 dev eth0 nodad");
        both_found(&mut hops).await;
    });
}

#[test]
fn a_neighbour_with_another_card_is_noticed() {
    in_a_lab(|lab| async move {
        let mut hops = watch(&["192.0.2.2"]);
        found(&mut hops, "192.0.2.2").await;
        lab.machine("link set eth0 address 02:00:00:00:00:77");
        let other = |state: &Result<Resolved, Unresolved>| {
            state.as_ref().is_ok_and(|hop| goes_to(*hop).to_string() == "02:00:00:00:00:77")
        };
        until(&mut hops, ASKED, "192.0.2.2", other).await.unwrap();
    });
}

#[test]
fn an_entry_that_is_deleted_or_set_by_hand_is_noticed() {
    in_a_lab(|_| async {
        let mut hops = watch(&["192.0.2.2"]);
        let before = found(&mut hops, "192.0.2.2").await;
        ip("neigh replace 192.0.2.2 dev lan lladdr 02:00:00:00:00:66 nud permanent");
        until(&mut hops, SOON, "192.0.2.2", |state| state.as_ref().is_ok_and(|hop| *hop != before))
            .await
            .unwrap();
        ip("neigh del 192.0.2.2 dev lan");
        until(&mut hops, SOON, "192.0.2.2", |state| *state == Ok(before)).await.unwrap();
    });
}

#[test]
fn a_route_by_another_router_is_followed() {
    in_a_lab(|lab| async move {
        let other = machine();
        plug("wan", Ipv4Addr::new(203, 0, 113, 1), &other, Ipv4Addr::new(203, 0, 113, 2)).await;
        run_in(&other, || ip("-6 addr add fe80::b/64 dev eth0 nodad")).unwrap();
        lab.machine("-6 addr add fe80::a/64 dev eth0 nodad");
        ip("route add 198.51.100.0/24 via 192.0.2.2");
        ip("-6 route add fd99::/64 via fe80::a dev lan");
        let far = ["198.51.100.1", "fd99::1"];
        let mut hops = watch(&far);
        for target in far {
            assert_eq!(goes_to(found(&mut hops, target).await), Mac::local_for(MACHINE));
        }
        ip("route replace 198.51.100.0/24 via 203.0.113.2");
        ip("-6 route replace fd99::/64 via fe80::b dev wan");
        let by_wan = index("wan").await;
        for target in far {
            let wanted = |state: &Result<Resolved, Unresolved>| {
                state.as_ref().is_ok_and(|hop| hop.hop.ifindex == by_wan)
            };
            until(&mut hops, SOON, target, wanted).await.unwrap();
        }
        ip("route replace 198.51.100.0/24 via inet6 fe80::a dev lan");
        let lan = index("lan").await;
        let wanted =
            |state: &Result<Resolved, Unresolved>| state.as_ref().is_ok_and(|hop| hop.hop.ifindex == lan);
        until(&mut hops, SOON, far[0], wanted).await.unwrap();
    });
}

#[test]
fn a_route_that_refuses_or_goes_away_leaves_no_hop() {
    in_a_lab(|_| async {
        let mut hops = watch(&BOTH);
        for (target, length) in [("192.0.2.2", 32), ("fd00::2", 128)] {
            let before = found(&mut hops, target).await;
            for kind in ["unreachable", "prohibit", "blackhole"] {
                ip(&format!("route add {kind} {target}/{length}"));
                lost(&mut hops, SOON, target, &format!("the route is {kind}")).await;
                ip(&format!("route del {kind} {target}/{length}"));
                assert_eq!(found(&mut hops, target).await, before);
            }
        }
        ip("addr del 192.0.2.1/24 dev lan");
        lost(&mut hops, SOON, "192.0.2.2", "there is no route").await;
        ip("addr add 192.0.2.2/24 dev lan");
        let own = |state: &Result<Resolved, Unresolved>| *state == Err(Unresolved::OwnAddress);
        until(&mut hops, SOON, "192.0.2.2", own).await.unwrap_err();
    });
}

#[test]
fn a_rule_that_sends_elsewhere_is_followed() {
    in_a_lab(|_| async {
        let mut hops = watch(&["192.0.2.2"]);
        found(&mut hops, "192.0.2.2").await;
        ip("rule add to 192.0.2.2 prohibit");
        lost(&mut hops, SOON, "192.0.2.2", "the route is prohibit").await;
        ip("rule del to 192.0.2.2 prohibit");
        found(&mut hops, "192.0.2.2").await;
    });
}

#[test]
fn the_mtu_of_interface_and_route_is_followed() {
    in_a_lab(|_| async {
        let mut hops = watch(&BOTH);
        both_found(&mut hops).await;
        let mtu = |mtu: u32| {
            move |state: &Result<Resolved, Unresolved>| state.as_ref().is_ok_and(|hop| hop.mtu == mtu)
        };
        ip("link set lan mtu 1400");
        for target in BOTH {
            until(&mut hops, SOON, target, mtu(1400)).await.unwrap();
        }
        ip("route add 192.0.2.2/32 dev lan mtu 1300");
        ip("-6 route add fd00::2/128 dev lan mtu 1300");
        for target in BOTH {
            until(&mut hops, SOON, target, mtu(1300)).await.unwrap();
        }
        ip("link set lan mtu 9000");
        ip("route del 192.0.2.2/32 dev lan");
        until(&mut hops, SOON, BOTH[0], mtu(9000)).await.unwrap();
    });
}

#[test]
fn an_interface_that_is_made_anew_is_found_under_its_new_index() {
    in_a_lab(|lab| async move {
        let mut hops = watch(&["192.0.2.2"]);
        let before = found(&mut hops, "192.0.2.2").await;
        ip("link del lan");
        lost(&mut hops, SOON, "192.0.2.2", "there is no route").await;
        ip("link add spare type veth peer name other");
        plug("lan", BALANCER, &lab.machine, MACHINE).await;
        let after = found(&mut hops, "192.0.2.2").await;
        assert_ne!(after.hop.ifindex, before.hop.ifindex);
        assert_eq!(after.hop.ifindex, index("lan").await);
    });
}

#[test]
fn a_bridge_is_resolved_to_the_port_of_the_machine() {
    in_a_lab(|_| async {
        let (one, two) = (machine(), machine());
        let [far_one, far_two] = [Ipv4Addr::new(10, 9, 0, 11), Ipv4Addr::new(10, 9, 0, 12)];
        plug("p1", Ipv4Addr::new(198, 51, 100, 1), &one, far_one).await;
        plug("p2", Ipv4Addr::new(198, 51, 100, 2), &two, far_two).await;
        ip("link add br0 type bridge");
        for command in ["link set p1 master br0", "link set p2 master br0", "addr add 10.9.0.1/24 dev br0"] {
            ip(command);
        }
        ip("link set br0 up");
        let mut hops = watch(&["10.9.0.11", "10.9.0.12"]);
        for (target, port, far) in [("10.9.0.11", "p1", far_one), ("10.9.0.12", "p2", far_two)] {
            let hop = found(&mut hops, target).await;
            assert_eq!(hop.hop.ifindex, index(port).await, "both are one-armed behind the same bridge");
            assert_eq!(goes_to(hop), Mac::local_for(far));
        }
        ip("link set p1 mtu 1400");
        let narrow = |state: &Result<Resolved, Unresolved>| state.as_ref().is_ok_and(|hop| hop.mtu == 1400);
        until(&mut hops, SOON, "10.9.0.11", narrow).await.unwrap();
        run_in(&one, || ip("link set eth0 down")).unwrap();
        let unlearnt =
            |target| format!("bridge `br0` does not tell by which port it reaches neighbour {target}");
        lost(&mut hops, SOON, "10.9.0.11", &unlearnt("10.9.0.11")).await;
        run_in(&one, || ip("link set eth0 up")).unwrap();
        found(&mut hops, "10.9.0.11").await;
        ip("link set p2 nomaster");
        lost(&mut hops, SOON, "10.9.0.12", &unlearnt("10.9.0.12")).await;
    });
}

#[test]
fn an_interface_that_xdp_cannot_send_over_is_left_to_the_stack() {
    in_a_lab(|_| async {
        ip("link add mv0 link lan type macvlan mode bridge");
        ip("addr add 10.9.0.1/24 dev mv0");
        ip("link set mv0 up");
        let mut hops = watch(&["10.9.0.2", "127.0.0.1", "192.0.2.2"]);
        found(&mut hops, "192.0.2.2").await;
        let why = "XDP cannot send over `mv0`, an interface of kind macvlan";
        lost(&mut hops, SOON, "10.9.0.2", why).await;
        lost(&mut hops, SOON, "127.0.0.1", "it is an address of this machine").await;
    });
}

#[test]
fn announcements_that_did_not_fit_are_made_up_for() {
    in_a_lab(|_| async {
        let mut hops = watch(&["198.51.100.1", "192.0.2.2"]);
        found(&mut hops, "192.0.2.2").await;
        let mut batch = String::new();
        for number in 0..5_000 {
            writeln!(batch, "route add 10.{}.{}.0/24 dev lan", number / 250, number % 250).unwrap();
        }
        batch += "route add 198.51.100.0/24 via 192.0.2.2 mtu 1234\n";
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), batch).unwrap();
        // Nobody reads meanwhile: this thread is the one that would.
        ip(&format!("-batch {}", file.path().display()));
        assert!(announcements_were_dropped());
        let hop = found(&mut hops, "198.51.100.1").await;
        assert_eq!(hop.mtu, 1234);
        ip("route del 198.51.100.0/24");
        lost(&mut hops, SOON, "198.51.100.1", "there is no route").await;
    });
}

/// Whether a socket of this namespace that listens for announcements has missed some.
fn announcements_were_dropped() -> bool {
    let sockets = fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
    sockets.lines().skip(1).any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        columns[3] != "00000000" && columns[8] != "0"
    })
}
