//! What a check found: the words of every result, and how several make one.

use std::fmt;

pub(crate) use crate::severity::Severity;

/// What a check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The server did as it should.
    Passed,
    /// The check does not apply here.
    Skipped,
    /// It could not be told.
    Unknown,
    /// The server lets through what it should not.
    Finding(Severity),
}

impl Verdict {
    /// As the reports name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Skipped => "skipped",
            Self::Unknown => "unknown",
            Self::Finding(_) => "finding",
        }
    }

    fn rank(self) -> u8 {
        match self {
            Self::Skipped => 0,
            Self::Passed => 1,
            Self::Unknown => 2,
            Self::Finding(severity) => 3 + severity as u8,
        }
    }
}

/// A verdict, what was sent for it, and what came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ruling {
    pub(crate) verdict: Verdict,
    pub(crate) sent: String,
    pub(crate) came: String,
}

/// A check ends early where it cannot go on; both ways are a ruling.
pub(crate) type Ruled = Result<Ruling, Ruling>;

impl Ruling {
    pub(crate) fn new(verdict: Verdict, sent: impl fmt::Display, came: impl fmt::Display) -> Self {
        Self { verdict, sent: sent.to_string(), came: came.to_string() }
    }

    pub(crate) fn passed(sent: impl fmt::Display, came: impl fmt::Display) -> Self {
        Self::new(Verdict::Passed, sent, came)
    }

    pub(crate) fn finding(severity: Severity, sent: impl fmt::Display, came: impl fmt::Display) -> Self {
        Self::new(Verdict::Finding(severity), sent, came)
    }

    pub(crate) fn unknown(sent: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self::new(Verdict::Unknown, sent, why)
    }

    pub(crate) fn skipped(why: impl fmt::Display) -> Self {
        Self::new(Verdict::Skipped, "", why)
    }

    /// The worst of several, with what came of each. One that could not be told hides no finding, and no pass hides it.
    pub(crate) fn worst(all: &[Self]) -> Self {
        let Some(verdict) = all.iter().map(|one| one.verdict).max_by_key(|verdict| verdict.rank()) else {
            return Self::skipped("nothing to send");
        };
        if let [one] = all {
            return one.clone();
        }
        let relevant = || all.iter().filter(|one| one.verdict.rank() > 0);
        let sent = relevant().map(|one| one.sent.as_str()).collect::<Vec<_>>().join("; ");
        let mut cames = relevant().map(|one| one.came.as_str());
        let first = cames.next().unwrap_or_default();
        let came = if cames.all(|came| came == first) {
            format!("each: {first}")
        } else {
            relevant().map(|one| format!("{}: {}", one.sent, one.came)).collect::<Vec<_>>().join("; ")
        };
        Self { verdict, sent, came }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_rules() {
        let (passed, unknown) = (Ruling::passed("a", "refused"), Ruling::unknown("b", "silence"));
        let low = Ruling::finding(Severity::Low, "c", "taken");
        assert_eq!(Ruling::worst(&[passed.clone(), unknown.clone()]).verdict, Verdict::Unknown);
        let all = Ruling::worst(&[passed.clone(), low, unknown, Ruling::skipped("no")]);
        assert_eq!(all.verdict, Verdict::Finding(Severity::Low));
        assert_eq!(all.came, "a: refused; c: taken; b: silence");
        assert_eq!(Ruling::worst(&[passed.clone(), Ruling::passed("z", "refused")]).came, "each: refused");
        assert_eq!(Ruling::worst(std::slice::from_ref(&passed)), passed);
        assert!(Severity::High > Severity::Medium && Severity::Medium > Severity::Low);
    }
}
