//! Everything that a run measured, and who was absent.

use crate::install::Absences;
use crate::plan::{WORKLOADS, Workload};
use crate::sample::{Metric, Rounds, Sample, Series};

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Results {
    rounds: Vec<(&'static str, &'static str, Rounds)>,
    /// Whom the run did without.
    pub absences: Absences,
    /// Who failed under a workload, and how: such a server has no figures there.
    failures: Vec<(&'static str, &'static str, String)>,
}

impl Results {
    /// Without figures yet.
    pub fn without(absences: Absences) -> Self {
        Self { absences, ..Self::default() }
    }

    /// Adds a round.
    pub fn push(&mut self, workload: &'static str, server: &'static str, sample: Sample) {
        let same = |(w, s, _): &&mut (&str, &str, Rounds)| (*w, *s) == (workload, server);
        if let Some((.., rounds)) = self.rounds.iter_mut().find(same) {
            rounds.push(sample);
        } else {
            let mut rounds = Rounds::default();
            rounds.push(sample);
            self.rounds.push((workload, server, rounds));
        }
    }

    /// Takes the figures of a server back: it gave wrong answers, or none.
    pub fn fail(&mut self, workload: &'static str, server: &'static str, why: String) {
        self.rounds.retain(|(w, s, _)| (*w, *s) != (workload, server));
        self.failures.push((workload, server, why));
    }

    /// Whether a server has failed under a workload.
    pub fn has_failed(&self, workload: &str, server: &str) -> bool {
        self.failures.iter().any(|(w, s, _)| (*w, *s) == (workload, server))
    }

    /// How many servers failed under how many workloads.
    pub fn failures(&self) -> usize {
        self.failures.len()
    }

    /// Why a server has no figures under a workload.
    pub fn reason(&self, workload: &str, server: &str) -> String {
        let failure = self.failures.iter().find(|(w, s, _)| (*w, *s) == (workload, server));
        match (failure, self.absences.get(server)) {
            (Some((.., why)), _) => format!("**failed**: {why}"),
            (None, Some(why)) => format!("absent: {why}"),
            (None, None) => "left out of this run".to_owned(),
        }
    }

    /// One figure over the rounds; empty if it was not measured.
    pub fn series(&self, workload: &str, server: &str, metric: Metric) -> Series {
        self.rounds(workload, server).map(|rounds| rounds.series(metric)).unwrap_or_default()
    }

    /// The median of a figure, if it was measured.
    pub fn median(&self, workload: &str, server: &str, metric: Metric) -> Option<f64> {
        self.rounds(workload, server)?.median(metric)
    }

    /// The rounds of a server under a workload.
    pub fn rounds(&self, workload: &str, server: &str) -> Option<&Rounds> {
        self.rounds.iter().find(|(w, s, _)| (*w, *s) == (workload, server)).map(|(.., rounds)| rounds)
    }

    /// The workloads that anyone was measured under, in the order of the plan.
    pub fn workloads(&self) -> impl Iterator<Item = &'static Workload> {
        let names = || self.rounds.iter().map(|(name, ..)| name).chain(self.failures.iter().map(|(name, ..)| name));
        WORKLOADS.iter().filter(move |workload| names().any(|name| *name == workload.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_loses_its_figures() {
        let mut results = Results::default();
        results.push("raw-64B", "bun", Sample::from([(Metric::CpuUs, 1.0)]));
        results.fail("raw-64B", "bun", "wrong echo".to_owned());
        assert_eq!(results.median("raw-64B", "bun", Metric::CpuUs), None);
        assert_eq!(results.reason("raw-64B", "bun"), "**failed**: wrong echo");
        assert_eq!(results.workloads().count(), 1);
    }
}
