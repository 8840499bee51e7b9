//! Keeps the keys of `auth.jwt.jwks_url` fresh: a thread for each URL, never one of the shards.
//!
//! When to fetch, what a set means and how long it serves are decided by the pure layer; this fetches, and says what came of it.

mod client;
#[cfg(test)]
mod test_issuer;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Wake;
use std::thread::{Builder, Thread};

use self::client::Client;
use super::caught::{caught, said};
use super::clock::Clock;
use super::log::guard_panics;
use crate::error::Error;
use wsguard_proto::auth::{Jwks, JwksStep, LeftOut, Settled};
use wsguard_proto::config::Policy;
use wsguard_proto::config_error::ConfigError;
use wsguard_proto::lock::lock;
use wsguard_proto::time::Moment;

/// What can be said of the options without the network, and on another machine than the server's: whether `jwks_ca` is sound.
pub(super) fn check(jwks: &Jwks) -> Result<(), ConfigError> {
    if jwks.authorities().is_some() { Client::new(jwks).map(drop) } else { Ok(()) }
}

/// The threads that fetch for a server.
pub(super) struct Fetchers {
    clock: Clock,
    /// `None`: the server has ended, and nothing is kept fresh any more.
    running: Mutex<Option<Vec<Fetcher>>>,
}

impl Default for Fetchers {
    fn default() -> Self {
        Self { clock: Clock::start(), running: Mutex::new(Some(Vec::new())) }
    }
}

impl Fetchers {
    /// The time that sets are asked at.
    pub(super) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Fetches each set once, on the caller's thread, and starts to keep it fresh. What runs already is left as it is until
    /// [`Fetchers::run`]; a set that it has need not be fetched once more. Nothing is logged: the caller may hold a lock.
    ///
    /// # Errors
    /// A set cannot be fetched or used; names the option, and the route that states it. No thread is left.
    pub(super) fn prepare<'j>(
        &self,
        sets: impl IntoIterator<Item = (&'j Policy, &'j Arc<Jwks>)>,
    ) -> Result<(Vec<Fetcher>, JwksNews), Error> {
        let (mut prepared, mut news) = (Vec::<Fetcher>::new(), JwksNews::default());
        for (policy, jwks) in sets {
            if prepared.iter().any(|fetcher| Arc::ptr_eq(&fetcher.jwks, jwks)) {
                continue;
            }
            let client = Client::new(jwks).map_err(|error| policy.names_route(error))?;
            let continues = |fetcher: &Fetcher| jwks.continue_from(&fetcher.jwks, self.now());
            let is_known = lock(&self.running).iter().flatten().chain(&prepared).any(continues);
            if !is_known {
                let settled = self.fetch_first(jwks, &client).map_err(|error| policy.names_route(error))?;
                news.0.push((Arc::clone(jwks), settled));
            }
            prepared.push(Fetcher::start(Arc::clone(jwks), client, self.clock)?);
        }
        Ok((prepared, news))
    }

    /// Goes on with these, and ends all others. They end as well where the server has ended while they were prepared.
    pub(super) fn run(&self, prepared: Vec<Fetcher>) {
        let over = match &mut *lock(&self.running) {
            Some(running) => core::mem::replace(running, prepared),
            None => prepared,
        };
        drop(over);
    }

    /// Ends all, for good.
    pub(super) fn stop(&self) {
        let over = lock(&self.running).take();
        drop(over);
    }

    fn fetch_first(&self, jwks: &Jwks, client: &Client) -> Result<Settled, ConfigError> {
        let _ = jwks.next(self.now());
        let settled = jwks.settle(self.now(), client.fetch(jwks.url()), 0);
        if let Err(why) = &settled.outcome {
            let message = format!("cannot be fetched from {}: {why}", jwks.url().origin());
            return Err(ConfigError::invalid("auth.jwt.jwks_url", message));
        }
        Ok(settled)
    }
}

/// What came of first fetches. It is told when no lock is held any more: a subscriber of the application may do anything.
#[must_use]
#[derive(Default)]
pub(super) struct JwksNews(Vec<(Arc<Jwks>, Settled)>);

impl JwksNews {
    /// Logs it.
    pub(super) fn tell(self) {
        self.0.iter().for_each(|(jwks, settled)| tell(jwks, settled));
    }
}

/// A thread that keeps one set fresh. It ends with this: at once where it waits, else behind its fetch, of which nothing is
/// taken any more. Nobody waits for it: an issuer that hangs keeps no server from its end.
pub(super) struct Fetcher {
    jwks: Arc<Jwks>,
    is_over: Arc<AtomicBool>,
    thread: Thread,
}

impl Fetcher {
    fn start(jwks: Arc<Jwks>, client: Client, clock: Clock) -> Result<Self, Error> {
        let is_over = Arc::new(AtomicBool::new(false));
        let (own, over) = (Arc::clone(&jwks), Arc::clone(&is_over));
        let run = move || {
            guard_panics(true);
            keep_fresh(&own, &client, clock, &over);
        };
        let thread = Builder::new().name("wsguard-jwks".to_owned()).spawn(run).map_err(Error::Start)?.thread().clone();
        jwks.wakes(Arc::new(Unpark(thread.clone())).into());
        Ok(Self { jwks, is_over, thread })
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        self.thread.unpark();
        self.jwks.retire();
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn keep_fresh(jwks: &Jwks, client: &Client, clock: Clock, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Acquire) {
        match jwks.next(clock.now()) {
            JwksStep::Fetch => {
                let fetched =
                    caught(|| client.fetch(jwks.url())).unwrap_or_else(|| Err("the client failed".to_owned()));
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                let dice = RandomState::new().build_hasher().finish();
                tell(jwks, &jwks.settle(clock.now(), fetched, dice));
            }
            JwksStep::Expired => said(|| {
                let origin = jwks.url().origin();
                tracing::error!(
                    target: "wsguard",
                    "keys of {origin} (auth.jwt.jwks_url) could not be fetched for jwks_stale_s: tokens are answered 503"
                );
            }),
            // Where it was woken before it waits, it does not wait.
            JwksStep::WaitUntil(next) => std::thread::park_timeout(next.since(clock.now())),
        }
    }
}

/// Logs what a reader of the log should know: that keys changed, that they cannot be fetched (once), that they can again.
fn tell(jwks: &Jwks, settled: &Settled) {
    let origin = jwks.url().origin();
    let Settled { outcome, is_news, failures } = settled;
    said(|| match outcome {
        Ok((keys, LeftOut { other, exposed })) if *is_news || *failures > 0 => {
            tracing::info!(
                target: "wsguard",
                "keys of {origin} (auth.jwt.jwks_url) fetched: {keys} in use, {} left out",
                other + exposed
            );
            if *exposed > 0 {
                tracing::warn!(
                    target: "wsguard",
                    "{origin} (auth.jwt.jwks_url) publishes {exposed} secret or private keys: they are not used"
                );
            }
        }
        Ok(_) => {}
        Err(why) if *failures == 1 => {
            tracing::warn!(
                target: "wsguard",
                "keys of {origin} (auth.jwt.jwks_url) cannot be fetched: {why}; the last ones serve for jwks_stale_s"
            );
        }
        Err(why) => {
            tracing::debug!(target: "wsguard", failures, "keys of {origin} (auth.jwt.jwks_url) cannot be fetched: {why}");
        }
    });
}
