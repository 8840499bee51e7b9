//! What `check` warns of.

use serde_json::{Value, json};

pub(crate) use crate::severity::Severity;

/// One warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// Its stable name, for those who read `--json`.
    pub(crate) id: &'static str,
    /// The path of the option.
    pub(crate) option: String,
    /// What is the matter.
    pub(crate) what: String,
    /// What to write instead.
    pub(crate) instead: String,
}

impl Finding {
    pub(crate) fn json(&self) -> Value {
        json!({"severity": self.severity.name(), "id": self.id, "option": self.option, "what": self.what, "instead": self.instead})
    }
}

/// Adds a finding about an option.
pub(super) fn warn(
    found: &mut Vec<Finding>,
    severity: Severity,
    id: &'static str,
    option: String,
    what: impl Into<String>,
    instead: impl Into<String>,
) {
    found.push(Finding { severity, id, option, what: what.into(), instead: instead.into() });
}
