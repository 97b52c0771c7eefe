//! The rounds.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result};
use baton::dataplane::{FlowTimeouts, XdpProgram};
use lb_common::bench::Frames;

use super::cases::{Case, FLOWS_64K, Sent, Subject, Table};
use super::floors::Floors;
use super::frames;
use super::harness::Harness;
use super::report::{Absent, Figures, Machine, Measured, Report};
use super::services::Kind;
use super::stats::Samples;
use super::worlds::World;

/// Runs of a case in a round, at least: few flows are visited again and again.
const RUNS_LEAST: u32 = 1 << 17;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The cases.
    pub cases: Vec<Case>,
    /// How often each of them is measured.
    pub rounds: u32,
}

/// Measures. `object` holds the programs of the bench; `progress` is told what happens: how many of how
/// many steps are done, and what the next one is.
pub fn measure(object: &[u8], plan: &Plan, progress: &mut dyn FnMut(u64, u64, &str)) -> Result<Report> {
    let mut lab = Lab::new(object)?;
    let steps = plan.cases.len() as u64 * (u64::from(plan.rounds) + 1);
    let mut done = 0;
    let mut rows = Vec::new();
    let mut absent = Vec::new();
    for case in &plan.cases {
        progress(done, steps, &format!("preparing {}", case.name));
        match lab.prepare(case).with_context(|| format!("prepare the case {}", case.name))? {
            None => rows.push(Row::new(*case)),
            Some(why) => absent.push(Absent { name: case.name, why }),
        }
        done += 1;
    }
    for round in 1..=plan.rounds {
        for row in &mut rows {
            progress(done, steps, &format!("round {round}: {}", row.case.name));
            lab.measure(row).with_context(|| format!("measure the case {}", row.case.name))?;
            done += 1;
        }
    }
    let cases = rows.iter().filter_map(Row::figures).collect();
    Ok(Report { machine: Machine::this(), rounds: plan.rounds, cases, absent, programs: lab.programs()? })
}

/// A case and what it took so far.
struct Row {
    case: Case,
    with: Samples,
    /// The same frames before the program that does nothing.
    without: Samples,
}

impl Row {
    fn new(case: Case) -> Self {
        Self { case, with: Samples::default(), without: Samples::default() }
    }

    fn figures(&self) -> Option<Measured> {
        let with = self.with.summary()?;
        let figures = match self.without.summary() {
            Some(without) => Figures::packet(with.less(without)),
            None => Figures::scan(with),
        };
        Some(Measured { name: self.case.name, flows: self.case.flows, figures })
    }
}

/// What is loaded.
struct Lab<'a> {
    object: &'a [u8],
    harness: Harness,
    worlds: BTreeMap<Table, World>,
    /// By the flows that they hold.
    floors: BTreeMap<u32, Floors>,
}

impl<'a> Lab<'a> {
    fn new(object: &'a [u8]) -> Result<Self> {
        let harness = Harness::load(object)?;
        Ok(Self { object, harness, worlds: BTreeMap::new(), floors: BTreeMap::new() })
    }

    /// Loads and fills what a case needs, and sees that it measures what it is named after. Answers why it
    /// cannot be measured, if so.
    fn prepare(&mut self, case: &Case) -> Result<Option<String>> {
        let harness = &mut self.harness;
        match case.subject {
            Subject::FloorLru | Subject::FloorStateless => {
                if !self.floors.contains_key(&case.flows) {
                    let floors = Floors::with_flows(self.object, harness, case.flows)?;
                    self.floors.insert(case.flows, floors);
                }
            }
            Subject::Scan { table } => {
                self.world(table)?;
            }
            Subject::Baton { table, sent, reason } => {
                if let Table::Million(kind @ (Kind::Dsr | Kind::Ipip)) = table {
                    let mut trial = World::new(Table::Empty, harness)?;
                    if let Some(objection) = trial.objection(kind)? {
                        return Ok(Some(objection));
                    }
                }
                self.world(table)?;
                let world = self.worlds.get_mut(&table).context("no such table")?;
                world.prove(sent, case.flows, reason, &mut self.harness)?;
            }
        }
        Ok(None)
    }

    fn world(&mut self, table: Table) -> Result<()> {
        if !self.worlds.contains_key(&table) {
            let world = World::new(table, &mut self.harness)?;
            self.worlds.insert(table, world);
        }
        Ok(())
    }

    fn measure(&mut self, row: &mut Row) -> Result<()> {
        let case = row.case;
        match case.subject {
            Subject::Baton { table, sent, .. } => {
                let world = self.worlds.get_mut(&table).context("no such table")?;
                let frames = world.frames(sent, case.flows);
                let is_new = matches!(sent, Sent::Syns(_));
                without(&mut self.harness, &frames, row)?;
                self.harness.test(world.dataplane.program_fd(XdpProgram::Steer)?)?;
                with(&mut self.harness, row, if is_new { case.flows } else { RUNS_LEAST.max(case.flows) })?;
                world.tidy(sent);
            }
            Subject::FloorLru | Subject::FloorStateless => {
                let floors = self.floors.get(&case.flows).context("no such floor")?;
                let frames = frames::of_flows(frames::to_service(Kind::Tcp4, "A"), 0, case.flows);
                without(&mut self.harness, &frames, row)?;
                let is_stateless = case.subject == Subject::FloorStateless;
                self.harness.test(if is_stateless { floors.stateless()? } else { floors.lru()? })?;
                with(&mut self.harness, row, RUNS_LEAST.max(case.flows))?;
            }
            Subject::Scan { table } => {
                let world = self.worlds.get(&table).context("no such table")?;
                let start = Instant::now();
                black_box(world.dataplane.count_flows(&FlowTimeouts::default()));
                row.with.add(start.elapsed().as_secs_f64() * 1e3);
            }
        }
        Ok(())
    }

    fn programs(&self) -> Result<Vec<baton::dataplane::ProgramFacts>> {
        match self.worlds.values().next() {
            Some(world) => Ok(world.dataplane.programs()?),
            None => Ok(Vec::new()),
        }
    }
}

fn without(harness: &mut Harness, frames: &Frames, row: &mut Row) -> Result<()> {
    harness.make(frames)?;
    harness.test_null()?;
    row.without.add(harness.run(RUNS_LEAST)?);
    Ok(())
}

fn with(harness: &mut Harness, row: &mut Row, runs: u32) -> Result<()> {
    // What another case has driven out of the caches comes back, unless each flow is met only once.
    if runs > row.case.flows && row.case.flows <= FLOWS_64K {
        harness.run(row.case.flows)?;
    }
    row.with.add(harness.run(runs)?);
    Ok(())
}
