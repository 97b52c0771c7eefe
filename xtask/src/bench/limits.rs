//! What a packet may cost at most. A limit is a figure, or a share of another case in the same run: machines
//! differ, what one program costs against another on the same machine hardly does.

use super::figures::Figures;

/// The most that a case may cost, by its smallest figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limit {
    /// The case.
    pub(super) case: &'static str,
    /// How much.
    pub(super) most: Most,
}

/// How much a case may cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Most {
    /// So many of its unit.
    Figure(f64),
    /// So many times another case.
    Times(f64, &'static str),
}

const fn figure(case: &'static str, most: f64) -> Limit {
    Limit { case, most: Most::Figure(most) }
}

const fn times(case: &'static str, factor: f64, other: &'static str) -> Limit {
    Limit { case, most: Most::Times(factor, other) }
}

/// All limits.
pub(super) const LIMITS: [Limit; 10] = [
    figure("tcp4_est_1", 60.0),
    times("tcp4_est_64k", 0.55, "floor_lru_64k"),
    times("tcp4_est_1m", 0.60, "floor_lru_1m"),
    times("tcp4_reply_1m", 0.65, "floor_lru_1m"),
    figure("tcp4_syn_64k", 300.0),
    figure("tcp4_syn_1m", 420.0),
    figure("not_for_service", 20.0),
    times("tcp6_est_1m", 1.15, "tcp4_est_1m"),
    times("drain_only_1", 1.3, "floor_stateless_1"),
    figure("drain_scan_1m_ms", 30.0),
];

/// What a limit says of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Verdict {
    /// The limit.
    pub(super) limit: Limit,
    /// What the case cost, and what it may have cost in this run; `None` if one of the cases that it takes
    /// was not measured.
    pub(super) found: Option<Found>,
}

/// Two figures in the unit of their case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Found {
    /// What it cost.
    pub(super) cost: f64,
    /// What it may cost.
    pub(super) most: f64,
    /// How many times the case that the limit compares with, if it does.
    pub(super) times: Option<f64>,
}

impl Verdict {
    pub(super) fn is_missed(&self) -> bool {
        self.found.is_some_and(|found| found.cost > found.most)
    }
}

/// Judges a run by all limits.
pub(super) fn judge(figures: &Figures) -> Vec<Verdict> {
    LIMITS.iter().map(|limit| Verdict { limit: *limit, found: limit.look(figures) }).collect()
}

impl Limit {
    fn look(&self, figures: &Figures) -> Option<Found> {
        let cost = figures.minimum(self.case)?;
        Some(match self.most {
            Most::Figure(most) => Found { cost, most, times: None },
            Most::Times(factor, other) => {
                let other = figures.minimum(other)?;
                Found { cost, most: factor * other, times: Some(cost / other) }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::figures;
    use super::*;

    fn verdict(minima: &[(&str, f64)], case: &str) -> Verdict {
        judge(&figures(minima)).into_iter().find(|verdict| verdict.limit.case == case).unwrap()
    }

    #[test]
    fn a_figure_may_be_reached_and_not_passed() {
        assert!(!verdict(&[("tcp4_est_1", 60.0)], "tcp4_est_1").is_missed());
        assert!(verdict(&[("tcp4_est_1", 60.1)], "tcp4_est_1").is_missed());
    }

    #[test]
    fn a_share_is_taken_of_the_other_case_in_the_same_run() {
        let run = [("tcp4_est_1m", 240.0), ("floor_lru_1m", 400.0), ("tcp6_est_1m", 277.0)];
        let against_floor = verdict(&run, "tcp4_est_1m");
        assert_eq!(against_floor.found, Some(Found { cost: 240.0, most: 240.0, times: Some(0.6) }));
        assert!(!against_floor.is_missed());
        assert!(verdict(&run, "tcp6_est_1m").is_missed());
    }

    #[test]
    fn what_was_not_measured_is_neither_kept_nor_missed() {
        assert_eq!(verdict(&[("tcp4_est_1m", 1.0)], "tcp4_est_1m").found, None);
        assert!(!verdict(&[], "tcp4_est_1").is_missed());
    }
}
