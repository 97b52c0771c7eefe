//! What many rounds say together.

/// Samples of one quantity, one or more a round.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples(Vec<f64>);

/// Two summaries of the same samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Summary {
    /// The smallest sample: what it takes when nothing disturbs.
    pub(super) minimum: f64,
    /// The sample in the middle: what to expect.
    pub(super) median: f64,
}

impl Samples {
    pub(super) fn add(&mut self, sample: f64) {
        self.0.push(sample);
    }

    /// `None` without samples.
    pub(super) fn summary(&self) -> Option<Summary> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
        Some(Summary { minimum: *sorted.first()?, median: f64::midpoint(*low, *high) })
    }
}

impl Summary {
    /// What is left when `other` is taken away. The smallest samples of both are compared, not the smallest
    /// difference: that would be the round in which the other was disturbed most.
    pub(super) fn less(self, other: Self) -> Self {
        Self { minimum: self.minimum - other.minimum, median: self.median - other.median }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(samples: &[f64]) -> Option<Summary> {
        Samples(samples.to_vec()).summary()
    }

    #[test]
    fn the_median_is_the_middle_of_an_odd_number_and_between_the_two_middles_of_an_even_one() {
        assert_eq!(summary(&[5.0, 1.0, 9.0]), Some(Summary { minimum: 1.0, median: 5.0 }));
        assert_eq!(summary(&[4.0, 1.0, 9.0, 6.0]), Some(Summary { minimum: 1.0, median: 5.0 }));
        assert_eq!(summary(&[7.0]), Some(Summary { minimum: 7.0, median: 7.0 }));
        assert_eq!(summary(&[]), None);
    }

    #[test]
    fn a_disturbed_round_changes_no_minimum_and_hardly_a_median() {
        let program = summary(&[100.0, 101.0, 900.0, 102.0, 100.0]).unwrap();
        let null = summary(&[40.0, 400.0, 41.0, 40.0, 42.0]).unwrap();
        assert_eq!(program.less(null), Summary { minimum: 60.0, median: 60.0 });
    }
}
