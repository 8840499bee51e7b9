//! How much a finding matters, of the audit of a server and of the check of a policy.

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Severity {
    /// It costs little by itself, or helps another attack.
    Low,
    /// One peer can cost others something, or a rule that other parts rely on is not kept.
    Medium,
    /// A stranger gets what is not his, or one peer can take the server down.
    High,
}

impl Severity {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}
