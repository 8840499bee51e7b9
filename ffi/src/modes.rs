//! What this face has to know of the policies in force, which a reload replaces: which form messages have, whether a message
//! that the application refuses ends its connection, and how much a peer may leave unread.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use wsguard::binding::{Authenticator, OnViolation, Policy, PolicySet, Protocol};

use crate::os::{self, lock};
use crate::status::Status;

const RAW: u8 = 1;
const JSON: u8 = 2;

fn bit(protocol: Protocol) -> u8 {
    if protocol == Protocol::Raw { RAW } else { JSON }
}

/// The modes of one server.
#[derive(Debug)]
pub(crate) struct Modes {
    /// The protocols of every policy so far: a route may have another than the top.
    protocols: AtomicU8,
    largest_outbox: AtomicUsize,
    /// The policies before the last reload: a connection has them until its shard has come to it.
    before: Mutex<Option<Arc<PolicySet>>>,
}

impl Modes {
    pub(crate) fn of(set: &PolicySet) -> Self {
        let modes = Self { protocols: AtomicU8::new(0), largest_outbox: AtomicUsize::new(0), before: Mutex::new(None) };
        modes.note(set);
        modes
    }

    fn note(&self, set: &PolicySet) {
        let protocols = set.policies().fold(0, |bits, policy| bits | bit(policy.protocol));
        self.protocols.fetch_or(protocols, Ordering::Relaxed);
        self.largest_outbox.store(set.largest_outbox(), Ordering::Relaxed);
    }

    /// `next` is in force in place of `before`. Returns true if sessions may last longer or shorter than was told.
    pub(crate) fn replaced(&self, before: Arc<PolicySet>, next: &PolicySet) -> bool {
        self.note(next);
        let (longest, longest_now) = (longest_sessions(&before), longest_sessions(next));
        // With several lengths a path may have got the one of another, also where they are the same ones as before.
        let other_sessions = longest != longest_now || longest.len() > 1;
        let _calm = os::calm();
        *lock(&self.before) = Some(before);
        other_sessions
    }

    /// More than this fits into no outbox.
    pub(crate) fn largest_outbox(&self) -> usize {
        self.largest_outbox.load(Ordering::Relaxed)
    }

    /// Whether some connections have one protocol, and some the other.
    pub(crate) fn is_mixed(&self) -> bool {
        self.protocols.load(Ordering::Relaxed) == RAW | JSON
    }

    /// The protocol of a connection of this path that has come. Asked of the policies in force and not of what was noted: it
    /// may be the first of a route that a reload has added just now.
    pub(crate) fn protocol(&self, policies: &PolicySet, path: &str) -> Option<Protocol> {
        let protocol = protocol_of(policies, path)?;
        self.protocols.fetch_or(bit(protocol), Ordering::Relaxed);
        Some(protocol)
    }

    /// Some connection may have this protocol.
    pub(crate) fn speaks(&self, protocol: Protocol) -> Result<(), Status> {
        if self.protocols.load(Ordering::Relaxed) & bit(protocol) != 0 { Ok(()) } else { Err(Status::ErrArgument) }
    }

    /// Whether a broken message rule ends a connection of this path: by the policies in force, and by those before, which its
    /// shard may still have. `None`: the path is not known, so that every route must say so.
    pub(crate) fn enforces(&self, policies: &PolicySet, path: Option<&str>) -> bool {
        let before = {
            let _calm = os::calm();
            lock(&self.before).clone()
        };
        enforces(policies, path) && before.is_none_or(|before| enforces(&before, path))
    }
}

/// How long sessions may last, each length once.
fn longest_sessions(set: &PolicySet) -> BTreeSet<u64> {
    set.policies().map(|policy| policy.max_session_ms).collect()
}

fn enforces(set: &PolicySet, path: Option<&str>) -> bool {
    let is_enforced = |policy: &Policy| policy.on_violation == OnViolation::Enforce;
    match path {
        // Not served: what is open there is closed in any case.
        Some(path) => set.resolve(path).is_none_or(|resolved| is_enforced(&resolved.policy)),
        None => set.policies().all(|policy| is_enforced(policy)),
    }
}

/// Whether some handshake asks the application.
pub(crate) fn asks(set: &PolicySet) -> bool {
    set.policies().any(|policy| matches!(*policy.authenticator, Authenticator::Callback))
}

/// The protocol of the connections of a path; `None`: it is not served any more.
fn protocol_of(set: &PolicySet, path: &str) -> Option<Protocol> {
    set.resolve(path).map(|resolved| resolved.policy.protocol)
}

#[cfg(test)]
impl Modes {
    /// Of the policies before the last reload.
    pub(crate) fn generation_before(&self) -> u64 {
        lock(&self.before).as_ref().map_or(0, |before| before.generation)
    }
}

#[cfg(test)]
mod tests {
    use wsguard::binding::{Options, compile};

    use super::*;

    fn set(more: &str) -> Arc<PolicySet> {
        let json = format!(r#"{{"origins": ["https://a.example"], "auth": "none", "events": {{"say": {{}}}} {more}}}"#);
        Arc::new(compile(Options::from_json(&json).unwrap()).unwrap())
    }

    #[test]
    fn a_route_may_speak_otherwise_than_the_top() {
        let modes = Modes::of(&set(""));
        assert!(!modes.is_mixed());
        assert_eq!((modes.speaks(Protocol::Json), modes.speaks(Protocol::Raw)), (Ok(()), Err(Status::ErrArgument)));
        let mixed = set(r#", "routes": {"/raw": {"protocol": "raw", "auth": "callback"}}, "paths": ["/"]"#);
        assert!(!modes.replaced(set(""), &mixed));
        assert!(modes.is_mixed() && modes.speaks(Protocol::Raw).is_ok());
        assert_eq!(protocol_of(&mixed, "/raw"), Some(Protocol::Raw));
        assert_eq!((protocol_of(&mixed, "/"), protocol_of(&mixed, "/other")), (Some(Protocol::Json), None));
        assert!(asks(&mixed) && !asks(&set("")));
    }

    /// A route that only reports says nothing of the others.
    #[test]
    fn a_path_is_enforced_where_its_own_route_says_so_before_and_after_a_reload() {
        let (strict, report) = (r#", "routes": {"/r": {}}, "paths": ["/"]"#, r#"{"on_violation": "report"}"#);
        let mixed = &strict.replace("{}", report);
        let modes = Modes::of(&set(mixed));
        let all = |modes: &Modes, now: &str| {
            [Some("/"), Some("/r"), Some("/gone"), None].map(|path| modes.enforces(&set(now), path))
        };
        assert_eq!(all(&modes, mixed), [true, false, true, false]);
        assert_eq!(all(&modes, strict), [true, true, true, true]);
        modes.replaced(set(mixed), &set(strict));
        assert_eq!(all(&modes, strict), [true, false, true, false]);
    }

    /// The core has reloaded, and the call that made it has not come so far as to note it.
    #[test]
    fn the_first_of_a_new_route_has_the_protocol_of_that() {
        let modes = Modes::of(&set(""));
        let mixed = set(r#", "routes": {"/raw": {"protocol": "raw"}}, "paths": ["/"]"#);
        assert_eq!(modes.protocol(&mixed, "/"), Some(Protocol::Json));
        assert!(!modes.is_mixed());
        assert_eq!((modes.protocol(&mixed, "/raw"), modes.protocol(&mixed, "/gone")), (Some(Protocol::Raw), None));
        assert!(modes.is_mixed() && modes.speaks(Protocol::Raw).is_ok());
    }

    #[test]
    fn a_reload_may_change_how_long_sessions_last_and_how_much_waits() {
        let modes = Modes::of(&set(r#", "max_outbox_bytes": 70000"#));
        assert_eq!(modes.largest_outbox(), 70000);
        assert!(modes.replaced(set(""), &set(r#", "max_session_ms": 5000, "max_outbox_bytes": 80000"#)));
        assert_eq!(modes.largest_outbox(), 80000);
    }

    /// The routes of a set come in any order, and what each says is told by none.
    #[test]
    fn sessions_move_where_a_length_is_another_or_may_be_of_another_path() {
        let same = r#", "routes": {"/a": {}, "/b": {}, "/c": {}}, "paths": ["/"]"#;
        let several = r#", "routes": {"/a": {"max_session_ms": 5000}, "/b": {}}, "paths": ["/"]"#;
        let swapped = r#", "routes": {"/a": {}, "/b": {"max_session_ms": 5000}}, "paths": ["/"]"#;
        let modes = Modes::of(&set(same));
        for (before, next, is_moved) in [
            ("", same, false),
            (same, same, false),
            (same, "", false),
            (same, several, true),
            (several, same, true),
            (several, swapped, true),
        ] {
            assert_eq!(modes.replaced(set(before), &set(next)), is_moved, "{before} {next}");
        }
    }
}
