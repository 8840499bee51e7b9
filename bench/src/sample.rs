//! What one round measured, and medians over rounds.

use std::collections::BTreeMap;

use crate::plan::Beside;

/// A figure that a round can yield.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Server CPU, user and system, per message, delivery or handshake, in microseconds.
    CpuUs,
    /// The part of it that threads besides wsguard's shards used: the application's.
    AppCpuUs,
    /// What Redis used beside it, in microseconds.
    RedisCpuUs,
    /// Messages, deliveries or handshakes per second.
    PerSecond,
    /// Median latency in microseconds.
    P50Us,
    /// 99th percentile of latency in microseconds.
    P99Us,
    /// 99.9th percentile of latency in microseconds.
    P999Us,
    /// Share of one core that the server used, in percent.
    BusyPercent,
    /// Resident memory under the load, in MiB.
    ResidentMib,
    /// Resident KiB per connection that never sent a message.
    FreshKib,
    /// Resident KiB per connection after one 64 B echo on each.
    UsedKib,
    /// Median latency of honest clients, in microseconds, with this going on beside them.
    HonestP50Us(Beside),
    /// The same, 99th percentile.
    HonestP99Us(Beside),
    /// Honest connections lost meanwhile.
    HonestLost(Beside),
    /// Honest connections lost beside any attack.
    HonestLostInAll,
    /// What the attack that costs the application's thread most adds to its share of one core, in percent.
    AppPercentAdded,
    /// Share of one core that all threads of the server used meanwhile, in percent.
    ServerPercent(Beside),
    /// Share of one core that the application's thread used meanwhile, in percent.
    AppPercent(Beside),
    /// The latest answer to an honest client while the options change, in milliseconds behind when its message was due.
    LatestMs,
    /// Until a reload was answered, in milliseconds.
    ReloadMs,
    /// Until the text of the metrics was there, in milliseconds.
    MetricsMs,
    /// Acts of the attack per second that were really carried out.
    ActsPerSecond(Beside),
}

/// The figures of one round.
pub type Sample = BTreeMap<Metric, f64>;

/// The figures of all rounds of one candidate under one workload.
#[derive(Debug, Default)]
pub struct Rounds(Vec<Sample>);

impl Rounds {
    /// Adds a round.
    pub fn push(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    /// One figure in every round that has it.
    pub fn series(&self, metric: Metric) -> Series {
        Series(self.0.iter().filter_map(|sample| sample.get(&metric).copied()).collect())
    }

    /// The median over the rounds, if any round has the figure.
    pub fn median(&self, metric: Metric) -> Option<f64> {
        self.series(metric).median()
    }
}

/// One figure over the rounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series(pub Vec<f64>);

impl Series {
    /// Round by round, this over `other`: both were measured within the same minute.
    #[must_use]
    pub fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(ours, theirs)| ours / theirs).collect())
    }

    /// Round by round, what this is beyond `other`.
    #[must_use]
    pub fn beyond(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(this, other)| this - other).collect())
    }

    /// The middle, if there is any round.
    pub fn median(&self) -> Option<f64> {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(sorted[middle]),
            _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        }
    }

    /// The smallest and the largest round.
    pub fn range(&self) -> Option<(f64, f64)> {
        let sorted = self.sorted();
        Some((*sorted.first()?, *sorted.last()?))
    }

    fn sorted(&self) -> Vec<f64> {
        let mut values = self.0.clone();
        values.sort_by(f64::total_cmp);
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_even_and_none() {
        let median = |values: &[f64]| Series(values.to_vec()).median();
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn range_is_smallest_and_largest() {
        assert_eq!(Series(vec![3.0, 1.0, 2.0]).range(), Some((1.0, 3.0)));
        assert_eq!(Series::default().range(), None);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let (ours, theirs) = (Series(vec![1.0, 4.0, 3.0]), Series(vec![2.0, 4.0, 12.0]));
        assert_eq!(ours.over(&theirs), Series(vec![0.5, 1.0, 0.25]));
        assert_eq!(ours.beyond(&theirs), Series(vec![-1.0, 0.0, -9.0]));
    }

    #[test]
    fn a_figure_that_no_round_has_is_none() {
        let mut rounds = Rounds::default();
        rounds.push(Sample::from([(Metric::CpuUs, 1.0)]));
        assert_eq!((rounds.median(Metric::CpuUs), rounds.median(Metric::P50Us)), (Some(1.0), None));
    }
}
