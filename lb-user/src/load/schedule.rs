//! The intended time and kind of every request of a run, fixed before the run starts.
//!
//! Pure: the same plan gives the same schedule. Times and kinds come from two streams of random numbers, so
//! that changing the mix does not move the arrivals.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::plan::{Arrivals, Plan};

/// Sets the stream of the kinds apart from the stream of the times.
const MIX_STREAM: u64 = 0x9e37_79b9_7f4a_7c15;

/// One request to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When it is intended to start, in microseconds since the start of the run.
    pub at_us: u64,
    /// Index of its kind in the plan.
    pub kind: u16,
}

/// All requests of a valid plan in the order of their intended times, each before the end of its duration.
pub fn schedule(plan: &Plan) -> Vec<Arrival> {
    let mut mix = Mix::new(plan);
    let end_us = plan.duration.as_micros() as f64;
    let gap_us = 1e6 / plan.rate;
    let mut times = SmallRng::seed_from_u64(plan.seed);
    let mut arrivals = Vec::with_capacity(whole(end_us / gap_us) as usize + 1);
    let mut at_us = match plan.arrivals {
        Arrivals::Constant => 0.0,
        Arrivals::Poisson => exponential(&mut times) * gap_us,
    };
    while at_us < end_us {
        arrivals.push(Arrival { at_us: whole(at_us), kind: mix.next() });
        at_us = match plan.arrivals {
            // A product, not a sum, so that rounding does not add up over a long run.
            Arrivals::Constant => arrivals.len() as f64 * gap_us,
            Arrivals::Poisson => at_us + exponential(&mut times) * gap_us,
        };
    }
    arrivals
}

/// Draws kinds by their weights.
struct Mix {
    /// Sum of the weights up to and including each kind.
    cumulative: Vec<u64>,
    random: SmallRng,
}

impl Mix {
    fn new(plan: &Plan) -> Self {
        let mut sum = 0;
        let add = |weight: u64| {
            sum += weight;
            sum
        };
        let cumulative = plan.kinds.iter().map(|kind| u64::from(kind.weight.max(1))).map(add).collect();
        Self { cumulative, random: SmallRng::seed_from_u64(plan.seed ^ MIX_STREAM) }
    }

    fn next(&mut self) -> u16 {
        let total = self.cumulative.last().copied().unwrap_or(1);
        let ticket = self.random.random_range(0..total);
        self.cumulative.partition_point(|&sum| sum <= ticket) as u16
    }
}

/// An exponentially distributed number of mean 1.
fn exponential(random: &mut SmallRng) -> f64 {
    // `random` gives [0, 1): the complement keeps zero, whose logarithm is infinite, out.
    -(1.0 - random.random::<f64>()).ln()
}

/// Rounds down a time or count that is at least zero and far below 2^53.
#[expect(clippy::cast_sign_loss, reason = "times start at zero and only grow")]
fn whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::load::RequestKind;

    fn plan(arrivals: Arrivals, rate: f64, millis: u64, seed: u64) -> Plan {
        let mut plan = Plan::new(([127, 0, 0, 1], 80).into());
        plan.kinds = vec![RequestKind::get("a", "/"), RequestKind::get("b", "/")];
        plan.kinds[0].weight = 3;
        (plan.arrivals, plan.rate, plan.seed) = (arrivals, rate, seed);
        plan.duration = Duration::from_millis(millis);
        plan
    }

    proptest! {
        #[test]
        fn constant_arrivals_are_equally_far_apart(rate in 0.5f64..20_000.0, millis in 1u64..20_000) {
            let plan = plan(Arrivals::Constant, rate, millis, 1);
            let arrivals = schedule(&plan);
            let exact = rate * millis as f64 / 1000.0;
            prop_assert!((arrivals.len() as f64 - exact.ceil()).abs() <= 1.0);
            for (n, arrival) in arrivals.iter().enumerate() {
                prop_assert!((arrival.at_us as f64 - n as f64 * 1e6 / rate).abs() <= 1.0);
            }
        }

        #[test]
        fn arrivals_are_in_order_and_before_the_end(
            rate in 1.0f64..20_000.0, millis in 1u64..5_000, seed: u64, poisson: bool,
        ) {
            let arrivals = if poisson { Arrivals::Poisson } else { Arrivals::Constant };
            let all = schedule(&plan(arrivals, rate, millis, seed));
            prop_assert!(all.is_sorted_by_key(|arrival| arrival.at_us));
            prop_assert!(all.iter().all(|arrival| arrival.at_us < millis * 1000 && arrival.kind < 2));
        }

        #[test]
        fn poisson_arrivals_have_the_rate_and_spread_of_their_law(seed: u64) {
            let plan = plan(Arrivals::Poisson, 1000.0, 20_000, seed);
            let all = schedule(&plan);
            // The count has mean 20,000 and deviation 141; seven deviations are beyond chance.
            prop_assert!((all.len() as f64 - 20_000.0).abs() < 990.0, "{} arrivals", all.len());
            let gaps: Vec<f64> = all.windows(2).map(|w| (w[1].at_us - w[0].at_us) as f64).collect();
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
            // An exponential law's deviation equals its mean; equal distances would give zero.
            prop_assert!((variance.sqrt() / mean - 1.0).abs() < 0.1);
        }

        #[test]
        fn a_seed_decides_everything_and_the_mix_follows_the_weights(seed: u64) {
            let plan = plan(Arrivals::Poisson, 1000.0, 10_000, seed);
            let all = schedule(&plan);
            prop_assert_eq!(&all, &schedule(&plan));
            let share = all.iter().filter(|arrival| arrival.kind == 0).count() as f64 / all.len() as f64;
            prop_assert!((share - 0.75).abs() < 0.04, "{share}");
        }
    }

    #[test]
    fn another_mix_leaves_the_times_alone() {
        let two = plan(Arrivals::Poisson, 100.0, 5_000, 7);
        let mut one = two.clone();
        one.kinds.truncate(1);
        let times = |plan: &Plan| schedule(plan).iter().map(|arrival| arrival.at_us).collect::<Vec<_>>();
        assert_eq!(times(&one), times(&two));
    }
}
