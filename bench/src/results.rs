//! Everything that a run measured, and who was absent.

use std::collections::BTreeMap;

use crate::install::Absences;
use crate::plan::{WORKLOADS, Workload};
use crate::sample::{Metric, Rounds, Sample, Series};

/// A server under a workload: the names of both, workload first.
pub type Cell = (&'static str, &'static str);

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Results {
    rounds: BTreeMap<Cell, Rounds>,
    /// Whom the run did without.
    pub absences: Absences,
    /// Who failed under a workload, and how: such a server has no figures there.
    failures: BTreeMap<Cell, String>,
}

impl Results {
    /// Without figures yet.
    pub fn without(absences: Absences) -> Self {
        Self { absences, ..Self::default() }
    }

    /// Adds a round.
    pub fn push(&mut self, workload: &'static str, server: &'static str, sample: Sample) {
        self.rounds.entry((workload, server)).or_default().push(sample);
    }

    /// Takes the figures of a server back: it gave wrong answers, or none.
    pub fn fail(&mut self, workload: &'static str, server: &'static str, why: String) {
        self.rounds.remove(&(workload, server));
        self.failures.insert((workload, server), why);
    }

    /// Whether a server has failed under a workload.
    pub fn has_failed(&self, workload: &str, server: &str) -> bool {
        self.failures.contains_key(&(workload, server))
    }

    /// How many servers failed under how many workloads.
    pub fn failures(&self) -> usize {
        self.failures.len()
    }

    /// Why a server has no figures under a workload; none if it was not asked for.
    pub fn reason(&self, workload: &str, server: &str) -> Option<String> {
        let failure = self.failures.get(&(workload, server)).map(|why| format!("**failed**: {why}"));
        failure.or_else(|| self.absences.get(server).map(|why| format!("absent: {why}")))
    }

    /// One figure over the rounds; empty if it was not measured.
    pub fn series(&self, workload: &'static str, server: &'static str, metric: Metric) -> Series {
        self.rounds(workload, server).map(|rounds| rounds.series(metric)).unwrap_or_default()
    }

    /// The rounds of a server under a workload.
    pub fn rounds(&self, workload: &'static str, server: &'static str) -> Option<&Rounds> {
        self.rounds.get(&(workload, server))
    }

    /// The workloads that anyone was measured under, in the order of the plan.
    pub fn workloads(&self) -> impl Iterator<Item = &'static Workload> {
        let is_measured = |name| self.rounds.keys().chain(self.failures.keys()).any(|(workload, _)| *workload == name);
        WORKLOADS.iter().filter(move |workload| is_measured(workload.name))
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
        assert!(results.rounds("raw-64B", "bun").is_none());
        assert_eq!(results.reason("raw-64B", "bun").as_deref(), Some("**failed**: wrong echo"));
        assert_eq!(results.reason("raw-64B", "ws"), None);
        assert_eq!(results.workloads().count(), 1);
    }
}
