//! Two CPUs and a controller at the same table: no entry is held twice, none is lost.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use baton::dataplane::{Dataplane, FlowTimeouts, XdpAction};
use baton_tests::bench::{A, ADDRESS_A, B, Bench, SERVICE, VIP};
use baton_tests::frame::{read, segment};
use lb_common::{FlowState, Steer};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

const TABLE: u32 = 1 << 12;
/// Flows that both CPUs open at the same time: half of what the table is made for.
const FLOWS: u32 = TABLE / 2;

fn client(number: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from(0xc612_0000 + (number >> 14)), 1024 + (number & 0x3fff) as u16)
}

/// A program runs on the CPU of whoever asks for the run.
fn stay_on(cpu: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cpus).unwrap();
}

fn run(dataplane: &mut Dataplane, from: SocketAddrV4, to: SocketAddrV4, flags: &'static str) -> SocketAddr {
    let outcome = dataplane.run(&segment(from, to, flags).frame()).unwrap();
    assert_eq!(outcome.action, XdpAction::Redirect);
    read(&outcome.frame).to
}

/// Each flow with its backend; panics if one stands in the table twice.
fn table(dataplane: &mut Dataplane) -> BTreeMap<SocketAddr, (u16, FlowState)> {
    let mut flows = BTreeMap::new();
    for flow in dataplane.flows(&FlowTimeouts::default()) {
        // More new flows than are written down in time lose their names, never their entries.
        let Some(client) = flow.client else { continue };
        assert!(flows.insert(client, (flow.backend, flow.state)).is_none(), "{client} has two entries");
    }
    flows
}

#[test]
fn flows_that_two_cpus_open_at_once_have_one_entry_and_one_backend() {
    let mut bench = Bench::sized(TABLE);
    for round in 0..8 {
        let clients = || (round * FLOWS..(round + 1) * FLOWS).map(client);
        let steer = |active| Steer { active, draining: 0, epoch: 1 };
        let mut others = [bench.twin(), bench.twin()];
        let went = thread::scope(|scope| {
            let threads: Vec<_> = others
                .iter_mut()
                .zip([A, B])
                .enumerate()
                .map(|(cpu, (dataplane, active))| {
                    scope.spawn(move || {
                        stay_on(cpu % thread::available_parallelism().unwrap().get());
                        // The steering changes under both, so that they disagree where a new flow goes.
                        clients()
                            .map(|client| {
                                dataplane.steer(SERVICE, steer(active));
                                run(dataplane, client, VIP, "S")
                            })
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let flows = table(&mut bench.dataplane);
        for (number, client) in clients().enumerate() {
            assert!(flows.contains_key(&client.into()), "{client} was pinned and has no entry");
            assert_eq!(went[0][number], went[1][number], "{client} went to two backends");
        }
        bench.dataplane.forget_backend(A);
        bench.dataplane.forget_backend(B);
    }
}

#[test]
fn established_flows_survive_two_cpus_that_fill_the_table_and_a_controller_that_ages_it() {
    let mut bench = Bench::sized(TABLE);
    let established: Vec<_> = (0..1000).map(client).collect();
    for client in &established {
        run(&mut bench.dataplane, *client, VIP, "S");
        run(&mut bench.dataplane, ADDRESS_A, *client, "SA");
        run(&mut bench.dataplane, *client, VIP, "A");
    }
    assert_eq!(table(&mut bench.dataplane).len(), established.len());
    bench.dataplane.steer(SERVICE, Steer { active: B, draining: 0, epoch: 2 });
    let (mut one, mut two) = (bench.twin(), bench.twin());
    let done = AtomicBool::new(false);
    let fill = |dataplane: &mut Dataplane, cpu: usize| {
        stay_on(cpu % thread::available_parallelism().unwrap().get());
        for number in 0..8 * TABLE {
            run(dataplane, client(100_000 + number), VIP, "S");
            if number % 16 == 0 {
                let client = established[(number as usize / 16 + cpu * 500) % established.len()];
                assert_eq!(run(dataplane, client, VIP, "A"), ADDRESS_A.into(), "{client} was moved");
            }
        }
    };
    thread::scope(|scope| {
        let fillers = [scope.spawn(|| fill(&mut one, 0)), scope.spawn(|| fill(&mut two, 1))];
        let ageing = scope.spawn(|| {
            // Everything that is no more than half-open goes at once.
            let timeouts = FlowTimeouts { half_open_ms: 0, ..FlowTimeouts::default() };
            while !done.load(Ordering::Relaxed) {
                bench.dataplane.forget_expired(&timeouts);
                bench.dataplane.forget_backend(B);
            }
        });
        let results = fillers.map(thread::ScopedJoinHandle::join);
        done.store(true, Ordering::Relaxed);
        ageing.join().unwrap();
        for result in results {
            result.unwrap();
        }
    });
    let flows = table(&mut bench.dataplane);
    for client in established {
        assert_eq!(flows.get(&client.into()), Some(&(A, FlowState::Established)), "{client}");
    }
}
