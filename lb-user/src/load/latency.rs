//! Latency distributions: histograms of microseconds, and the figures that are read off them.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::record::Record;

/// Beyond this, one day, a latency is recorded as this.
const MAX_US: u64 = 86_400_000_000;

/// Figures of one distribution, in milliseconds; all zero if nothing was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Median.
    pub p50_ms: f64,
    /// 90 of 100 are at most this.
    pub p90_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// 999 of 1000.
    pub p999_ms: f64,
    /// The largest.
    pub max_ms: f64,
}

impl Latency {
    /// Reads the figures off a histogram of microseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| millis(histogram.value_at_quantile(quantile));
        Self { p50_ms: at(0.5), p90_ms: at(0.9), p99_ms: at(0.99), p999_ms: at(0.999), max_ms: at(1.0) }
    }
}

/// The latencies of successful requests, both ways of counting. A failure has no latency: a refusal would make
/// the figures better, a timeout only says how long the timeout was.
#[derive(Clone, Debug)]
pub(super) struct Latencies {
    /// From the intended time.
    pub(super) corrected: Histogram<u64>,
    /// From the actual start.
    pub(super) uncorrected: Histogram<u64>,
}

impl Latencies {
    pub(super) fn new() -> Self {
        Self { corrected: histogram(), uncorrected: histogram() }
    }

    /// Adds a successful request.
    pub(super) fn add(&mut self, record: &Record) {
        self.corrected.saturating_record(record.corrected_us());
        self.uncorrected.saturating_record(record.uncorrected_us());
    }
}

/// An empty histogram of microseconds with three significant digits.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_US, 3).expect("constant bounds that the crate allows")
}

/// Microseconds as milliseconds.
pub(super) fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_within_a_thousandth_and_zero_without_data() {
        let mut all = histogram();
        assert_eq!(Latency::of(&all), Latency::default());
        (1..=1000).for_each(|ms| all.saturating_record(ms * 1000));
        let figures = Latency::of(&all);
        let pairs = [(figures.p50_ms, 500.0), (figures.p99_ms, 990.0), (figures.max_ms, 1000.0)];
        for (read, exact) in pairs {
            assert!((read / exact - 1.0).abs() < 0.0011, "{read} for {exact}");
        }
    }
}
