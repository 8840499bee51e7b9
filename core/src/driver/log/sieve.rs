//! Sampling, as arithmetic on `now`: so many at once of one code and address and so many a second, and a bound on all of
//! them together, of which each code has a part that no other can use up. What is left out is counted until it
//! can be said.

use std::collections::{HashMap, VecDeque};

use wsguard_proto::bucket::{Bucket, Rate};
use wsguard_proto::client_ip::AddressKey;
use wsguard_proto::time::Moment;
use wsguard_proto::verdict::{Code, Severity};

/// Codes and addresses remembered at once.
const MAX_REMEMBERED: usize = 4096;
/// Entries that are looked at before one is forgotten that is still of use.
const CLOCK_STEPS: usize = 16;

type Key = (Code, Option<AddressKey>);

/// What of one code and address passed lately.
#[derive(Debug, Default)]
struct Told {
    bucket: Bucket,
    suppressed: u64,
}

/// Lets through what its rates allow.
#[derive(Debug)]
pub(super) struct Sieve {
    told: HashMap<Key, Told>,
    /// Every key once, oldest first: the hand of the clock that forgets.
    order: VecDeque<Key>,
    each: Rate,
    /// Half of the bound of all is for whoever comes first. Faults of ours have a bucket of their own.
    common: [Bucket; 2],
    common_rate: Rate,
    /// The other half, in equal parts: a flood of one code, from however many addresses, hides no other.
    own: [Bucket; Code::ALL.len()],
    own_rate: Rate,
    /// What was left out of codes and addresses that are forgotten: said with the next of the code.
    left_out: [u64; Code::ALL.len()],
}

impl Sieve {
    /// `each`: of one code and address; `per_second`, `burst`: of all of them together.
    pub(super) fn new(each: Rate, per_second: f64, burst: f64) -> Self {
        let part = |share: f64| Rate::new(per_second / share, burst / share);
        Self {
            told: HashMap::new(),
            order: VecDeque::new(),
            each,
            common: Default::default(),
            common_rate: part(2.0),
            own: core::array::from_fn(|_| Bucket::default()),
            own_rate: part(2.0 * Code::ALL.len() as f64),
            left_out: [0; Code::ALL.len()],
        }
    }

    /// How many like this one were left out before it; `None`: this one is, too.
    pub(super) fn pass(&mut self, code: Code, address: Option<AddressKey>, now: Moment) -> Option<u64> {
        let key = (code, address);
        if !self.told.contains_key(&key) {
            while self.told.len() >= MAX_REMEMBERED {
                self.forget_one(now);
            }
            self.order.push_back(key);
        }
        let told = self.told.entry(key).or_default();
        let common = &mut self.common[usize::from(code.severity() == Severity::Fault)];
        let own = &mut self.own[code as usize];
        let passes = told.bucket.fits_at(&self.each, 1, now) <= now
            && (common.try_pour(&self.common_rate, 1, now).is_ok() || own.try_pour(&self.own_rate, 1, now).is_ok());
        if !passes {
            told.suppressed += 1;
            return None;
        }
        told.bucket.pour(&self.each, 1, now);
        let forgotten = core::mem::take(&mut self.left_out[code as usize]);
        Some(core::mem::take(&mut told.suppressed) + forgotten)
    }

    /// Forgets an entry whose bucket is empty, which forgives nothing, or else the oldest.
    fn forget_one(&mut self, now: Moment) {
        for _ in 0..CLOCK_STEPS {
            let Some(key) = self.order.pop_front() else { return self.told.clear() };
            if self.told.get(&key).is_some_and(|told| !told.bucket.is_empty(now)) {
                self.order.push_back(key);
                continue;
            }
            return self.forget(&key);
        }
        if let Some(key) = self.order.pop_front() {
            self.forget(&key);
        }
    }

    fn forget(&mut self, key: &Key) {
        if let Some(told) = self.told.remove(key) {
            self.left_out[key.0 as usize] += told.suppressed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sieve() -> Sieve {
        Sieve::new(Rate::new(1.0, 10.0), 100.0, 1000.0)
    }

    fn ip(number: u32) -> AddressKey {
        std::net::IpAddr::from(std::net::Ipv4Addr::from_bits(number)).into()
    }

    #[test]
    fn a_flood_is_sampled_per_code_and_address() {
        let mut sieve = sieve();
        let now = Moment::from_millis(1);
        assert_eq!((0..100).filter(|_| sieve.pass(Code::BadFrame, Some(ip(1)), now).is_some()).count(), 10);
        assert_eq!(sieve.pass(Code::BadFrame, Some(ip(2)), now), Some(0));
        assert_eq!(sieve.pass(Code::BadUtf8, Some(ip(1)), now), Some(0));
        assert_eq!(sieve.pass(Code::BadFrame, Some(ip(1)), now.after_millis(1000)), Some(90));
    }

    #[test]
    fn many_addresses_have_one_bound() {
        let mut sieve = sieve();
        let now = Moment::from_millis(1);
        let mut flood = |codes: &[Code], now| {
            let all = (0..20_000u32).flat_map(|n| codes.iter().map(move |code| (*code, ip(n))));
            let passed = all.filter(|(code, ip)| sieve.pass(*code, Some(*ip), now).is_some()).count();
            assert!(sieve.told.len() <= MAX_REMEMBERED && sieve.order.len() == sieve.told.len());
            passed
        };
        let of_one = flood(&[Code::BadFrame], now);
        assert!((500..=520).contains(&of_one), "{of_one}");
        let peers: Vec<Code> = Code::ALL.iter().copied().filter(|code| code.severity() != Severity::Fault).collect();
        let of_all = of_one + flood(&peers, now);
        assert!((900..=1000).contains(&of_all), "{of_all}");
        let ten_seconds_later = flood(&peers, now.after_millis(10_000));
        assert!((900..=1000).contains(&ten_seconds_later), "{ten_seconds_later}");
    }

    /// A flood from any number of addresses costs its own code only, for as long as it lasts.
    #[test]
    fn no_code_hides_another() {
        for flood in Code::ALL {
            let mut sieve = sieve();
            for second in 0..12u64 {
                let now = Moment::from_millis(1 + 1000 * second);
                for n in 0..if second == 0 { 1500 } else { 200 } {
                    sieve.pass(*flood, Some(ip(n)), now);
                }
                for code in Code::ALL.iter().filter(|code| *code != flood) {
                    // From one of the flood's addresses, and from others.
                    let address = ip(second as u32 % 3 * 5000);
                    assert_eq!(sieve.pass(*code, Some(address), now), Some(0), "{flood} hides {code}");
                }
            }
        }
    }

    #[test]
    fn who_was_suppressed_gets_nothing_from_a_full_table() {
        let mut sieve = sieve();
        let now = Moment::from_millis(1);
        while sieve.pass(Code::BadFrame, Some(ip(1)), now).is_some() {}
        // Whoever comes once is forgotten as soon as its bucket is empty. Its own is, after ten seconds.
        for n in 2..9_900u32 {
            sieve.pass(Code::BadUtf8, Some(ip(n)), now.after_millis(u64::from(n)));
            assert_eq!(sieve.pass(Code::BadFrame, Some(ip(1)), now), None);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Every one is said or counted: nothing that was left out is lost, whatever is forgotten.
        #[test]
        fn nothing_is_lost(steps in prop::collection::vec((0u32..6000, 0u64..50), 1..12_000)) {
            let mut sieve = sieve();
            let (mut now, mut said) = (Moment::from_millis(1), 0);
            for (address, wait) in &steps {
                now = now.after_millis(*wait);
                if let Some(suppressed) = sieve.pass(Code::BadFrame, Some(ip(*address)), now) {
                    said += 1 + suppressed;
                }
                prop_assert!(sieve.told.len() <= MAX_REMEMBERED);
            }
            let waits = sieve.told.values().map(|told| told.suppressed).sum::<u64>();
            prop_assert_eq!(said + waits + sieve.left_out.iter().sum::<u64>(), steps.len() as u64);
        }
    }
}
