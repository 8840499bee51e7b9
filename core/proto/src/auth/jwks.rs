//! Keys by URL: the set that an issuer publishes, as its verifier, its fetcher and waiting handshakes share it.
//!
//! Nothing here fetches, and no clock is read: the driver does what [`Jwks::next`] says and tells what came of it. A verifier takes
//! the keys of the moment; a handshake whose token names none of them may wait for the next fetch. Where keys come from is stated
//! by the options alone: a token's `jku` or `x5u` is never looked at.

use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::algorithm::{Algorithm, KeyFamily};
use super::jwks_schedule::{JwksSchedule, JwksStep};
use super::jwks_set::{self, LeftOut};
use super::jwks_url::JwksUrl;
use super::jwt_keys::KeyRing;
use crate::config_error::ConfigError;
use crate::files::Files;
use crate::lock::lock;
use crate::options::JwtOptions;
use crate::pem;
use crate::time::Moment;

const URL: &str = "auth.jwt.jwks_url";
const CA: &str = "auth.jwt.jwks_ca";

/// Where the keys of a verifier come from.
pub(super) enum KeySource {
    /// `key` or `keys`.
    Stated(Arc<KeyRing>),
    /// `jwks_url`.
    Fetched(Arc<Jwks>),
}

impl KeySource {
    /// Loads stated keys, or checks where keys are to be fetched from. The network is not asked.
    pub(super) fn load(options: &JwtOptions, listed: &[Algorithm], files: &dyn Files) -> Result<Self, ConfigError> {
        match Jwks::new(options, listed, files)? {
            Some(jwks) => Ok(KeySource::Fetched(Arc::new(jwks))),
            None => {
                let ring = KeyRing::load(options.key.as_ref(), options.keys.as_ref(), listed, files)?;
                Ok(KeySource::Stated(Arc::new(ring)))
            }
        }
    }

    /// The keys of the moment; `None`: none came, or the last ones have become too old.
    pub(super) fn keys(&self) -> Option<Arc<KeyRing>> {
        match self {
            KeySource::Stated(keys) => Some(Arc::clone(keys)),
            KeySource::Fetched(jwks) => jwks.keys(),
        }
    }

    pub(super) fn jwks(&self) -> Option<&Arc<Jwks>> {
        match self {
            KeySource::Stated(_) => None,
            KeySource::Fetched(jwks) => Some(jwks),
        }
    }
}

/// The option `auth.jwt.jwks_url`, with the keys that were fetched.
pub struct Jwks {
    url: JwksUrl,
    /// The certificates of `jwks_ca`, as DER.
    authorities: Option<Vec<Vec<u8>>>,
    listed: Vec<Algorithm>,
    limits: (u64, u64),
    state: Mutex<State>,
}

struct State {
    schedule: JwksSchedule,
    keys: Option<Arc<KeyRing>>,
    /// What `keys` were read from.
    document: Arc<[u8]>,
    /// Counts fetches that have ended.
    round: u64,
    /// The tasks that wait for the end of this round, by a number of their own.
    waiting: HashMap<u64, Waker>,
    next_waiting: u64,
    /// Wakes whoever fetches.
    fetcher: Option<Waker>,
    /// Nobody fetches any more: a reload has put another in its place, or the server ends.
    is_retired: bool,
}

/// A response with the status 200.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The body, at most [`MAX_JWKS_BYTES`](super::MAX_JWKS_BYTES).
    pub body: Vec<u8>,
    /// What `Cache-Control` says, by [`max_age`].
    pub max_age_s: Option<u64>,
}

/// What came of a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// How many keys serve now, and what was left out; or why the last ones stay, as the end of a sentence.
    pub outcome: Result<(usize, LeftOut), String>,
    /// The keys are others than before, or serve again.
    pub is_news: bool,
    /// Fetches that failed one after another, this one counted; after a good one, those before it.
    pub failures: u32,
}

impl Jwks {
    /// Checks the options. Reads the file of `jwks_ca`, and nothing else. `None`: keys are stated.
    fn new(options: &JwtOptions, listed: &[Algorithm], files: &dyn Files) -> Result<Option<Self>, ConfigError> {
        let Some(url) = &options.jwks_url else {
            return match options.jwks_ca {
                Some(_) => Err(ConfigError::contradiction(CA, "is for `jwks_url`, which is not given")),
                None => Ok(None),
            };
        };
        if options.key.is_some() || options.keys.is_some() {
            return Err(ConfigError::contradiction(URL, "is given in place of `key` and `keys`; drop one of them"));
        }
        let url = JwksUrl::parse(url).map_err(|what| ConfigError::invalid(URL, what))?;
        if let Some(index) = listed.iter().position(|algorithm| algorithm.family() == KeyFamily::Hmac) {
            let message = format!("{} needs a secret, and `jwks_url` is for public keys only", listed[index]);
            return Err(ConfigError::contradiction(format!("auth.jwt.algorithms[{index}]"), message));
        }
        let authorities = match &options.jwks_ca {
            Some(_) if !url.is_https() => {
                return Err(ConfigError::contradiction(CA, "is for https, and `jwks_url` is plain http"));
            }
            Some(text) => Some(certificates(text, files)?),
            None => None,
        };
        let limits = (options.jwks_max_age_s, options.jwks_stale_s);
        let state = State {
            schedule: JwksSchedule::new(limits.0, limits.1),
            keys: None,
            document: Arc::default(),
            round: 0,
            waiting: HashMap::new(),
            next_waiting: 0,
            fetcher: None,
            is_retired: false,
        };
        Ok(Some(Self { url, authorities, listed: listed.to_vec(), limits, state: Mutex::new(state) }))
    }

    /// Where the set is.
    pub fn url(&self) -> &JwksUrl {
        &self.url
    }

    /// The only authorities whose certificates are believed, as DER; `None`: the system's.
    pub fn authorities(&self) -> Option<&[Vec<u8>]> {
        self.authorities.as_deref()
    }

    /// Whether a key of the set may verify with the algorithm of this name.
    pub(super) fn lists(&self, algorithm: &str) -> bool {
        self.listed.iter().any(|listed| listed.name() == algorithm)
    }

    fn keys(&self) -> Option<Arc<KeyRing>> {
        lock(&self.state).keys.clone()
    }

    /// Wakes `fetcher` from now on when there is something to do before the time that [`Jwks::next`] named.
    pub fn wakes(&self, fetcher: Waker) {
        lock(&self.state).fetcher = Some(fetcher);
    }

    /// What whoever fetches is to do. [`JwksStep::Fetch`] is followed by [`Jwks::settle`].
    pub fn next(&self, now: Moment) -> JwksStep {
        let mut state = lock(&self.state);
        let step = state.schedule.next(now);
        if !state.schedule.serves() {
            state.keys = None;
        }
        step
    }

    /// Takes what a fetch brought. A set of no use changes as little as none: the last one serves on for its time.
    ///
    /// `dice`: any number, for the wait behind a failure.
    pub fn settle(&self, now: Moment, fetched: Result<Fetched, String>, dice: u64) -> Settled {
        let read = fetched.and_then(|Fetched { body, max_age_s }| {
            let set = jwks_set::parse(&body, &self.listed).map_err(|what| format!("the document {what}"))?;
            Ok((set, body, max_age_s))
        });
        let mut state = lock(&self.state);
        let settled = match read {
            Ok((set, body, max_age_s)) => {
                let failures = state.schedule.failures();
                let is_news = state.keys.is_none() || *state.document != *body;
                let outcome = Ok((set.keys.len(), set.left_out));
                state.keys = Some(Arc::new(KeyRing::ByKid(set.keys)));
                state.document = body.into();
                state.schedule.succeeded(now, max_age_s);
                Settled { outcome, is_news, failures }
            }
            Err(why) => {
                state.schedule.failed(now, dice);
                Settled { outcome: Err(why), is_news: false, failures: state.schedule.failures() }
            }
        };
        state.round += 1;
        let waiting = core::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_values().for_each(Waker::wake);
        settled
    }

    /// For a token whose `kid` no key has: what to wait for before it is verified once more. `None`: it is refused, because the
    /// last fetch for such a token was less than 30 s ago. However many ask, one fetch serves them all.
    pub fn ask(self: &Arc<Self>, now: Moment) -> Option<NextRound> {
        let mut state = lock(&self.state);
        if state.is_retired || !state.schedule.ask(now) {
            return None;
        }
        let next = NextRound { jwks: Arc::clone(self), round: state.round, number: state.next_waiting };
        state.next_waiting += 1;
        let fetcher = state.fetcher.clone();
        drop(state);
        if let Some(fetcher) = fetcher {
            fetcher.wake();
        }
        Some(next)
    }

    /// Nobody fetches it any more: whoever waits is to look for what is in its place.
    pub fn retire(&self) {
        let mut state = lock(&self.state);
        state.is_retired = true;
        state.round += 1;
        let waiting = core::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_values().for_each(Waker::wake);
    }

    /// Whether nobody fetches it any more.
    pub fn is_retired(&self) -> bool {
        lock(&self.state).is_retired
    }

    /// Goes on where `earlier` is, after a reload: the same URL and authorities need not be asked again, and an outage of the
    /// issuer is none of a reload, even where the last set does not serve any more. `false`: nothing was fetched yet, it is
    /// another URL, or has no keys for these algorithms.
    pub fn continue_from(&self, earlier: &Jwks, now: Moment) -> bool {
        if self.url != earlier.url || self.authorities != earlier.authorities {
            return false;
        }
        let (schedule, document) = {
            let state = lock(&earlier.state);
            (state.schedule.clone(), Arc::clone(&state.document))
        };
        let Ok(set) = jwks_set::parse(&document, &self.listed) else { return false };
        let mut state = lock(&self.state);
        state.schedule = schedule.with_limits(self.limits.0, self.limits.1, now);
        state.keys = state.schedule.serves().then(|| Arc::new(KeyRing::ByKid(set.keys)));
        state.document = document;
        true
    }
}

/// Shows where keys come from, never a key.
impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwks").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The end of the fetch that a handshake waits for, whatever came of it.
#[derive(Debug)]
pub struct NextRound {
    jwks: Arc<Jwks>,
    round: u64,
    number: u64,
}

impl Future for NextRound {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.jwks.state);
        if state.round > self.round {
            return Poll::Ready(());
        }
        state.waiting.insert(self.number, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for NextRound {
    fn drop(&mut self) {
        let waker = lock(&self.jwks.state).waiting.remove(&self.number);
        drop(waker);
    }
}

/// The certificates of `jwks_ca`.
fn certificates(text: &str, files: &dyn Files) -> Result<Vec<Vec<u8>>, ConfigError> {
    let blocks = pem::load(CA, text, files)?;
    let is_certificate = |label: &str| matches!(label, "CERTIFICATE" | "X509 CERTIFICATE");
    if !blocks.iter().all(|block| is_certificate(&block.label)) {
        return Err(ConfigError::invalid(CA, "must hold certificates only, PEM blocks `CERTIFICATE`"));
    }
    Ok(blocks.into_iter().map(|block| block.der).collect())
}

/// What the values of `Cache-Control` say of the response's age (RFC 9111 section 5.2.2.1), in seconds: the least, where there are
/// several. What is not to be kept at all is 0.
pub fn max_age<'v>(values: impl IntoIterator<Item = &'v str>) -> Option<u64> {
    let directive = |text: &str| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let name = name.trim();
        if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
            return Some(0);
        }
        let digits = value.trim().trim_matches('"');
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let is_age = name.eq_ignore_ascii_case("max-age") && is_number;
        // RFC 9111 section 1.2.2: more than a number holds is the most it holds.
        is_age.then(|| digits.parse().unwrap_or(u64::MAX))
    };
    values.into_iter().flat_map(|value| value.split(',')).filter_map(directive).min()
}

#[cfg(test)]
#[path = "jwks_tests.rs"]
mod tests;
