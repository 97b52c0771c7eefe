//! The search for histories on which program and model differ, led by what has not been seen yet.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::corpus::{self, FILES};
use super::generate;
use super::history::{History, Step};
use super::shrink::shrink;
use super::{Differ, Difference, Ran};

/// Histories that one pair of program and model takes: their tables are to stay half empty.
const HISTORIES: u16 = 40;
/// Steps of a history.
pub const STEPS: usize = 400;
/// How often a shorter history is tried when something new was seen, and when something differs.
const ATTEMPTS: usize = 120;

/// A difference, with the shortest history that shows it.
#[derive(Debug)]
pub struct Finding {
    /// What happened.
    pub history: History,
    /// What differs at its end.
    pub difference: Difference,
    /// Whether it shows by itself; if not, it took what had happened before.
    pub shows_alone: bool,
}

/// Runs histories one after the other, on pairs that are made anew from time to time.
#[derive(Default)]
pub struct Runner {
    differ: Option<Differ>,
    /// Frames that both agreed about.
    pub frames: u64,
}

impl Runner {
    /// Runs a history; what was seen at each step, or the step at which they differ.
    pub fn run(&mut self, history: &History) -> Result<Vec<Option<Ran>>, (usize, Difference)> {
        if self.differ.as_ref().is_none_or(|differ| differ.histories() >= HISTORIES) {
            self.differ = None;
        }
        let differ = self.differ.get_or_insert_default();
        let services: BTreeSet<u16> = history.steps.iter().map(Step::service).collect();
        differ.begin(services);
        let mut seen = Vec::new();
        for (number, step) in history.steps.iter().enumerate() {
            match differ.step(step) {
                Ok(ran) => {
                    self.frames += u64::from(ran.is_some());
                    seen.push(ran);
                }
                Err(difference) => return Err(self.give_up(number, difference)),
            }
        }
        if let Err(difference) = differ.settle() {
            return Err(self.give_up(history.steps.len().saturating_sub(1), difference));
        }
        Ok(seen)
    }

    /// Once they differ they stay different.
    fn give_up(&mut self, number: usize, difference: Difference) -> (usize, Difference) {
        self.differ = None;
        (number, difference)
    }
}

/// Runs a history; if program and model differ, finds the shortest one that shows it.
pub fn judge(runner: &mut Runner, history: &History) -> Result<Vec<Option<Ran>>, Box<Finding>> {
    let (step, difference) = match runner.run(history) {
        Ok(seen) => return Ok(seen),
        Err(found) => found,
    };
    let mut cut = history.clone();
    cut.steps.truncate(step + 1);
    let mut last = difference;
    let mut differs = |history: &History| match Runner::default().run(history) {
        // Only at its end: earlier it would be another difference.
        Err((step, difference)) if step + 1 == history.steps.len() => {
            last = difference;
            true
        }
        _ => false,
    };
    let shows_alone = differs(&cut);
    let history = if shows_alone { shrink(cut, ATTEMPTS, differs) } else { cut };
    Err(Box::new(Finding { history, difference: last, shows_alone }))
}

/// What a search has found.
#[derive(Debug, Default)]
pub struct Report {
    /// Histories that were run.
    pub histories: u64,
    /// Frames that both agreed about.
    pub frames: u64,
    /// Different things that were seen.
    pub seen: BTreeSet<Ran>,
    /// Files that are new in the corpus.
    pub kept: Vec<PathBuf>,
    /// Where they differ.
    pub finding: Option<Box<Finding>>,
}

/// Replays the corpus, then searches until `is_over`; keeps in `directory` what shows something new.
pub fn search(directory: &Path, seed: u64, mut is_over: impl FnMut(&Report) -> bool) -> io::Result<Report> {
    let mut report = Report::default();
    let mut runner = Runner::default();
    let mut corpus: Vec<History> = Vec::new();
    for (_, history) in corpus::load(directory)? {
        match judge(&mut runner, &history) {
            Ok(seen) => report.seen.extend(seen.into_iter().flatten()),
            Err(finding) => {
                report.finding = Some(finding);
                return Ok(report);
            }
        }
        corpus.push(history);
    }
    let world = super::World::new();
    let mut random = SmallRng::seed_from_u64(seed);
    while !is_over(&report) {
        let next = random.random();
        let history = match corpus.choose(&mut random) {
            Some(known) if random.random() => generate::variation(&world, known, next, STEPS / 2),
            _ => generate::history(&world, next, STEPS),
        };
        let seen = match judge(&mut runner, &history) {
            Ok(seen) => seen,
            Err(finding) => {
                report.finding = Some(finding);
                break;
            }
        };
        report.histories += 1;
        for (step, ran) in seen.into_iter().enumerate().filter_map(|(step, ran)| Some((step, ran?))) {
            if !report.seen.insert(ran.clone()) || corpus.len() >= FILES {
                continue;
            }
            let mut cut = history.clone();
            cut.steps.truncate(step + 1);
            let shows = |history: &History| {
                let last = runner.run(history).ok().and_then(|seen| seen.into_iter().next_back());
                last.flatten().as_ref() == Some(&ran)
            };
            let mut kept = shrink(cut, ATTEMPTS, shows);
            kept.what = ran.to_string();
            let path = directory.join(corpus::file_name(&kept.what));
            corpus::write(&path, &kept)?;
            report.kept.push(path);
            corpus.push(kept);
        }
        report.frames = runner.frames;
    }
    Ok(report)
}
