//! What one round measured, and medians over rounds.

use std::collections::BTreeMap;

/// A figure that a round can yield.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Server CPU, user and system, per message or handshake, in microseconds.
    CpuUs,
    /// Messages or handshakes per second.
    PerSecond,
    /// Median latency in microseconds.
    P50Us,
    /// 99th percentile of latency in microseconds.
    P99Us,
    /// Share of one core that the server used, in percent.
    BusyPercent,
    /// Resident memory under the load, in MiB.
    ResidentMib,
    /// Resident KiB per connection that never sent a message.
    FreshKib,
    /// Resident KiB per connection after one 64 B echo on each.
    UsedKib,
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

    /// The median over the rounds, if any round has the figure.
    pub fn median(&self, metric: Metric) -> Option<f64> {
        let sorted = self.sorted(metric);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(sorted[middle]),
            _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        }
    }

    /// The smallest and the largest round.
    pub fn range(&self, metric: Metric) -> Option<(f64, f64)> {
        let sorted = self.sorted(metric);
        Some((*sorted.first()?, *sorted.last()?))
    }

    fn sorted(&self, metric: Metric) -> Vec<f64> {
        let mut values: Vec<f64> = self.0.iter().filter_map(|sample| sample.get(&metric).copied()).collect();
        values.sort_by(f64::total_cmp);
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(values: &[f64]) -> Rounds {
        Rounds(values.iter().map(|&value| Sample::from([(Metric::CpuUs, value)])).collect())
    }

    #[test]
    fn median_of_odd_even_and_none() {
        assert_eq!(rounds(&[3.0, 1.0, 2.0]).median(Metric::CpuUs), Some(2.0));
        assert_eq!(rounds(&[4.0, 1.0, 2.0, 3.0]).median(Metric::CpuUs), Some(2.5));
        assert_eq!(rounds(&[]).median(Metric::CpuUs), None);
        assert_eq!(rounds(&[1.0]).median(Metric::P50Us), None);
    }

    #[test]
    fn range_is_smallest_and_largest() {
        assert_eq!(rounds(&[3.0, 1.0, 2.0]).range(Metric::CpuUs), Some((1.0, 3.0)));
    }
}
