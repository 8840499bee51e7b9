//! Who is kept out whatever else counts: addresses that the options deny, and addresses and users that are banned for a while.
//!
//! An IPv6 address stands for its /64, as one client has all of it. The tables are bounded: bans that are over go first. For a
//! ban that the application asks for there is room or an error; for one that the server finds by itself the one goes that ends
//! first of those it found by itself, so that no flood of addresses lifts a ban of the application.

use core::net::IpAddr;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use ipnet::IpNet;

use crate::client_ip::{AddressKey, canonical, network};
use crate::config_error::ConfigError;
pub use crate::options::AutoBan;
use crate::time::Moment;
use crate::verdict::{Code, Severity};

/// How many bans there may be.
pub const MAX_BANS: usize = 65_536;

/// The longest reason of a ban, in bytes.
pub const MAX_REASON_BYTES: usize = 256;

const ACCEPTED: &str = "accepted: an address, or a CIDR such as `10.0.0.0/8`";

/// The option `deny_ips`.
#[derive(Clone, Debug, Default)]
pub struct DenyList {
    networks: HashSet<IpNet>,
    lengths: Lengths,
}

impl DenyList {
    /// Reads the entries of the option. The error names `deny_ips[i]`.
    pub fn new(entries: &[String]) -> Result<Self, ConfigError> {
        let read = |(index, entry): (usize, &String)| {
            subject(entry)
                .map_err(|why| ConfigError::invalid(format!("deny_ips[{index}]"), format!("{why}; {ACCEPTED}")))
        };
        let mut list = Self::default();
        for network in entries.iter().enumerate().map(read) {
            let network = network?;
            if list.networks.insert(network) {
                *list.lengths.of(&network) += 1;
            }
        }
        Ok(list)
    }

    /// Whether this client is denied; `None`: a peer without an address, which never is.
    pub fn denies(&self, ip: Option<IpAddr>) -> bool {
        let Some(ip) = ip.filter(|_| !self.networks.is_empty()) else { return false };
        let mut faces = faces(ip).into_iter().flatten();
        faces.any(|ip| self.lengths.around(ip).any(|network| self.networks.contains(&network)))
    }
}

/// Whom a ban is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// The addresses of a network.
    Network(IpNet),
    /// A user.
    User(Arc<str>),
}

impl Subject {
    /// An address or a CIDR; an IPv6 address stands for its /64.
    ///
    /// # Errors
    /// It is neither. The error says what is accepted.
    pub fn network(text: &str) -> Result<Self, &'static str> {
        subject(text).map(Subject::Network).map_err(|_| "ip must be an address, or a CIDR such as 10.0.0.0/8")
    }

    /// Whether a client with this address and this user is meant.
    pub fn covers(&self, ip: Option<IpAddr>, user: Option<&str>) -> bool {
        match self {
            Subject::Network(network) => {
                ip.is_some_and(|ip| faces(ip).into_iter().flatten().any(|ip| network.contains(&ip)))
            }
            Subject::User(name) => user == Some(&**name),
        }
    }
}

impl core::fmt::Display for Subject {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            // As it is usually written.
            Subject::Network(network) if network.prefix_len() == network.max_prefix_len() => network.addr().fmt(f),
            Subject::Network(network) => network.fmt(f),
            Subject::User(name) => f.write_str(name),
        }
    }
}

/// An address as networks know it: itself, and where a NAT64 gateway translates it the one behind.
fn faces(ip: IpAddr) -> [Option<IpAddr>; 2] {
    let ip = canonical(ip);
    [Some(ip), AddressKey::from(ip).ipv4().filter(|behind| *behind != ip)]
}

/// What an address or a CIDR stands for.
fn subject(text: &str) -> Result<IpNet, &'static str> {
    let network = network(text)?;
    if text.contains('/') { Ok(network) } else { Ok(AddressKey::from(network.addr()).network()) }
}

/// One ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Whom it is about.
    pub subject: Subject,
    /// When it ends; [`Moment::NEVER`]: not by itself.
    pub until: Moment,
    /// Why, in the words of whoever banned.
    pub reason: Box<str>,
    /// Whether the server found it by itself: `auto_ban`.
    pub is_automatic: bool,
}

/// There is no room for one more ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BansFull;

/// The bans in force.
#[derive(Debug, Default)]
pub struct Bans {
    by_subject: HashMap<Subject, Ban>,
    /// How many of them are about users.
    users: usize,
    by_end: BTreeSet<(Moment, Subject)>,
    /// Of the same those that the server found by itself.
    automatic: BTreeSet<(Moment, Subject)>,
    lengths: Lengths,
}

/// How many networks of each length a table has, so that an address is looked for in those alone.
#[derive(Clone, Debug)]
struct Lengths {
    v4: [u32; 33],
    v6: [u32; 129],
}

impl Default for Lengths {
    fn default() -> Self {
        Self { v4: [0; 33], v6: [0; 129] }
    }
}

impl Lengths {
    fn of(&mut self, network: &IpNet) -> &mut u32 {
        let bits = usize::from(network.prefix_len());
        if network.addr().is_ipv4() { &mut self.v4[bits] } else { &mut self.v6[bits] }
    }

    /// The networks that hold `ip`, of the lengths that there are.
    fn around(&self, ip: IpAddr) -> impl Iterator<Item = IpNet> {
        let counts: &[u32] = if ip.is_ipv4() { &self.v4 } else { &self.v6 };
        let used = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        used.filter_map(move |(bits, _)| IpNet::new(ip, bits as u8).ok().map(|network| network.trunc()))
    }
}

/// Bans that are over and forgotten in one step.
const FORGOTTEN_AT_ONCE: usize = 256;

impl Bans {
    /// Bans for the application. What was said of the same subject before does not count any more.
    ///
    /// # Errors
    /// There are [`MAX_BANS`] that are not over.
    pub fn ban(&mut self, ban: Ban, now: Moment) -> Result<(), BansFull> {
        self.forget_what_is_over(now);
        if self.by_subject.len() >= MAX_BANS && !self.by_subject.contains_key(&ban.subject) {
            return Err(BansFull);
        }
        self.remove(&ban.subject);
        self.insert(ban);
        Ok(())
    }

    /// Bans an address that has broken too many rules. A ban that lasts longer stays; `false`: there is no room.
    pub fn ban_automatically(&mut self, address: AddressKey, until: Moment, reason: &str, now: Moment) -> bool {
        self.forget_what_is_over(now);
        let subject = Subject::Network(address.network());
        let before = self.by_subject.get(&subject).filter(|ban| ban.until > now);
        if before.is_some_and(|ban| !ban.is_automatic || ban.until >= until) {
            return true;
        }
        self.remove(&subject);
        if self.by_subject.len() >= MAX_BANS {
            let Some((_, first)) = self.automatic.first().cloned() else { return false };
            self.remove(&first);
        }
        self.insert(Ban { subject, until, reason: reason.into(), is_automatic: true });
        true
    }

    fn insert(&mut self, ban: Ban) {
        let end = (ban.until, ban.subject.clone());
        match &ban.subject {
            Subject::Network(network) => *self.lengths.of(network) += 1,
            Subject::User(_) => self.users += 1,
        }
        if ban.is_automatic {
            self.automatic.insert(end.clone());
        }
        self.by_end.insert(end);
        self.by_subject.insert(ban.subject.clone(), ban);
    }

    /// Lifts a ban; `false`: there was none of exactly this subject.
    pub fn unban(&mut self, subject: &Subject, now: Moment) -> bool {
        let is_in_force = self.by_subject.get(subject).is_some_and(|ban| ban.until > now);
        self.remove(subject);
        is_in_force
    }

    fn remove(&mut self, subject: &Subject) {
        let Some(ban) = self.by_subject.remove(subject) else { return };
        match subject {
            Subject::Network(network) => *self.lengths.of(network) -= 1,
            Subject::User(_) => self.users -= 1,
        }
        let end = (ban.until, ban.subject);
        self.automatic.remove(&end);
        self.by_end.remove(&end);
    }

    /// The ban of whoever has this address or this user, if there is one.
    pub fn find(&self, ip: Option<IpAddr>, user: Option<&str>, now: Moment) -> Option<&Ban> {
        if self.by_subject.is_empty() {
            return None;
        }
        let in_force = |subject: Subject| self.by_subject.get(&subject).filter(|ban| ban.until > now);
        let user = user.filter(|_| self.users > 0);
        let of_user = user.and_then(|user| in_force(Subject::User(user.into())));
        let ips = ip.map(faces).into_iter().flatten().flatten();
        of_user.or_else(|| {
            let mut networks = ips.flat_map(|ip| self.lengths.around(ip));
            networks.find_map(|network| in_force(Subject::Network(network)))
        })
    }

    /// The bans in force, in the order of their ends.
    pub fn list(&mut self, now: Moment) -> Vec<Ban> {
        self.forget_what_is_over(now);
        let in_force = self.by_end.iter().filter(|(until, _)| *until > now);
        in_force.filter_map(|(_, subject)| self.by_subject.get(subject).cloned()).collect()
    }

    /// How many bans are in force.
    pub fn count(&mut self, now: Moment) -> usize {
        self.forget_what_is_over(now);
        self.by_end.iter().rev().take_while(|(until, _)| *until > now).count()
    }

    /// A part of what is over: a crowd that was banned at once and is over at once is no pause for those who ask.
    fn forget_what_is_over(&mut self, now: Moment) {
        for _ in 0..FORGOTTEN_AT_ONCE {
            let Some((_, subject)) = self.by_end.first().filter(|(until, _)| *until <= now) else { return };
            let subject = subject.clone();
            self.remove(&subject);
        }
    }
}

/// Whether a verdict counts for `auto_ban`: what only a peer that means it, or is broken, can do. What a foreign page can make
/// the browser of somebody do who visits it (a wrong origin, path or host, a crowd of handshakes), and what befalls whoever
/// shares an address or a user with others, bans nobody.
pub fn counts(code: Code) -> bool {
    let is_anybodys = matches!(
        code,
        Code::Banned
            | Code::OriginDenied
            | Code::HostDenied
            | Code::PathNotFound
            | Code::UpgradeRequired
            | Code::MethodNotAllowed
            | Code::HttpVersion
            | Code::HeadTooLarge
            | Code::HandshakeTimeout
            | Code::IpRateLimited
            | Code::IpFull
            | Code::UserFull
            | Code::ServerFull
            | Code::ProxyRequired
            | Code::TlsFailed
            | Code::SlowConsumer
    );
    code.severity() == Severity::Violation && !is_anybodys
}

/// The parts of a window in which violations are counted: they are forgotten a part at a time.
const PARTS: usize = 16;

/// Violations of one address in the last window.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    /// The number of the part in which the last one was.
    part: u64,
    counts: [u32; PARTS],
}

/// Counts violations by address, of a bounded number of addresses.
#[derive(Debug, Default)]
pub struct ViolationCounts {
    counted: HashMap<AddressKey, Counted>,
    /// Every address once, the one that is forgotten next first.
    order: VecDeque<AddressKey>,
    rules: Option<AutoBan>,
}

impl ViolationCounts {
    /// Counts a violation; whether the address has as many now as ban it. Then it begins anew. Other rules begin anew as well.
    pub fn note(&mut self, address: AddressKey, rules: &AutoBan, now: Moment) -> bool {
        if self.rules != Some(*rules) {
            *self = Self { rules: Some(*rules), ..Self::default() };
        }
        let part_nanos = (rules.window_ms.saturating_mul(1_000_000) / PARTS as u64).max(1);
        let part = now.as_nanos() / part_nanos;
        if !self.counted.contains_key(&address) {
            if self.counted.len() >= MAX_BANS
                && let Some(oldest) = self.order.pop_front()
            {
                self.counted.remove(&oldest);
            }
            self.order.push_back(address);
        }
        let counted = self.counted.entry(address).or_default();
        for gone in (counted.part + 1..=part).take(PARTS) {
            counted.counts[gone as usize % PARTS] = 0;
        }
        if part.saturating_sub(counted.part) >= PARTS as u64 {
            counted.counts = [0; PARTS];
        }
        counted.part = counted.part.max(part);
        counted.counts[part as usize % PARTS] += 1;
        let reached = counted.counts.iter().sum::<u32>() >= rules.violations;
        if reached {
            counted.counts = [0; PARTS];
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[expect(clippy::unnecessary_wraps, reason = "as the table takes it")]
    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    fn of(text: &str, until: Moment) -> Ban {
        let subject = Subject::network(text).unwrap_or_else(|_| Subject::User(text.into()));
        Ban { subject, until, reason: "because".into(), is_automatic: false }
    }

    #[test]
    fn addresses_networks_and_users_are_kept_out() {
        let mut bans = Bans::default();
        for subject in ["192.0.2.1", "198.51.100.0/24", "2001:db8::1", "2001:db8:1::/48", "alice"] {
            bans.ban(of(subject, at(1000)), at(0)).unwrap();
        }
        for (address, user, banned) in [
            ("192.0.2.1", None, true),
            ("192.0.2.2", None, false),
            ("::ffff:192.0.2.1", None, true),
            ("64:ff9b::192.0.2.1", None, true),
            ("64:ff9b::192.0.2.2", None, false),
            ("198.51.100.77", None, true),
            ("198.51.101.77", None, false),
            ("2001:db8::ffff:1", None, true),
            ("2001:db8:0:1::1", None, false),
            ("2001:db8:1:ffff::1", None, true),
            ("10.0.0.1", Some("alice"), true),
            ("10.0.0.1", Some("alic"), false),
        ] {
            let found = bans.find(ip(address), user, at(1));
            assert_eq!(found.is_some(), banned, "{address} {user:?}");
            assert!(found.is_none_or(|ban| ban.subject.covers(ip(address), user)), "{address} {user:?}");
        }
        assert!(bans.find(None, None, at(1)).is_none() && bans.find(None, Some("alice"), at(1)).is_some());
        assert!(bans.find(ip("192.0.2.1"), Some("alice"), at(1000)).is_none(), "all are over");
        let shown: Vec<String> = bans.list(at(1)).iter().map(|ban| ban.subject.to_string()).collect();
        assert_eq!(shown, ["192.0.2.1", "198.51.100.0/24", "2001:db8::/64", "2001:db8:1::/48", "alice"]);
        assert!(bans.list(at(1000)).is_empty());
    }

    #[test]
    fn a_gateway_is_not_banned_for_one_behind_it() {
        let mut bans = Bans::default();
        bans.ban(of("64:ff9b::192.0.2.1", at(1000)), at(0)).unwrap();
        assert!(bans.find(ip("64:ff9b::192.0.2.1"), None, at(1)).is_some());
        assert!(bans.find(ip("192.0.2.1"), None, at(1)).is_some());
        assert!(bans.find(ip("64:ff9b::192.0.2.9"), None, at(1)).is_none());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in ["", "x", "10.0.0.0/33", "10.0.0.1/", "unix", "10.0.0.1:80", "::/129", " 10.0.0.1"] {
            assert!(Subject::network(bad).is_err(), "{bad}");
            let error = DenyList::new(&["10.0.0.1".to_owned(), bad.to_owned()]).unwrap_err();
            assert_eq!(error.option, "deny_ips[1]", "{bad}");
        }
        let denied = DenyList::new(&["10.1.2.3/8".to_owned(), "2001:db8::1".to_owned()]).unwrap();
        assert!(
            denied.denies(ip("10.9.9.9")) && denied.denies(ip("2001:db8::2")) && denied.denies(ip("::ffff:10.0.0.1"))
        );
        assert!(!denied.denies(ip("11.0.0.1")) && !denied.denies(None) && !DenyList::default().denies(ip("10.0.0.1")));
    }

    #[test]
    fn a_network_of_everybody_is_of_one_family() {
        let denies = |network: &str, address: &str| {
            let mut bans = Bans::default();
            bans.ban(of(network, at(1000)), at(0)).unwrap();
            let is_banned = bans.find(ip(address), None, at(1)).is_some();
            assert_eq!(DenyList::new(&[network.to_owned()]).unwrap().denies(ip(address)), is_banned);
            assert_eq!(Subject::network(network).unwrap().covers(ip(address), None), is_banned);
            is_banned
        };
        assert!(denies("::/0", "2001:db8::1") && denies("::/0", "64:ff9b::192.0.2.1"));
        assert!(!denies("::/0", "192.0.2.1") && !denies("::/0", "::ffff:192.0.2.1"));
        assert!(denies("0.0.0.0/0", "192.0.2.1") && denies("0.0.0.0/0", "64:ff9b::192.0.2.1"));
        assert!(!denies("0.0.0.0/0", "2001:db8::1"));
    }

    #[test]
    fn a_full_table_refuses_the_application_and_lifts_nothing_of_it() {
        let mut bans = Bans::default();
        for number in 0..MAX_BANS {
            bans.ban(of(&format!("user{number}"), at(1000 + number as u64 / 2)), at(0)).unwrap();
        }
        assert_eq!(bans.ban(of("one more", Moment::NEVER), at(0)), Err(BansFull));
        assert!(!bans.ban_automatically(AddressKey::from(ip("10.0.0.1").unwrap()), at(2000), "", at(0)));
        bans.ban(of("user7", Moment::NEVER), at(0)).unwrap();
        // Two are over by now.
        bans.ban(of("one more", Moment::NEVER), at(1000)).unwrap();
        let address = |number: u32| AddressKey::from(IpAddr::from(number.to_be_bytes()));
        assert!(bans.ban_automatically(address(1), at(9000), "", at(1000)));
        assert!(bans.ban_automatically(address(2), at(9001), "", at(1000)), "in place of the first");
        let first = Some(IpAddr::from(1u32.to_be_bytes()));
        assert!(bans.find(first, None, at(1001)).is_none() && bans.find(None, Some("one more"), at(1001)).is_some());
        assert_eq!(bans.list(at(1000)).len(), MAX_BANS);
    }

    #[test]
    fn an_automatic_ban_shortens_none_of_the_applications() {
        let mut bans = Bans::default();
        let address = AddressKey::from(ip("10.0.0.1").unwrap());
        bans.ban(of("10.0.0.1", Moment::NEVER), at(0)).unwrap();
        assert!(bans.ban_automatically(address, at(5), "", at(0)));
        assert!(bans.find(ip("10.0.0.1"), None, at(100)).is_some_and(|ban| !ban.is_automatic));
        assert!(
            bans.unban(&Subject::network("10.0.0.1").unwrap(), at(0))
                && !bans.unban(&Subject::network("10.0.0.1").unwrap(), at(0))
        );
        assert!(
            bans.ban_automatically(address, at(50), "", at(0)) && bans.ban_automatically(address, at(5), "", at(0))
        );
        assert!(bans.find(ip("10.0.0.1"), None, at(49)).is_some(), "nor one of its own");
    }

    #[test]
    fn so_many_in_the_window_ban_and_one_less_does_not() {
        let (rules, address) =
            (AutoBan { violations: 10, window_ms: 60_000, ban_ms: 1 }, AddressKey::from(ip("10.0.0.1").unwrap()));
        let mut counts = ViolationCounts::default();
        for round in 0..5 {
            let begin = round * 60_000 + 3;
            (0..9).for_each(|n| assert!(!counts.note(address, &rules, at(begin + n))));
        }
        let mut counts = ViolationCounts::default();
        let banned: Vec<bool> = (0..20).map(|n| counts.note(address, &rules, at(n * 6000))).collect();
        assert_eq!(banned.iter().position(|banned| *banned), Some(9), "spread over the window");
        assert!((10..19).all(|n| !banned[n]) && banned[19], "it begins anew");
        let one = AutoBan { violations: 1, window_ms: 1, ban_ms: 1 };
        assert!(counts.note(address, &one, at(0)), "other rules");
    }

    #[test]
    fn nobody_is_banned_for_what_a_foreign_page_can_do() {
        for code in [Code::OriginDenied, Code::PathNotFound, Code::HostDenied, Code::IpRateLimited, Code::Banned] {
            assert!(!counts(code), "{code}");
        }
        for code in [Code::AuthFailed, Code::BadFrame, Code::HandshakeMalformed, Code::RateLimited, Code::EventDenied] {
            assert!(counts(code), "{code}");
        }
        assert!(!counts(Code::SessionExpired) && !counts(Code::AuthUnavailable) && !counts(Code::Internal));
    }

    proptest! {
        /// Whatever is banned, lifted and forgotten, the table says what a list of all calls says, and stays consistent.
        #[test]
        fn the_table_follows_its_model(steps in prop::collection::vec((0u8..4, 0u8..6, 1u64..40), 1..120)) {
            let subjects = ["10.0.0.1", "10.0.0.0/30", "10.0.0.2", "2001:db8::1", "2001:db8::/32", "alice"];
            let mut bans = Bans::default();
            let mut model: HashMap<usize, (u64, bool)> = HashMap::new();
            let mut now = 0;
            for (what, which, ms) in steps {
                let which = usize::from(which);
                let subject = of(subjects[which], at(now + ms)).subject;
                let in_force = model.get(&which).copied().filter(|(until, _)| *until > now);
                match (what, &subject) {
                    (0, _) => {
                        bans.ban(of(subjects[which], at(now + ms)), at(now)).unwrap();
                        model.insert(which, (now + ms, false));
                    }
                    (1, Subject::Network(network)) if !subjects[which].contains('/') => {
                        prop_assert!(bans.ban_automatically(AddressKey::from(network.addr()), at(now + ms), "", at(now)));
                        if in_force.is_none_or(|(until, automatic)| automatic && until < now + ms) {
                            model.insert(which, (now + ms, true));
                        }
                    }
                    (2, _) => {
                        let was = bans.unban(&subject, at(now));
                        prop_assert!(was || in_force.is_none());
                        model.remove(&which);
                    }
                    _ => now += ms,
                }
                let banned = |which: usize| model.get(&which).is_some_and(|(until, _)| *until > now);
                for (address, covering) in [("10.0.0.1", &[0, 1][..]), ("10.0.0.2", &[1, 2]), ("10.0.0.3", &[1]),
                    ("10.0.0.4", &[]), ("2001:db8::9", &[3, 4]), ("2001:db8:9::", &[4])] {
                    let expected = covering.iter().any(|which| banned(*which));
                    prop_assert_eq!(bans.find(ip(address), None, at(now)).is_some(), expected, "{}", address);
                }
                prop_assert_eq!(bans.find(None, Some("alice"), at(now)).is_some(), banned(5));
                prop_assert_eq!(bans.list(at(now)).len(), (0..6).filter(|which| banned(*which)).count());
                prop_assert_eq!(bans.by_end.len(), bans.by_subject.len());
                let automatic = bans.by_subject.values().filter(|ban| ban.is_automatic).count();
                prop_assert_eq!(bans.automatic.len(), automatic);
                let networks = bans.by_subject.keys().filter(|subject| matches!(subject, Subject::Network(_))).count();
                let counted = bans.lengths.v4.iter().chain(&bans.lengths.v6).sum::<u32>() as usize;
                prop_assert_eq!((counted, counted + bans.users), (networks, bans.by_subject.len()));
            }
        }

        /// However many addresses there are, the counts are of a bounded number of them.
        #[test]
        fn counts_agree_with_a_list_of_times(gaps in prop::collection::vec(0u64..400, 1..200), violations in 1u32..12) {
            let rules = AutoBan { violations, window_ms: 1600, ban_ms: 1 };
            let address = AddressKey::from(ip("10.0.0.1").unwrap());
            let (mut counts, mut times, mut now) = (ViolationCounts::default(), Vec::new(), 0);
            for gap in gaps {
                now += gap;
                times.push(now);
                let within = |ms: u64| times.iter().filter(|time| **time + ms > now).count() as u32 >= violations;
                let banned = counts.note(address, &rules, at(now));
                prop_assert!(!banned || within(1600), "no more than the window counts");
                prop_assert!(banned || !within(1500), "and all but a part of it");
                if banned { times.clear(); }
                prop_assert_eq!(counts.order.len(), counts.counted.len());
            }
        }
    }
}
