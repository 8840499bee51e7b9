//! A new set of options while the server runs: compiled and checked on the caller's thread, all or nothing, then handed to the
//! shards, which each take it over for their connections.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::caught::said;
use super::commands::Command;
use super::compile::compile;
use super::jwks::JwksNews;
use super::notices::warn_of_reporting;
use super::state::ServerState;
use super::tls::{self, ServerTls};
use crate::error::Error;
use wsguard_proto::config::{Options, PolicySet};
use wsguard_proto::lock::lock;

/// A reload that is done, to be told.
struct Reloaded {
    next: Arc<PolicySet>,
    /// The names of what is different.
    changed: String,
    tls: Option<Arc<ServerTls>>,
    /// Of keys that were fetched for it.
    keys: JwksNews,
}

impl ServerState {
    /// Runs by `options` from now on; returns the generation. An error changes nothing.
    pub(super) fn reload(&self, options: Options) -> Result<u64, Error> {
        let reloaded = self.replace_policy(options);
        // No lock is held any more: a subscriber of the application may ask for the next reload.
        match reloaded {
            Ok(Reloaded { next, changed, tls, keys }) => {
                keys.tell();
                let generation = next.generation;
                if let Some(tls) = tls {
                    tls.warn();
                }
                said(
                    || tracing::info!(target: "wsguard::audit", action = %"reload", generation, %changed, "policy reloaded: {next}"),
                );
                warn_of_reporting(&next);
                Ok(generation)
            }
            Err(error) => {
                self.reload_failures.fetch_add(1, Ordering::Relaxed);
                said(|| tracing::warn!(target: "wsguard", "reload refused, the policy stays as it is: {error}"));
                Err(error)
            }
        }
    }

    fn replace_policy(&self, options: Options) -> Result<Reloaded, Error> {
        let _one_at_a_time = lock(&self.reloading);
        let before = self.set();
        let next = before.replaced_by(compile(options)?)?;
        if self.is_public {
            next.top.check_public()?;
        }
        if let Some(is_unix) = self.is_unix {
            next.top.check_proxies(is_unix)?;
        }
        let tls = next.top.tls.as_ref().map(tls::load).transpose()?;
        let (fetchers, keys) = self.jwks.prepare(next.jwks())?;
        let changed = before.changed_names(&next).join(",");
        // From here on nothing fails.
        self.inbox.set_most(next.top.max_inbox_bytes);
        self.tls.write().unwrap_or_else(PoisonError::into_inner).clone_from(&tls);
        let next = Arc::new(next);
        self.replace_set(&next);
        self.jwks.run(fetchers);
        for mailbox in self.shards.iter() {
            mailbox.post(|buffer| buffer.commands.push(Command::Reload(Arc::clone(&next))));
        }
        let changed = if changed.is_empty() { "-".to_owned() } else { changed };
        Ok(Reloaded { next, changed, tls, keys })
    }
}
