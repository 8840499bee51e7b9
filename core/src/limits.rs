//! Who shares a bucket (what is in it: `rate`), and tables that outlive a connection without growing with what an attacker invents.
//!
//! Addresses (IPv6 by /64) and users have an entry while they hold a connection or while their bucket is not empty.
//! Entries without a connection are bounded: the table forgets drained ones first. What a verdict *does* is not
//! decided here.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bucket::Bucket;
use crate::client_ip::AddressKey;
use crate::config::{Policy, RateKeyKind};
pub use crate::rate::{Admission, Charge, QueuePlace, RateKey};
use crate::time::Moment;
use crate::verdict::Code;

/// Locks, also after a panic elsewhere: every state behind these locks is valid between statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Entries of one table that may stay behind without a connection.
const MAX_IDLE_ENTRIES: usize = 65_536;

/// What a table keeps of one key.
#[derive(Debug, Default)]
struct Entry {
    connections: usize,
    handshakes: Bucket,
    rate: Option<Arc<RateKey>>,
}

impl Entry {
    fn is_drained(&self, now: Moment) -> bool {
        self.handshakes.is_empty(now) && self.rate.as_ref().is_none_or(|rate| rate.is_drained(now))
    }
}

/// A map whose entries without a connection are bounded.
#[derive(Debug)]
struct Table<K> {
    entries: HashMap<K, Entry>,
    /// Every key once, oldest first: the hand of the clock that forgets.
    order: VecDeque<K>,
    max_idle: usize,
    busy: usize,
}

/// Entries the clock looks at before it forgets one that is not drained.
const CLOCK_STEPS: usize = 16;

impl<K: Clone + Eq + Hash> Table<K> {
    fn new(max_idle: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), max_idle, busy: 0 }
    }

    fn entry(&mut self, key: &K, now: Moment) -> &mut Entry {
        if !self.entries.contains_key(key) {
            while self.entries.len() >= self.max_idle + self.busy {
                if !self.forget_one(now) {
                    break;
                }
            }
            self.order.push_back(key.clone());
        }
        self.entries.entry(key.clone()).or_default()
    }

    /// Forgets a drained entry, or else the oldest without a connection.
    fn forget_one(&mut self, now: Moment) -> bool {
        let mut undrained = None;
        for step in 0..self.order.len() {
            if step >= CLOCK_STEPS && undrained.is_some() {
                break;
            }
            let Some(key) = self.order.pop_front() else { break };
            match self.entries.get(&key) {
                Some(entry) if entry.connections > 0 => self.order.push_back(key),
                Some(entry) if !entry.is_drained(now) && undrained.is_none() => undrained = Some(key),
                Some(entry) if !entry.is_drained(now) => self.order.push_back(key),
                _ => {
                    self.entries.remove(&key);
                    self.order.extend(undrained);
                    return true;
                }
            }
        }
        undrained.is_some_and(|key| self.entries.remove(&key).is_some())
    }

    /// Takes a seat when fewer than `most` are taken.
    fn sit(&mut self, key: &K, most: usize, now: Moment) -> Option<&mut Entry> {
        let entry = self.entry(key, now);
        if entry.connections >= most {
            return None;
        }
        entry.connections += 1;
        let first = entry.connections == 1;
        self.busy += usize::from(first);
        self.entries.get_mut(key)
    }

    fn leave(&mut self, key: &K) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.connections = entry.connections.saturating_sub(1);
            self.busy -= usize::from(entry.connections == 0);
        }
    }
}

/// A refusal by a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// The verdict.
    pub code: Code,
    /// Seconds for the `Retry-After` header.
    pub retry_after_s: u64,
}

/// The limits of one server, shared by its shards.
#[derive(Debug)]
pub struct Limits {
    addresses: Mutex<Table<AddressKey>>,
    users: Mutex<Table<Arc<str>>>,
    server: Mutex<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            addresses: Mutex::new(Table::new(MAX_IDLE_ENTRIES)),
            users: Mutex::new(Table::new(MAX_IDLE_ENTRIES)),
            server: Mutex::new(0),
        }
    }
}

/// A connection's place in the counts; dropping it gives the place back.
#[derive(Debug)]
pub struct Seat {
    limits: Arc<Limits>,
    address: Option<AddressKey>,
    user: Option<Arc<str>>,
}

impl Limits {
    /// Takes a place for a new connection of the server.
    pub fn enter_server(self: &Arc<Self>, policy: &Policy) -> Result<Seat, Full> {
        let mut connections = lock(&self.server);
        if *connections >= policy.max_connections {
            return Err(Full { code: Code::ServerFull, retry_after_s: 1 });
        }
        *connections += 1;
        Ok(Seat { limits: Arc::clone(self), address: None, user: None })
    }

    /// Connections that hold a place.
    pub fn connections(&self) -> usize {
        *lock(&self.server)
    }

    /// Entries that the address and user tables hold now.
    pub fn table_entries(&self) -> (usize, usize) {
        (lock(&self.addresses).entries.len(), lock(&self.users).entries.len())
    }
}

impl Seat {
    /// Counts a handshake of `address` and takes a place for it (THREATS R10, A5). `None`: a peer without an address.
    pub fn enter_address(&mut self, address: Option<AddressKey>, policy: &Policy, now: Moment) -> Result<(), Full> {
        let Some(key) = address else { return Ok(()) };
        let mut addresses = lock(&self.limits.addresses);
        if let Some(rate) = &policy.handshakes_per_ip
            && let Err(at) = addresses.entry(&key, now).handshakes.try_pour(rate, 1, now)
        {
            let retry_after_s = at.since(now).as_secs() + 1;
            return Err(Full { code: Code::IpRateLimited, retry_after_s });
        }
        match addresses.sit(&key, policy.max_connections_per_ip, now) {
            Some(_) => {
                self.address = Some(key);
                Ok(())
            }
            None => Err(Full { code: Code::IpFull, retry_after_s: 1 }),
        }
    }

    /// Takes a place for an authenticated user.
    pub fn enter_user(&mut self, user: &str, policy: &Policy, now: Moment) -> Result<Arc<str>, Full> {
        let mut users = lock(&self.limits.users);
        let known = users.entries.get_key_value(user).map(|(key, _)| Arc::clone(key));
        let key = known.unwrap_or_else(|| Arc::from(user));
        match users.sit(&key, policy.max_connections_per_user, now) {
            Some(_) => {
                self.user = Some(Arc::clone(&key));
                Ok(key)
            }
            None => Err(Full { code: Code::UserFull, retry_after_s: 1 }),
        }
    }

    /// The bucket this connection shares, resolved once at open; `None`: its own.
    pub fn rate_key(&self, kind: RateKeyKind, now: Moment) -> Option<Arc<RateKey>> {
        let of_user = || {
            let user = self.user.as_ref()?;
            let mut users = lock(&self.limits.users);
            Some(Arc::clone(users.entry(user, now).rate.get_or_insert_default()))
        };
        let of_address = || {
            let address = self.address?;
            let mut addresses = lock(&self.limits.addresses);
            Some(Arc::clone(addresses.entry(&address, now).rate.get_or_insert_default()))
        };
        match kind {
            RateKeyKind::Connection => None,
            RateKeyKind::Ip => of_address(),
            RateKeyKind::User => of_user().or_else(of_address),
        }
    }

    /// The user that holds this place.
    pub fn user(&self) -> Option<&Arc<str>> {
        self.user.as_ref()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(address) = &self.address {
            lock(&self.limits.addresses).leave(address);
        }
        if let Some(user) = &self.user {
            lock(&self.limits.users).leave(user);
        }
        *lock(&self.limits.server) -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::Rate;
    use proptest::prelude::*;

    fn policy() -> Policy {
        let json = r#"{"origins": ["https://a.example"], "auth": "none", "max_connections": 3,
            "max_connections_per_ip": 2, "max_connections_per_user": 1, "handshakes_per_ip": {"per_second": 1, "burst": 4}}"#;
        Policy::new(crate::config::Options::from_json(json).unwrap()).unwrap()
    }

    fn address(text: &str) -> Option<AddressKey> {
        text.parse::<std::net::IpAddr>().ok().map(AddressKey::from)
    }

    #[test]
    fn places_are_counted_and_given_back() {
        let (limits, policy, now) = (Arc::new(Limits::default()), policy(), Moment::from_millis(1));
        let mut first = limits.enter_server(&policy).unwrap();
        let mut second = limits.enter_server(&policy).unwrap();
        let mut third = limits.enter_server(&policy).unwrap();
        assert_eq!(limits.enter_server(&policy).unwrap_err().code, Code::ServerFull);
        first.enter_address(address("2001:db8::1"), &policy, now).unwrap();
        second.enter_address(address("2001:db8::2"), &policy, now).unwrap();
        let full = third.enter_address(address("2001:db8::3"), &policy, now).unwrap_err();
        assert_eq!(full.code, Code::IpFull, "one /64");
        first.enter_user("alice", &policy, now).unwrap();
        assert_eq!(second.enter_user("alice", &policy, now).unwrap_err().code, Code::UserFull);
        drop(first);
        second.enter_user("alice", &policy, now).unwrap();
        third.enter_address(address("2001:db8::3"), &policy, now).unwrap();
        drop((second, third));
        assert_eq!(limits.connections(), 0);
    }

    #[test]
    fn churn_does_not_refill_the_handshake_bucket() {
        let (limits, policy, now) = (Arc::new(Limits::default()), policy(), Moment::from_millis(1));
        for _ in 0..4 {
            limits.enter_server(&policy).unwrap().enter_address(address("10.0.0.1"), &policy, now).unwrap();
        }
        let full = limits.enter_server(&policy).unwrap().enter_address(address("10.0.0.1"), &policy, now).unwrap_err();
        assert_eq!(full, Full { code: Code::IpRateLimited, retry_after_s: 2 });
    }

    #[test]
    fn a_user_keeps_one_bucket_across_connections() {
        let (limits, policy, now) = (Arc::new(Limits::default()), policy(), Moment::from_millis(1));
        let key = |seat: &Seat| seat.rate_key(RateKeyKind::User, now).unwrap();
        let mut seat = limits.enter_server(&policy).unwrap();
        seat.enter_user("alice", &policy, now).unwrap();
        let before = key(&seat);
        drop(seat);
        let mut seat = limits.enter_server(&policy).unwrap();
        seat.enter_user("alice", &policy, now).unwrap();
        assert!(Arc::ptr_eq(&before, &key(&seat)));
    }

    proptest! {
        /// THREATS R5: whatever keys come, entries without a connection stay bounded and busy ones are kept.
        #[test]
        fn tables_stay_bounded(steps in prop::collection::vec((0u16..2000, any::<bool>()), 1..3000)) {
            let mut table: Table<u16> = Table::new(100);
            let rate = Rate::new(0.001, 10.0);
            let mut seated = Vec::new();
            for (index, (key, sit)) in steps.into_iter().enumerate() {
                let now = Moment::from_millis(index as u64);
                let _ = table.entry(&key, now).handshakes.try_pour(&rate, 1, now);
                if sit && seated.len() < 50 && table.sit(&key, 3, now).is_some() { seated.push(key); }
                if seated.len() == 50 { for key in seated.drain(..) { table.leave(&key); } }
                prop_assert!(table.entries.len() <= 100 + 50 + 1);
                prop_assert_eq!(table.entries.len(), table.order.len());
                prop_assert_eq!(table.busy, table.entries.values().filter(|e| e.connections > 0).count());
                prop_assert!(seated.iter().all(|key| table.entries.contains_key(key)));
            }
        }
    }
}
