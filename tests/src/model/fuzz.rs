//! The search for histories on which program and model differ, led by what has not been seen yet.

use std::collections::BTreeSet;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::corpus::FILES;
use super::generate;
use super::history::{History, Step};
use super::recipe::{Recipe, Who};
use super::shrink::shrink;
use super::{Differ, Difference, Ran, World};

/// Histories that one pair of program and model takes: their tables are to stay half empty.
const HISTORIES: u16 = 40;
/// Steps of a history.
pub const STEPS: usize = 400;
/// How often a shorter history is tried when something differs, and when something new was seen.
const ATTEMPTS: usize = 120;
/// The same where each attempt takes a new pair.
const DEAR_ATTEMPTS: usize = 12;

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
    /// Runs a history by itself: if it lends ports that others may have used up, or may come upon those of others, on
    /// a new pair. So it shows the same each time, unless it spreads flows ([`spreads`]).
    pub fn run_alone(&mut self, history: &History) -> Result<Vec<Option<Ran>>, (usize, Difference)> {
        if is_scarce(history) || guesses_ports(history) {
            self.differ = None;
        }
        self.run(history)
    }

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

/// Whether it is about a service that has few ports to lend.
fn is_scarce(history: &History) -> bool {
    let world = World::new();
    history.steps.iter().any(|step| world.site(step.service()).is_scarce())
}

/// Whether it may hurt a lent port: what stands at the port that comes of it is chance, for the keys that lend are
/// drawn anew for each pair.
fn guesses_ports(history: &History) -> bool {
    history.steps.iter().any(|step| match step {
        Step::Frame(Recipe { to: Who::Lent(_), wounds, .. }) => !wounds.is_empty(),
        _ => false,
    })
}

/// Whether policies choose in it: by hashes whose keys are drawn anew for each pair, or by CPU.
pub fn spreads(history: &History) -> bool {
    history.steps.iter().any(|step| matches!(step, Step::Spread { .. }))
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
    /// Different things that were seen ([`Ran::views`]).
    pub seen: BTreeSet<String>,
    /// Histories that are worth a place in the corpus.
    pub kept: Vec<History>,
    /// Histories of the corpus that show nothing any longer that others do not show: they have made room.
    pub dropped: Vec<History>,
    /// Where they differ.
    pub finding: Option<Box<Finding>>,
}

/// A history of the corpus, and all that it shows.
struct Known {
    history: History,
    views: BTreeSet<String>,
}

fn views(seen: &[Option<Ran>]) -> BTreeSet<String> {
    seen.iter().flatten().flat_map(Ran::views).collect()
}

/// Replays the corpus, then searches until `is_over`; histories that show something new join the corpus, as long as
/// there is room, or one of which all is shown by others.
pub fn search(corpus: Vec<History>, seed: u64, mut is_over: impl FnMut(&Report) -> bool) -> Report {
    let mut report = Report::default();
    let mut runner = Runner::default();
    let mut known = Vec::new();
    for history in corpus {
        match judge(&mut runner, &history) {
            Ok(seen) => known.push(Known { history, views: views(&seen) }),
            Err(finding) => return Report { finding: Some(finding), ..report },
        }
    }
    report.seen.extend(known.iter().flat_map(|one| one.views.clone()));
    let world = World::new();
    let mut random = SmallRng::seed_from_u64(seed);
    while !is_over(&report) {
        let next = random.random();
        let history = match known.choose(&mut random) {
            Some(one) if random.random() => generate::variation(&world, &one.history, next, STEPS / 2),
            _ => generate::history(&world, next, STEPS),
        };
        let seen = match judge(&mut runner, &history) {
            Ok(seen) => seen,
            Err(finding) => return Report { finding: Some(finding), ..report },
        };
        report.histories += 1;
        for (step, ran) in seen.iter().enumerate().filter_map(|(step, ran)| Some((step, ran.as_ref()?))) {
            let is_new = ran.views().iter().any(|view| !report.seen.contains(view));
            if is_new
                && has_room(&known)
                && let Some(kept) = shortest(&mut runner, &history, step, ran)
            {
                report.seen.extend(ran.views());
                keep(kept, &mut runner, &mut known, &mut report);
            }
        }
        report.frames = runner.frames;
    }
    report
}

/// The place of a history of which all is shown by others.
fn needless(known: &[Known]) -> Option<usize> {
    let shown_by = |view: &String| known.iter().filter(|one| one.views.contains(view)).count();
    known.iter().position(|one| one.views.iter().all(|view| shown_by(view) > 1))
}

fn has_room(known: &[Known]) -> bool {
    known.len() < FILES || needless(known).is_some()
}

fn keep(kept: History, runner: &mut Runner, known: &mut Vec<Known>, report: &mut Report) {
    let Ok(seen) = runner.run_alone(&kept) else { return };
    if known.len() >= FILES
        && let Some(place) = needless(known)
    {
        let old = known.remove(place).history;
        let before = report.kept.len();
        report.kept.retain(|one| *one != old);
        if report.kept.len() == before {
            report.dropped.push(old);
        }
    }
    report.kept.push(kept.clone());
    known.push(Known { history: kept, views: views(&seen) });
}

/// The shortest history that ends with what was seen at `step` of this one; `None` if it does not show that by
/// itself, or only by chance.
fn shortest(runner: &mut Runner, history: &History, step: usize, ran: &Ran) -> Option<History> {
    let last = history.steps.get(step)?.service();
    // First without what is about others: that alone may make it cheap to run.
    let ours = history.steps.iter().take(step + 1).filter(|one| one.service() == last);
    let ours = History { what: ran.to_string(), steps: ours.cloned().collect() };
    if guesses_ports(&ours) {
        return None;
    }
    let attempts = if is_scarce(&ours) { DEAR_ATTEMPTS } else { ATTEMPTS };
    let mut shows = |history: &History| {
        let last = runner.run_alone(history).ok().and_then(|seen| seen.into_iter().next_back());
        last.flatten().as_ref() == Some(ran)
    };
    shows(&ours).then(|| shrink(ours, attempts, shows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_history_of_which_all_is_shown_by_others_makes_room() {
        let one = |views: &[&str]| Known {
            history: History::default(),
            views: views.iter().map(|view| (*view).to_owned()).collect(),
        };
        assert_eq!(needless(&[one(&["a", "b"]), one(&["b"]), one(&["c"])]), Some(1));
        assert_eq!(needless(&[one(&["a", "b"]), one(&["b", "c"])]), None);
    }
}
