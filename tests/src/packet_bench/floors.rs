//! The floors: what a minimal program costs on the same machine, at the same moment.

use anyhow::{Context, Result, ensure};
use aya::maps::Array;
use aya::programs::{ProgramFd, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use lb_common::bench::{Frames, Target};

use super::cases::FLOWS_1M;
use super::frames;
use super::harness::{Harness, program, program_mut};
use super::services::Kind;

/// The table is as large as Baton's: two places for each of the flows that it is made for.
const PLACES: u32 = 2 * FLOWS_1M;

/// Verdict of a program that sends the frame back out (linux/bpf.h).
const XDP_TX: u32 = 3;
/// Where these fields begin in a frame.
const DESTINATION: usize = 30;
const DESTINATION_PORT: usize = 36;

/// Numbers of flows that were there before those that are measured.
const FIRST_FORMER: u32 = 1 << 24;

/// Programs of the object that are called by name.
const LRU: &str = "floor_lru";
const FILL: &str = "floor_lru_fill";
const FORGET: &str = "floor_lru_forget";
const STATELESS: &str = "floor_stateless";

/// Both floors, and a table that holds the flows of one case.
pub(super) struct Floors {
    ebpf: Ebpf,
}

impl Floors {
    /// Loads them, and records this many flows.
    pub(super) fn with_flows(object: &[u8], harness: &mut Harness, flows: u32) -> Result<Self> {
        let loaded = EbpfLoader::new().map_max_entries("FLOWS", PLACES).load(object);
        let mut ebpf = loaded.context("load the floors")?;
        for name in [LRU, FILL, FORGET, STATELESS] {
            program_mut(&mut ebpf, name)?.load().with_context(|| format!("load the program `{name}`"))?;
        }
        let map = ebpf.map_mut("TARGET").context("the bench's object has no map TARGET")?;
        Array::try_from(map)?.set(0, target(), 0)?;
        let floors = Self { ebpf };
        floors.age(harness)?;
        harness.make(&frames::in_order(sent(), 0, flows))?;
        floors.run(FILL, flows, harness)?;
        floors.run(LRU, flows, harness)?;
        ensure!(floors.misses()? == 0, "the floor's table lost flows while it was filled");
        floors.prove(LRU)?;
        floors.prove(STATELESS)?;
        Ok(floors)
    }

    /// Lets flows come and go, as in any table that has been in use: the kernel hands out the memory of a new
    /// one side by side, and then that of the flows that have gone, in the order in which they went. Baton's
    /// table needs no such thing, for a flow's place follows from its hash.
    fn age(&self, harness: &mut Harness) -> Result<()> {
        harness.make(&frames::in_order(sent(), FIRST_FORMER, PLACES))?;
        self.run(FILL, PLACES, harness)?;
        harness.make(&frames::of_flows(sent(), FIRST_FORMER, PLACES))?;
        self.run(FORGET, PLACES, harness)
    }

    /// Fails unless a floor sends a frame where everything goes.
    fn prove(&self, name: &str) -> Result<()> {
        let frame = frames::single(&sent(), 0);
        let mut out = vec![0; frame.len()];
        let options =
            TestRunOptions { data_in: Some(&frame), data_out: Some(&mut out), ..TestRunOptions::new() };
        let action = program(&self.ebpf, name)?.test_run(options).context("run a floor")?.return_value;
        let Target { address, port, hardware, .. } = target();
        let arrived = out.starts_with(&hardware.map(u16::to_ne_bytes).concat())
            && out[DESTINATION..].starts_with(&address.to_ne_bytes())
            && out[DESTINATION_PORT..].starts_with(&port.to_ne_bytes());
        ensure!(action == XDP_TX && arrived, "`{name}` does not send a frame to its target");
        Ok(())
    }

    fn run(&self, name: &str, count: u32, harness: &mut Harness) -> Result<()> {
        harness.test(program(&self.ebpf, name)?.fd()?)?;
        harness.run(count)?;
        Ok(())
    }

    pub(super) fn lru(&self) -> Result<&ProgramFd> {
        Ok(program(&self.ebpf, LRU)?.fd()?)
    }

    pub(super) fn stateless(&self) -> Result<&ProgramFd> {
        Ok(program(&self.ebpf, STATELESS)?.fd()?)
    }

    /// How many frames found no flow.
    pub(super) fn misses(&self) -> Result<u64> {
        let map = self.ebpf.map("MISSES").context("the bench's object has no map MISSES")?;
        Ok(Array::try_from(map)?.get(&0, 0)?)
    }
}

/// What clients send.
fn sent() -> Frames {
    frames::to_service(Kind::Tcp4, "A")
}

fn target() -> Target {
    let backend = Kind::Tcp4.backend_entry(Kind::Tcp4.backend());
    let hardware = [backend.hop.destination, backend.hop.source].concat();
    Target {
        address: backend.endpoint.address().v4_word(),
        port: backend.endpoint.wire_port(),
        hardware: std::array::from_fn(|at| u16::from_ne_bytes([hardware[2 * at], hardware[2 * at + 1]])),
        reserved: 0,
    }
}
