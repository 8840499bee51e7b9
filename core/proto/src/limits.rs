//! Who shares a bucket (what is in it: `rate`), and tables that outlive a connection without growing with what an attacker invents.
//!
//! Addresses and users have an entry while they hold a connection or while their bucket is not empty. Entries without a
//! connection are bounded: the table forgets drained ones first. An IPv6 address is counted in its /64, and besides in
//! its /56 and /48, which may hold 4 and 16 times as much. What a verdict *does* is not decided here.
//!
//! Nobody keeps others out by not finishing a handshake. On servers of at least 256 places an eighth of `max_connections`
//! is for connections that are authenticated. Of the rest an address may have `max_connections_per_ip` places while they
//! are free, and less as they fill: the part of it that is the part of them still free, but one at least. So it takes
//! several times as many addresses to fill them as it would without, and who comes late finds a place until then.

mod buckets;

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use crate::bucket::{Bucket, Rate};
use crate::client_ip::{AddressKey, WIDER_PREFIXES};
use crate::config::{Policy, RateKeyKind, RateRules};
use crate::lock::lock;
pub use crate::rate::{Charge, Held, Overflow, Passing, QueuePlace, RateKey, Receipt};
use crate::rate::{Dirty, SharedUser};
use crate::time::Moment;
use crate::verdict::Code;

/// Entries of one table that may stay behind without a connection.
const MAX_IDLE_ENTRIES: usize = 65_536;

/// What a table keeps of one key.
#[derive(Debug, Default)]
struct Entry {
    connections: usize,
    /// Those of them whose handshake is not over.
    opening: usize,
    handshakes: Bucket,
    /// One for each scope that it was seen in: routes may have buckets of their own.
    rates: Vec<(Arc<str>, Arc<RateKey>)>,
    /// Other nodes draw on these, too.
    shared: Option<Arc<SharedUser>>,
}

impl Entry {
    fn is_drained(&self, now: Moment) -> bool {
        self.handshakes.is_empty(now) && self.rates.iter().all(|(_, rate)| rate.is_drained(now))
    }

    /// The bucket of this scope. There are no more than scopes, and those that a reload has left behind go once they are empty.
    fn rate(&mut self, scope: &Arc<str>, now: Moment) -> Arc<RateKey> {
        if let Some((_, rate)) = self.rates.iter().find(|(own, _)| own == scope) {
            return Arc::clone(rate);
        }
        self.rates.retain(|(_, rate)| Arc::strong_count(rate) > 1 || !rate.is_drained(now));
        let rate: Arc<RateKey> = Arc::default();
        if self.shared.is_some() {
            rate.share(self.shared.as_ref());
        }
        self.rates.push((Arc::clone(scope), Arc::clone(&rate)));
        rate
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

/// A limit that keeps newcomers out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `max_connections`.
    Connections,
    /// The part of it that connections may have before they are authenticated.
    Opening,
    /// As many as may are kept only to be told that there is no place.
    Refusals,
    /// `handshakes_per_ip`.
    HandshakesPerIp,
    /// `max_connections_per_ip`.
    ConnectionsPerIp,
    /// What an address may have of the places of those that are not authenticated.
    OpeningPerIp {
        /// How many that are now.
        share: usize,
    },
    /// `max_connections_per_user`.
    ConnectionsPerUser,
    /// `deny_ips`.
    Denied,
    /// A ban.
    Banned,
}

/// A refusal by a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Which one.
    pub limit: Limit,
    /// Seconds for the `Retry-After` header.
    pub retry_after_s: u64,
}

impl Full {
    fn new(limit: Limit) -> Self {
        Self { limit, retry_after_s: 1 }
    }

    /// The address is in `deny_ips`.
    pub fn of_denied() -> Self {
        Self::new(Limit::Denied)
    }

    /// The address is banned.
    pub fn of_banned() -> Self {
        Self::new(Limit::Banned)
    }

    /// The user has as many connections as may be, on all nodes of a cluster.
    pub fn of_user() -> Self {
        Self::new(Limit::ConnectionsPerUser)
    }

    /// There is not even a place to be refused in.
    pub fn of_refusals() -> Self {
        Self::new(Limit::Refusals)
    }

    /// The verdict.
    pub fn code(self) -> Code {
        match self.limit {
            Limit::Connections | Limit::Opening | Limit::Refusals => Code::ServerFull,
            Limit::HandshakesPerIp => Code::IpRateLimited,
            Limit::ConnectionsPerIp | Limit::OpeningPerIp { .. } => Code::IpFull,
            Limit::ConnectionsPerUser => Code::UserFull,
            Limit::Denied | Limit::Banned => Code::Banned,
        }
    }

    /// In words for the log: the option and its value.
    pub fn describe(self, policy: &Policy) -> String {
        let (all, per_ip) = (policy.max_connections, policy.max_connections_per_ip);
        match self.limit {
            Limit::Connections => format!("max_connections ({all}) are open"),
            Limit::Opening => format!(
                "{} handshakes are under way; the rest of max_connections ({all}) is for authenticated connections",
                most_opening(all)
            ),
            Limit::Refusals => format!("max_connections ({all}) are open, and too many wait to be refused"),
            Limit::HandshakesPerIp => match &policy.handshakes_per_ip {
                Some(rate) => format!("handshakes of this address or its network over handshakes_per_ip ({rate})"),
                None => "handshakes of this address or its network over handshakes_per_ip".to_owned(),
            },
            Limit::ConnectionsPerIp => {
                format!("this address or its network has all it may have by max_connections_per_ip ({per_ip})")
            }
            Limit::OpeningPerIp { share } => format!(
                "this address or its network has its share ({share}) of the handshakes under way, which is part of \
                 max_connections_per_ip ({per_ip}) and shrinks as max_connections ({all}) fill"
            ),
            Limit::Denied => "this address is in deny_ips".to_owned(),
            Limit::Banned => "this address is banned".to_owned(),
            Limit::ConnectionsPerUser => {
                format!("this user has max_connections_per_user ({})", policy.max_connections_per_user)
            }
        }
    }
}

/// How many times the limits of one address its networks have: /64 (or IPv4), /56, /48.
const FACTORS: [u32; 3] = [1, 4, 16];

/// Servers with fewer places are too small to divide them.
const LEAST_DIVIDED: usize = 256;

/// Places that connections may hold before they are authenticated.
fn most_opening(max_connections: usize) -> usize {
    if max_connections < LEAST_DIVIDED { max_connections } else { max_connections - max_connections / 8 }
}

/// Those of one address, where `opening` of them are taken, the one that asks included.
fn opening_share(max_connections: usize, max_connections_per_ip: usize, opening: usize) -> usize {
    if max_connections < LEAST_DIVIDED {
        return usize::MAX;
    }
    let places = most_opening(max_connections);
    let free = (places + 1).saturating_sub(opening);
    max_connections_per_ip.saturating_mul(free).div_ceil(places).max(1)
}

/// The networks of an address: what it counts by itself, its /56 and its /48.
fn networks(address: AddressKey) -> [Option<AddressKey>; FACTORS.len()] {
    let [wider, widest] = WIDER_PREFIXES.map(|prefix| address.wider(prefix));
    [Some(address), wider, widest]
}

/// Pours a handshake into the bucket of each key in its table, or into none when it does not fit all of them.
fn pour_handshake<K: Clone + Eq + Hash>(
    tables: &mut [Table<K>; FACTORS.len()],
    keys: &[Option<K>; FACTORS.len()],
    rate: &Rate,
    now: Moment,
) -> Result<(), Moment> {
    let mut buckets = [Bucket::default(); FACTORS.len()];
    let mut full_until = None;
    for ((table, key), (bucket, factor)) in tables.iter_mut().zip(keys).zip(buckets.iter_mut().zip(FACTORS)) {
        let Some(key) = key else { continue };
        *bucket = table.entry(key, now).handshakes;
        full_until = full_until.max(bucket.try_pour(&rate.times(factor), 1, now).err());
    }
    if let Some(at) = full_until {
        return Err(at);
    }
    for ((table, key), bucket) in tables.iter_mut().zip(keys).zip(buckets) {
        if let Some(key) = key {
            table.entry(key, now).handshakes = bucket;
        }
    }
    Ok(())
}

/// The tables of addresses, by the width of the network.
#[derive(Debug)]
struct Addresses([Table<AddressKey>; FACTORS.len()]);

/// Handshakes of addresses on routes that limit them for themselves, by the width of the network.
#[derive(Debug)]
struct RouteAddresses([Table<(Arc<str>, AddressKey)>; FACTORS.len()]);

impl Addresses {
    /// The networks of an address with their tables, and how many times the limits of one address they have.
    fn networks(&mut self, address: AddressKey) -> impl Iterator<Item = (&mut Table<AddressKey>, AddressKey, u32)> {
        let tables = self.0.iter_mut().zip(networks(address)).zip(FACTORS);
        tables.filter_map(|((table, key), factor)| Some((table, key?, factor)))
    }

    /// Pours a handshake into the bucket of each network, or into none when it does not fit all of them.
    fn pour_handshake(&mut self, address: AddressKey, rate: &Rate, now: Moment) -> Result<(), Moment> {
        pour_handshake(&mut self.0, &networks(address), rate, now)
    }

    /// Whether each network of an address has at most so many places, times its factor.
    fn are_within(&mut self, address: AddressKey, most: usize) -> bool {
        self.networks(address).all(|(table, key, factor)| {
            let most = most.saturating_mul(factor as usize);
            table.entries.get(&key).is_none_or(|entry| entry.connections <= most)
        })
    }

    /// Takes a place in each network, or in none where one of them has none left.
    fn sit(&mut self, address: AddressKey, most: usize, share: usize, now: Moment) -> Result<(), Limit> {
        for (table, key, factor) in self.networks(address) {
            let (entry, factor) = (table.entry(&key, now), factor as usize);
            if entry.connections >= most.saturating_mul(factor) {
                return Err(Limit::ConnectionsPerIp);
            }
            if entry.opening >= share.saturating_mul(factor) {
                return Err(Limit::OpeningPerIp { share: share.saturating_mul(factor) });
            }
        }
        for (table, key, _) in self.networks(address) {
            if let Some(entry) = table.sit(&key, usize::MAX, now) {
                entry.opening += 1;
            }
        }
        Ok(())
    }

    /// The handshake of one of its connections is over.
    fn opened(&mut self, address: AddressKey) {
        for (table, key, _) in self.networks(address) {
            if let Some(entry) = table.entries.get_mut(&key) {
                entry.opening = entry.opening.saturating_sub(1);
            }
        }
    }

    fn leave(&mut self, address: AddressKey) {
        for (table, key, _) in self.networks(address) {
            table.leave(&key);
        }
    }
}

/// The places of a server that are taken.
#[derive(Debug, Default)]
struct Places {
    connections: usize,
    /// Those of them whose handshake is not over.
    opening: usize,
}

/// The limits of one server, shared by its shards.
#[derive(Debug)]
pub struct Limits {
    addresses: Mutex<Addresses>,
    routes: Mutex<RouteAddresses>,
    users: Mutex<Table<Arc<str>>>,
    /// Users with something to report to other nodes.
    dirty: Arc<Dirty>,
    server: Mutex<Places>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            addresses: Mutex::new(Addresses(core::array::from_fn(|_| Table::new(MAX_IDLE_ENTRIES)))),
            routes: Mutex::new(RouteAddresses(core::array::from_fn(|_| Table::new(MAX_IDLE_ENTRIES)))),
            users: Mutex::new(Table::new(MAX_IDLE_ENTRIES)),
            dirty: Arc::default(),
            server: Mutex::default(),
        }
    }
}

/// A connection's place in the counts; dropping it gives the place back.
#[derive(Debug)]
pub struct Seat {
    limits: Arc<Limits>,
    address: Option<AddressKey>,
    user: Option<Arc<str>>,
    is_opening: bool,
}

impl Limits {
    /// Takes a place for a new connection of the server, whose handshake begins.
    pub fn enter_server(self: &Arc<Self>, policy: &Policy) -> Result<Seat, Full> {
        let mut places = lock(&self.server);
        if places.connections >= policy.max_connections {
            return Err(Full::new(Limit::Connections));
        }
        if places.opening >= most_opening(policy.max_connections) {
            return Err(Full::new(Limit::Opening));
        }
        places.connections += 1;
        places.opening += 1;
        Ok(Seat { limits: Arc::clone(self), address: None, user: None, is_opening: true })
    }

    /// Connections that hold a place.
    pub fn connections(&self) -> usize {
        lock(&self.server).connections
    }

    /// Those of them whose handshake is not over.
    pub fn opening(&self) -> usize {
        lock(&self.server).opening
    }

    /// Entries that the address and user tables hold now.
    pub fn table_entries(&self) -> (usize, usize) {
        let addresses = lock(&self.addresses).0.iter().map(|table| table.entries.len()).sum();
        (addresses, lock(&self.users).entries.len())
    }
}

impl Seat {
    /// Counts a handshake of `address` and takes a place for it. `None`: a peer without an address.
    pub fn enter_address(&mut self, address: Option<AddressKey>, policy: &Policy, now: Moment) -> Result<(), Full> {
        let Some(key) = address else { return Ok(()) };
        let share = opening_share(policy.max_connections, policy.max_connections_per_ip, self.limits.opening());
        let mut addresses = lock(&self.limits.addresses);
        if let Some(rate) = &policy.handshakes_per_ip
            && let Err(at) = addresses.pour_handshake(key, rate, now)
        {
            let retry_after_s = at.since(now).as_secs() + 1;
            return Err(Full { limit: Limit::HandshakesPerIp, retry_after_s });
        }
        addresses.sit(key, policy.max_connections_per_ip, share, now).map_err(Full::new)?;
        self.address = Some(key);
        Ok(())
    }

    /// What the route says of the address of a handshake, once the path is known: the server's own limits have let it pass.
    pub fn enter_route(&self, policy: &Policy, now: Moment) -> Result<(), Full> {
        let Some(address) = self.address else { return Ok(()) };
        if policy.own_limits.connections
            && !lock(&self.limits.addresses).are_within(address, policy.max_connections_per_ip)
        {
            return Err(Full::new(Limit::ConnectionsPerIp));
        }
        if policy.own_limits.handshakes
            && let Some(rate) = &policy.handshakes_per_ip
        {
            let keys = networks(address).map(|key| Some((Arc::clone(&policy.path), key?)));
            let poured = pour_handshake(&mut lock(&self.limits.routes).0, &keys, rate, now);
            return poured.map_err(|at| {
                let retry_after_s = at.since(now).as_secs() + 1;
                Full { limit: Limit::HandshakesPerIp, retry_after_s }
            });
        }
        Ok(())
    }

    /// The handshake is over: the place no longer counts as one of those that wait for it.
    pub fn opened(&mut self) {
        if core::mem::take(&mut self.is_opening) {
            lock(&self.limits.server).opening -= 1;
            if let Some(address) = self.address {
                lock(&self.limits.addresses).opened(address);
            }
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
            None => Err(Full::new(Limit::ConnectionsPerUser)),
        }
    }

    /// Gives the user's place back.
    pub fn leave_user(&mut self) {
        if let Some(user) = self.user.take() {
            lock(&self.limits.users).leave(&user);
        }
    }

    /// The bucket this connection shares, resolved once at open; `None`: its own.
    pub fn rate_key(&self, rules: &RateRules, scope: &Arc<str>, now: Moment) -> Option<Arc<RateKey>> {
        let of_user = || Some(lock(&self.limits.users).entry(self.user.as_ref()?, now).rate(scope, now));
        let of_address = || Some(lock(&self.limits.addresses).0[0].entry(&self.address?, now).rate(scope, now));
        let key = match rules.key {
            RateKeyKind::Connection => None,
            RateKeyKind::Ip => of_address(),
            RateKeyKind::User => of_user().or_else(of_address),
        };
        if let Some(key) = &key {
            key.meet(rules);
        }
        key
    }

    /// The user that holds this place.
    pub fn user(&self) -> Option<&Arc<str>> {
        self.user.as_ref()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.opened();
        if let Some(address) = self.address {
            lock(&self.limits.addresses).leave(address);
        }
        self.leave_user();
        lock(&self.limits.server).connections -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::NoFiles;
    use proptest::prelude::*;

    fn policy() -> Policy {
        let json = r#"{"origins": ["https://a.example"], "auth": "none", "max_connections": 3,
            "max_connections_per_ip": 2, "max_connections_per_user": 1, "handshakes_per_ip": {"per_second": 1, "burst": 4}}"#;
        Policy::new(crate::config::Options::from_json(json).unwrap(), &NoFiles).unwrap()
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
        assert_eq!(limits.enter_server(&policy).unwrap_err().code(), Code::ServerFull);
        first.enter_address(address("2001:db8::1"), &policy, now).unwrap();
        second.enter_address(address("2001:db8::2"), &policy, now).unwrap();
        let full = third.enter_address(address("2001:db8::3"), &policy, now).unwrap_err();
        assert_eq!(full.code(), Code::IpFull, "one /64");
        first.enter_user("alice", &policy, now).unwrap();
        assert_eq!(second.enter_user("alice", &policy, now).unwrap_err().code(), Code::UserFull);
        drop(first);
        second.enter_user("alice", &policy, now).unwrap();
        third.enter_address(address("2001:db8::3"), &policy, now).unwrap();
        drop((second, third));
        assert_eq!(limits.connections(), 0);
    }

    fn large_policy(max_connections_per_ip: usize) -> Policy {
        let json = r#"{"origins": ["https://a.example"], "auth": "none", "max_connections": 1000,
            "handshakes_per_ip": null}"#;
        let policy = Policy::new(crate::config::Options::from_json(json).unwrap(), &NoFiles).unwrap();
        Policy { max_connections_per_ip, ..policy }
    }

    /// Opens handshakes of `address` until there is no place for one more; how many that are.
    fn fill(limits: &Arc<Limits>, policy: &Policy, address: Option<AddressKey>, kept: &mut Vec<Seat>) -> (usize, Code) {
        for count in 0.. {
            let seat = limits
                .enter_server(policy)
                .and_then(|mut seat| seat.enter_address(address, policy, Moment::from_millis(1)).map(|()| seat));
            match seat {
                Ok(seat) => kept.push(seat),
                Err(full) => return (count, full.code()),
            }
        }
        unreachable!("every limit is finite")
    }

    #[test]
    fn handshakes_that_do_not_end_leave_room_for_other_addresses() {
        let (limits, policy, mut kept) = (Arc::new(Limits::default()), large_policy(20), Vec::new());
        // Without a share that shrinks, 44 addresses of 20 would do.
        for host in 0..100 {
            let (count, code) = fill(&limits, &policy, address(&format!("10.0.0.{host}")), &mut kept);
            assert!(count >= 1, "address {host} had no place beside {} others", kept.len());
            assert_eq!(code, Code::IpFull);
            assert!(host > 0 || count == 20, "{count}: nobody else is there");
        }
        for host in 0..1000 {
            fill(&limits, &policy, address(&format!("10.1.{}.{}", host / 250, host % 250)), &mut kept);
        }
        assert_eq!((limits.opening(), limits.connections()), (875, 875), "hundreds of addresses do fill it");
        // Those who are through make room, up to the last place.
        for seat in &mut kept[..100] {
            seat.opened();
        }
        assert_eq!((limits.opening(), limits.connections()), (775, 875));
        assert!(fill(&limits, &policy, address("10.9.9.9"), &mut kept).0 >= 2);
        drop(kept);
        assert_eq!((limits.connections(), limits.opening()), (0, 0));
    }

    #[test]
    fn small_servers_are_not_divided() {
        let (limits, mut kept) = (Arc::new(Limits::default()), Vec::new());
        let policy = Policy { max_connections: 255, ..large_policy(1000) };
        assert_eq!(fill(&limits, &policy, address("10.0.0.1"), &mut kept), (255, Code::ServerFull));
    }

    #[test]
    fn an_open_connection_is_in_nobodys_way() {
        let (limits, policy, mut kept) = (Arc::new(Limits::default()), large_policy(1000), Vec::new());
        for _ in 0..900 {
            let mut seat = limits.enter_server(&policy).unwrap();
            seat.enter_address(address("10.0.0.1"), &policy, Moment::from_millis(1)).unwrap();
            seat.opened();
            kept.push(seat);
        }
        assert_eq!((limits.connections(), limits.opening()), (900, 0));
    }

    #[test]
    fn ipv6_networks_have_limits_of_their_own() {
        let policy = large_policy(2);
        let (limits, mut kept) = (Arc::new(Limits::default()), Vec::new());
        let mut total = |network: &dyn Fn(u32) -> String| -> usize {
            (0..64).map(|host| fill(&limits, &policy, address(&network(host)), &mut kept).0).sum()
        };
        assert_eq!(total(&|host| format!("2001:db8:1:1{host:02x}::1")), 8, "one /56");
        assert_eq!(total(&|host| format!("2001:db8:1:{host:x}00::1")), 24, "the rest of its /48");
        assert_eq!(total(&|host| format!("2001:db8:2:{host:x}00::1")), 32, "another /48");
        assert_eq!(total(&|host| format!("10.0.0.{host}")), 128, "IPv4 has no wider networks");
    }

    #[test]
    fn handshakes_of_ipv6_networks_leak_together() {
        let (limits, policy, now) = (Arc::new(Limits::default()), policy(), Moment::from_millis(1));
        let enter = |text: &str, now| {
            limits.enter_server(&policy).unwrap().enter_address(address(text), &policy, now).map_err(Full::code)
        };
        for host in 0..16 {
            enter(&format!("2001:db8:1:1{host:02x}::1"), now).unwrap();
        }
        assert_eq!(enter("2001:db8:1:1ff::1", now), Err(Code::IpRateLimited), "four times the burst of a /64");
        // What the /56 refuses is not charged to the /48.
        for host in 0..48 {
            enter(&format!("2001:db8:1:{:x}{:02x}::1", 2 + host / 16, host % 16), now).unwrap();
        }
        assert_eq!(enter("2001:db8:1:9900::1", now), Err(Code::IpRateLimited), "sixteen times");
        enter("2001:db8:2::1", now).unwrap();
        enter("2001:db8:1:9900::1", now.after_millis(250)).unwrap();
    }

    proptest! {
        /// Whatever opens, gets through, is refused and leaves, in any order: every place is given back.
        #[test]
        fn every_place_is_given_back(steps in prop::collection::vec((0u8..5, 0u16..6, 0u8..4), 1..300)) {
            let (limits, policy) = (Arc::new(Limits::default()), policy());
            let mut seats: Vec<Seat> = Vec::new();
            for (index, (what, host, user)) in steps.into_iter().enumerate() {
                let now = Moment::from_millis(300 * index as u64);
                let at = usize::from(host) % seats.len().max(1);
                match what {
                    0 | 1 => {
                        let address = address(&if host < 3 { format!("10.0.0.{host}") } else { format!("2001:db8:0:{host}::1") });
                        if let Ok(mut seat) = limits.enter_server(&policy) {
                            let _ = seat.enter_address(address, &policy, now);
                            seats.push(seat);
                        }
                    }
                    2 if at < seats.len() => drop(seats.swap_remove(at)),
                    3 if at < seats.len() && seats[at].user.is_none() => { let _ = seats[at].enter_user(&user.to_string(), &policy, now); }
                    4 if at < seats.len() => seats[at].opened(),
                    _ => {}
                }
                let opening = seats.iter().filter(|seat| seat.is_opening).count();
                prop_assert_eq!((limits.connections(), limits.opening()), (seats.len(), opening));
                for table in &lock(&limits.addresses).0 {
                    let counted = |count: fn(&Entry) -> usize| table.entries.values().map(count).sum::<usize>();
                    prop_assert!(counted(|entry| entry.connections) <= seats.len());
                    prop_assert!(counted(|entry| entry.opening) <= opening);
                    prop_assert_eq!(table.busy, table.entries.values().filter(|entry| entry.connections > 0).count());
                }
            }
            drop(seats);
            prop_assert_eq!((limits.connections(), limits.opening()), (0, 0));
            for table in &lock(&limits.addresses).0 {
                prop_assert!(table.entries.values().all(|entry| entry.connections == 0 && entry.opening == 0));
                prop_assert_eq!(table.busy, 0);
            }
            prop_assert!(lock(&limits.users).entries.values().all(|entry| entry.connections == 0));
        }
    }

    #[test]
    fn churn_does_not_refill_the_handshake_bucket() {
        let (limits, policy, now) = (Arc::new(Limits::default()), policy(), Moment::from_millis(1));
        for _ in 0..4 {
            limits.enter_server(&policy).unwrap().enter_address(address("10.0.0.1"), &policy, now).unwrap();
        }
        let full = limits.enter_server(&policy).unwrap().enter_address(address("10.0.0.1"), &policy, now).unwrap_err();
        assert_eq!(full, Full { limit: Limit::HandshakesPerIp, retry_after_s: 2 });
    }

    #[test]
    fn scopes_have_buckets_of_their_own() {
        let (limits, policy, now) = (Arc::new(Limits::default()), policy(), Moment::from_millis(1));
        let mut seat = limits.enter_server(&policy).unwrap();
        seat.enter_user("alice", &policy, now).unwrap();
        let rules = policy.rate_limit.clone().unwrap();
        let key = |scope: &str| seat.rate_key(&rules, &scope.into(), now).unwrap();
        let (top, route) = (key(""), key("/admin"));
        assert!(!Arc::ptr_eq(&top, &route));
        assert!(Arc::ptr_eq(&top, &key("")) && Arc::ptr_eq(&route, &key("/admin")));
        // Scopes that reloads have left behind do not pile up.
        drop((top, route));
        (0..100).for_each(|number| drop(key(&format!("/{number}"))));
        assert!(lock(&limits.users).entries["alice"].rates.len() <= 2);
    }

    #[test]
    fn a_route_counts_addresses_for_itself() {
        let json = r#"{"origins": ["https://a.example"], "auth": "none", "handshakes_per_ip": null, "routes": {
            "/one": {"max_connections_per_ip": 1}, "/slow": {"handshakes_per_ip": {"per_second": 1, "burst": 2}}, "/any": {}}}"#;
        let set =
            crate::config::PolicySet::compile(crate::config::Options::from_json(json).unwrap(), &NoFiles).unwrap();
        let (limits, now) = (Arc::new(Limits::default()), Moment::from_millis(1));
        let come = |host: &str| {
            let mut seat = limits.enter_server(&set.top).unwrap();
            seat.enter_address(address(host), &set.top, now).unwrap();
            seat
        };
        let enter =
            |seat: &Seat, path: &str| seat.enter_route(&set.resolve(path).unwrap().policy, now).map_err(Full::code);
        let first = come("2001:db8::1");
        assert_eq!(enter(&first, "/one"), Ok(()));
        let second = come("2001:db8::2");
        assert_eq!((enter(&second, "/one"), enter(&second, "/any")), (Err(Code::IpFull), Ok(())), "one /64");
        assert_eq!(enter(&come("2001:db8:0:1::1"), "/one"), Ok(()), "the /56 has four times as many");
        drop(first);
        assert_eq!(enter(&second, "/one"), Ok(()));
        for answer in [Ok(()), Ok(()), Err(Code::IpRateLimited)] {
            assert_eq!(enter(&come("10.0.0.1"), "/slow"), answer);
        }
        assert_eq!((enter(&come("10.0.0.1"), "/any"), enter(&come("10.0.0.2"), "/slow")), (Ok(()), Ok(())));
        let nobody = limits.enter_server(&set.top).unwrap();
        assert_eq!(enter(&nobody, "/slow"), Ok(()), "a peer without an address");
    }

    #[test]
    fn a_user_keeps_one_bucket_across_connections() {
        let (limits, policy, now) = (Arc::new(Limits::default()), policy(), Moment::from_millis(1));
        let rules = policy.rate_limit.clone().unwrap();
        let key = |seat: &Seat| seat.rate_key(&rules, &Arc::default(), now).unwrap();
        let mut seat = limits.enter_server(&policy).unwrap();
        seat.enter_user("alice", &policy, now).unwrap();
        let before = key(&seat);
        drop(seat);
        let mut seat = limits.enter_server(&policy).unwrap();
        seat.enter_user("alice", &policy, now).unwrap();
        assert!(Arc::ptr_eq(&before, &key(&seat)));
    }

    proptest! {
        // THREATS R5: whatever keys come, entries without a connection stay bounded and busy ones are kept.
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
