//! The policy in force, and how the page puts another one in its place while both chats run.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;
use wsguard::binding::Stats;
use wsguard::{Error, Handle};

use crate::policy;

/// Every connection is judged by a new policy within milliseconds; so long after it, they are counted again.
const SETTLE: Duration = Duration::from_millis(500);

/// What the guarded server runs by.
#[derive(Clone, Debug)]
pub(crate) struct InForce {
    pub(crate) generation: u64,
    pub(crate) text: String,
}

pub(crate) struct Live {
    server: Handle,
    /// The token of the policy's moderator.
    moderator: String,
    /// What the server was started with.
    pub(crate) first: String,
    now: Mutex<InForce>,
    generation: watch::Sender<u64>,
}

impl Live {
    /// Of a `server` that was started with the policy `first`.
    pub(crate) fn new(server: Handle, first: String, moderator: String) -> Self {
        let now = Mutex::new(InForce { generation: 1, text: first.clone() });
        Self { server, moderator, first, now, generation: watch::Sender::new(1) }
    }

    pub(crate) fn now(&self) -> InForce {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells when another policy has come into force.
    pub(crate) fn generations(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    pub(crate) fn metrics(&self) -> String {
        self.server.metrics()
    }

    /// Puts `text` into force, and tells what changed and what became of the open connections; or why nothing changed.
    pub(crate) async fn apply(&self, text: String) -> Value {
        let before = self.server.stats();
        match self.reload(text) {
            Ok(changes) => {
                sleep(SETTLE).await;
                self.report(&changes, &before, &self.server.stats())
            }
            Err(error) => self.refusal(&error),
        }
    }

    fn reload(&self, text: String) -> Result<Vec<Value>, Error> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = self.server.reload(policy::edited(&text, &self.moderator)?)?;
        let changes = policy::changes(&now.text, &text);
        *now = InForce { generation, text };
        self.generation.send_replace(generation);
        // Every page shows the policy: they are told by the chat itself. An error here: the server has stopped.
        let _ = self.server.everyone().emit("policy", &generation);
        Ok(changes)
    }

    fn report(&self, changes: &[Value], before: &Stats, after: &Stats) -> Value {
        let opened = after.opened_total.saturating_sub(before.opened_total);
        let InForce { generation, text } = self.now();
        json!({
            "generation": generation, "policy": text, "changes": changes,
            "before": before.open, "after": after.open, "closed": (before.open + opened).saturating_sub(after.open),
        })
    }

    fn refusal(&self, error: &Error) -> Value {
        let generation = self.now().generation;
        json!({ "generation": generation, "error": error.to_string(), "code": error.code(), "option": error.option() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wsguard::Server;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_policy_comes_into_force_whole_or_not_at_all() {
        let first = policy::text("127.0.0.1:0", "http://127.0.0.1:8000");
        let server = Server::start(policy::options(&first, TOKEN).unwrap()).unwrap();
        let live = Live::new(server.handle(), first.clone(), TOKEN.to_owned());
        let generations = live.generations();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let apply = |text: String| runtime.block_on(live.apply(text));

        let bad = [
            (first.replace("\"per_second\": 10", "\"per_second\": 0"), "invalid_option", "rate_limit.per_second"),
            (first.replace("max_message_bytes", "max_mesage_bytes"), "unknown_option", "max_mesage_bytes"),
            (first.replace("127.0.0.1:0", "127.0.0.1:1"), "not_reloadable", "listen"),
            (first.replace("http://127.0.0.1:8000", "$MODERATOR"), "invalid_option", "origins[0]"),
            (first.replacen('{', "", 1), "invalid_option", "options"),
        ];
        for (text, code, option) in bad {
            let told = apply(text);
            assert_eq!((told["code"].as_str(), told["option"].as_str()), (Some(code), Some(option)), "{told}");
            assert!(told["error"].as_str().unwrap().starts_with(option), "{told}");
            assert!(!told.to_string().contains(TOKEN), "{told}");
            assert_eq!((told["generation"].as_u64(), live.now().text == first), (Some(1), true));
        }
        assert!(!generations.has_changed().unwrap());

        let told = apply(first.replace("4096", "64"));
        let changes = json!([{ "option": "max_message_bytes", "before": "4096", "after": "64" }]);
        assert_eq!((&told["changes"], told["generation"].as_u64()), (&changes, Some(2)));
        assert_eq!(
            (told["before"].as_u64(), told["after"].as_u64(), told["closed"].as_u64()),
            (Some(0), Some(0), Some(0))
        );
        assert!(live.now().text.contains("\"max_message_bytes\": 64,") && generations.has_changed().unwrap());
        assert!(live.metrics().contains("wsguard_policy_generation 2\n"));
        assert_eq!(apply(first)["generation"], 3);
    }
}
