//! Baton's data plane with the services of the bench, and a flow table that was filled by the program itself.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use baton::dataplane::{Dataplane, FlowTimeouts, Outcome, XdpAction, XdpProgram, unload};
use lb_common::bench::Frames;
use lb_common::{Reason, Steer};

use super::cases::{FLOWS_1M, Sent, Table};
use super::frames::{from_backend, in_order, of_flows, single, to_nobody, to_service};
use super::harness::Harness;
use super::services::{FRESH, Kind};

/// Of a hundred frames, so many must meet what a case is named after: at half load a few flows find no
/// room in the table, by design.
const ENOUGH_PERCENT: u64 = 99;

/// Numbers of flows from here on have never been in a table.
const FIRST_FRESH: u32 = 1 << 24;

/// A data plane of its own, unpinned when dropped.
pub(super) struct World {
    pub(super) dataplane: Dataplane,
    pins: PathBuf,
    fresh: u32,
}

impl World {
    /// Loads the programs and fills the table.
    pub(super) fn new(table: Table, harness: &mut Harness) -> Result<Self> {
        let name = format!("baton-bench-{}-{table:?}", std::process::id());
        let pins = PathBuf::from("/sys/fs/bpf").join(name.replace(['(', ')'], ""));
        let mut world = match Dataplane::open(&pins, FLOWS_1M) {
            Ok(dataplane) => Self { dataplane, pins, fresh: FIRST_FRESH },
            Err(error) => {
                unload(&pins).context("remove the bench's pins")?;
                return Err(error.into());
            }
        };
        for kind in Kind::ALL {
            world.open(kind)?;
        }
        for (kind, flows) in table.held() {
            world.fill(kind, flows, harness)?;
        }
        // From here on, new flows go where they can be told from the others.
        world.dataplane.set_backend(Kind::Tcp4.id(), FRESH, &Kind::Tcp4.backend_entry(FRESH))?;
        world.dataplane.steer(Kind::Tcp4.id(), Steer { active: FRESH, draining: 0, epoch: 2 });
        Ok(world)
    }

    fn open(&mut self, kind: Kind) -> Result<()> {
        self.dataplane.set_service(kind.id(), &kind.service())?;
        self.dataplane.set_backend(kind.id(), kind.backend(), &kind.backend_entry(kind.backend()))?;
        self.dataplane.steer(kind.id(), Steer { active: kind.backend(), draining: 0, epoch: 1 });
        Ok(())
    }

    /// Lets the program see the beginning of every flow, as if it had happened.
    fn fill(&mut self, kind: Kind, flows: u32, harness: &mut Harness) -> Result<()> {
        let mut handshake = vec![to_service(kind, "S")];
        if kind.answers_pass() {
            handshake.push(from_backend(kind, "SA"));
        }
        handshake.push(to_service(kind, "A"));
        harness.test(self.dataplane.program_fd(XdpProgram::Steer)?)?;
        for frames in handshake {
            harness.make(&in_order(frames, 0, flows))?;
            harness.run(flows)?;
        }
        let counts = self.dataplane.count_flows(&FlowTimeouts::default());
        let established = counts[usize::from(kind.backend())].open.established;
        ensure!(
            established * 100 >= u64::from(flows) * ENOUGH_PERCENT,
            "of {flows} flows of {kind:?} only {established} are established"
        );
        Ok(())
    }

    /// The frames of a case; new connections come from new clients each time.
    pub(super) fn frames(&mut self, sent: Sent, flows: u32) -> Frames {
        let (frames, first) = match sent {
            Sent::ByClients(kind) => (to_service(kind, "A"), 0),
            Sent::ByBackend(kind) => (from_backend(kind, "A"), 0),
            Sent::ToNobody => (to_nobody(), 0),
            Sent::Syns(kind) => {
                let first = self.fresh;
                self.fresh += flows;
                (to_service(kind, "S"), first)
            }
        };
        of_flows(frames, first, flows)
    }

    /// Forgets what a case has opened.
    pub(super) fn tidy(&mut self, sent: Sent) {
        if matches!(sent, Sent::Syns(_)) {
            self.dataplane.forget_backend(FRESH);
        }
    }

    /// Fails unless `reason` is what nearly all frames of a case count.
    pub(super) fn prove(
        &mut self,
        sent: Sent,
        flows: u32,
        reason: Reason,
        harness: &mut Harness,
    ) -> Result<()> {
        let before = self.counted(reason)?;
        harness.make(&self.frames(sent, flows))?;
        harness.test(self.dataplane.program_fd(XdpProgram::Steer)?)?;
        harness.run(flows)?;
        let met = self.counted(reason)? - before;
        self.tidy(sent);
        ensure!(
            met * 100 >= u64::from(flows) * ENOUGH_PERCENT,
            "of {flows} frames only {met} were counted as `{}`",
            reason.name()
        );
        Ok(())
    }

    fn counted(&self, reason: Reason) -> Result<u64> {
        let counts = self.dataplane.reasons()?;
        Ok(counts.iter().filter(|count| count.reason == reason.name()).map(|count| count.packets).sum())
    }

    /// Why the program does not forward to the backend of this service in its way; `None` if it does.
    pub(super) fn objection(&mut self, kind: Kind) -> Result<Option<String>> {
        /// An IPv4 header, and where a frame's own begins.
        const OUTER: usize = 20;
        const NETWORK: usize = 14;
        let frame = single(&to_service(kind, "S"), FIRST_FRESH - 1);
        let Outcome { action, frame: sent } = self.dataplane.run(&frame)?;
        self.dataplane.forget_backend(kind.backend());
        let rest = match kind {
            Kind::Dsr => sent.get(NETWORK..),
            Kind::Ipip => sent.get(NETWORK + OUTER..),
            _ => return Ok(None),
        };
        let done = action == XdpAction::Tx && rest == frame.get(NETWORK..);
        Ok((!done).then(|| format!("the program does not forward by {kind:?}").to_lowercase()))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Err(error) = unload(&self.pins) {
            eprintln!("error: cannot remove {}: {error}", self.pins.display());
        }
    }
}
