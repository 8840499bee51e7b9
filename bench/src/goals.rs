//! The goals of the project that this bench decides, and whether a run met them.

use crate::plan::{OURS, YARDSTICK};
use crate::report::Results;
use crate::sample::Metric;

/// One goal for our own candidate.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// In words.
    pub what: &'static str,
    workload: &'static str,
    metric: Metric,
    bound: Bound,
}

#[derive(Clone, Copy, Debug)]
enum Bound {
    /// At most this share of what the yardstick needs.
    OfYardstick(f64),
    /// At most this.
    AtMost(f64),
}

/// What a run says about a goal.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The figure and whether it is within the bound.
    Measured(f64, bool),
    /// The workload or a candidate it needs was left out.
    NotMeasured,
}

/// All goals.
pub const GOALS: &[Goal] = &[
    cpu("CPU per message, 64 B, 1 in flight", "raw-64B", 1.0),
    cpu("CPU per message, 64 B, 16 in flight", "raw-64B-16", 0.15),
    idle("KiB per idle connection, never used", Metric::FreshKib, 1.2),
    idle("KiB per idle connection, after one echo", Metric::UsedKib, 1.2),
];

const fn cpu(what: &'static str, workload: &'static str, share: f64) -> Goal {
    Goal { what, workload, metric: Metric::CpuUs, bound: Bound::OfYardstick(share) }
}

const fn idle(what: &'static str, metric: Metric, most: f64) -> Goal {
    Goal { what, workload: "idle", metric, bound: Bound::AtMost(most) }
}

impl Goal {
    /// The bound in words.
    pub fn bound(&self) -> String {
        match self.bound {
            Bound::OfYardstick(share) => format!("≤ {share} of {YARDSTICK}"),
            Bound::AtMost(most) => format!("≤ {most}"),
        }
    }

    /// Holds the medians of a run against the goal.
    pub fn judge(&self, results: &Results) -> Outcome {
        let median = |candidate| results.median(self.workload, candidate, self.metric);
        let figure = match self.bound {
            Bound::OfYardstick(_) => median(OURS).zip(median(YARDSTICK)).map(|(ours, theirs)| ours / theirs),
            Bound::AtMost(_) => median(OURS),
        };
        let (Bound::OfYardstick(most) | Bound::AtMost(most)) = self.bound;
        figure.map_or(Outcome::NotMeasured, |figure| Outcome::Measured(figure, figure <= most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;

    #[test]
    fn goals_are_judged_by_ratio_and_by_value() {
        let mut results = Results::default();
        assert_eq!(GOALS[0].judge(&results), Outcome::NotMeasured);
        results.push("raw-64B", OURS, Sample::from([(Metric::CpuUs, 3.0)]));
        assert_eq!(GOALS[0].judge(&results), Outcome::NotMeasured);
        results.push("raw-64B", YARDSTICK, Sample::from([(Metric::CpuUs, 4.0)]));
        assert_eq!(GOALS[0].judge(&results), Outcome::Measured(0.75, true));
        results.push("idle", OURS, Sample::from([(Metric::FreshKib, 1.3)]));
        assert_eq!(GOALS[2].judge(&results), Outcome::Measured(1.3, false));
    }

    #[test]
    fn every_goal_names_a_workload() {
        for goal in GOALS {
            assert!(crate::plan::WORKLOADS.iter().any(|workload| workload.name == goal.workload), "{}", goal.what);
        }
    }
}
