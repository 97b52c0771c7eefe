//! The shortest part of a history that still shows what the whole of it shows.

use super::history::{History, Step};

/// Leaves out steps as long as what is left still `shows` it, asking so many times at the most. Only earlier steps are
/// left out: the last one is what it is about.
pub fn shrink(history: History, attempts: usize, mut shows: impl FnMut(&History) -> bool) -> History {
    let Some(last) = history.steps.last().cloned() else { return history };
    let mut best = history;
    let mut left = attempts;
    let mut attempt = |best: &mut History, steps: Vec<Step>| {
        let smaller = History { what: best.what.clone(), steps };
        let is_smaller = left > 0 && smaller.steps.len() < best.steps.len();
        left = left.saturating_sub(1);
        let holds = is_smaller && shows(&smaller);
        if holds {
            *best = smaller;
        }
        holds
    };
    // Most of what happened is about others.
    let of_service = |step: &&Step| step.service() == last.service();
    let of_client = |step: &&Step| step.client().is_none_or(|client| Some(client) == last.client());
    let same_service: Vec<Step> = best.steps.iter().filter(of_service).cloned().collect();
    attempt(&mut best, same_service);
    let same_client: Vec<Step> = best.steps.iter().filter(of_client).cloned().collect();
    attempt(&mut best, same_client);
    let mut size = best.steps.len() / 2;
    while size > 0 {
        let mut end = best.steps.len() - 1;
        while end > 0 {
            let start = end.saturating_sub(size);
            let mut steps = best.steps.clone();
            steps.drain(start..end);
            attempt(&mut best, steps);
            end = start;
        }
        size /= 2;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::history::State;

    fn step(service: u16, replica: u8) -> Step {
        Step::State { service, replica, state: State::Present }
    }

    #[test]
    fn what_does_not_matter_is_left_out_and_what_does_is_kept() {
        let mut steps: Vec<Step> = (0..100).map(|n| step(u16::from(n) % 3, n)).collect();
        steps.push(step(1, 200));
        let history = History { what: String::new(), steps };
        let needed = [step(1, 10), step(1, 40), step(1, 200)];
        let shows = |history: &History| needed.iter().all(|step| history.steps.contains(step));
        assert_eq!(shrink(history.clone(), 1000, shows).steps, needed);
        let hurried = shrink(history, 10, shows);
        assert!(shows(&hurried) && hurried.steps.len() < 40, "{}", hurried.steps.len());
    }
}
