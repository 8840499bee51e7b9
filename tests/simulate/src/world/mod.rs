//! Everything there is, and what happens next.

mod checks;
mod crowd;
mod database;
mod faults;
mod machine;
mod meter;

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use wsguard_proto::bans::Subject;
use wsguard_proto::cluster::ops::{Op, OpId, Reply, Topic};
use wsguard_proto::cluster::store::Store;
use wsguard_proto::config::{Options, Policy, RateRules};
use wsguard_proto::files::NoFiles;

use crate::random::Random;
use checks::Publication;
pub use checks::Verdict;
use crowd::User;
use database::Database;
use faults::Fault;
use machine::Machine;
pub use meter::Meter;

/// Nanoseconds of the world.
pub type Time = u64;
/// A millisecond.
pub const MS: Time = 1_000_000;
/// A second.
pub const SECOND: Time = 1000 * MS;
const NEVER: Time = u64::MAX;

const PER_SECOND: f64 = 2.0;
const BURST: f64 = 20.0;
/// What a node may let pass that the others have not heard of.
const LEASE: f64 = BURST / 4.0;
/// Connections of a user on all nodes.
const MOST: u32 = 6;
/// `lease_ms`.
const LEASE_MS: u64 = 10_000;

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The same seed, the same run.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// How many users.
    pub users: usize,
    /// For how long things go wrong, in seconds.
    pub faults_s: u64,
    /// Whether each thing that is wrong is told, with what happened to the first few users of whom something is.
    pub is_loud: bool,
}

/// Something that happens. What belongs to a node that has died since, or to a connection that is no more, does not.
#[derive(Clone, Debug)]
enum Event {
    /// A node looks what is due.
    Poll { life: u64 },
    /// A node tries to connect.
    Connect { life: u64 },
    /// Redis gets an op.
    Asked { life: u64, link: u64, id: OpId, op: Box<Op> },
    /// A node gets an answer.
    Answered { life: u64, link: u64, id: OpId, reply: Box<Reply> },
    /// A node hears something.
    Heard { life: u64, link: u64, topic: Topic, bytes: Arc<[u8]> },
    /// A user does something.
    Act,
    /// Messages of a connection that wait are tried again.
    Retry { connection: u64 },
    /// Something goes wrong, or right again.
    Fault(Fault),
    /// What should have arrived is looked for.
    Look { publication: u64 },
    /// A node that died has left nothing.
    Remains { node: usize, life: u64, leases: u64 },
    /// All is looked at.
    Check,
}

struct Entry {
    at: Time,
    number: u64,
    /// The node or the user that it happens to.
    whose: usize,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    // The heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// The world.
pub struct World {
    plan: Plan,
    now: Time,
    queue: BinaryHeap<Entry>,
    next_number: u64,
    random: Random,
    policy: Policy,
    rules: RateRules,
    store: Store,
    database: Database,
    machines: Vec<Machine>,
    users: Vec<User>,
    by_name: HashMap<Arc<str>, usize>,
    publications: HashMap<u64, Publication>,
    next_id: u64,
    /// What applications said of whom, and when.
    said: Vec<(Subject, Time)>,
    /// Whom Redis forgot before all nodes can have heard: whoever heard first may be gone.
    unsure: HashSet<Subject>,
    history: RefCell<Vec<(Option<Arc<str>>, String)>>,
    told: Cell<u32>,
    /// Nobody comes or goes any more.
    is_quiet: bool,
    /// What Redis is asked for, while nothing goes wrong.
    pub meter: Meter,
    /// What was found.
    pub verdict: Verdict,
}

impl World {
    /// At its beginning.
    ///
    /// # Panics
    /// The options of the simulation are none.
    pub fn new(plan: Plan) -> Self {
        let json = format!(
            r#"{{"origins": ["https://a.example"], "auth": "none", "max_connections": 1000000, "max_connections_per_user": {MOST},
                "rate_limit": {{"per_second": {PER_SECOND}, "burst": {BURST}, "queue": 20, "key": "user"}}}}"#
        );
        #[expect(clippy::expect_used, reason = "they are written above")]
        let policy = Policy::new(Options::from_json(&json).expect("options"), &NoFiles).expect("policy");
        #[expect(clippy::expect_used, reason = "they are written above")]
        let rules = policy.rate_limit.clone().expect("rate_limit");
        let mut world = Self {
            plan,
            now: 0,
            queue: BinaryHeap::new(),
            next_number: 0,
            random: Random::new(plan.seed),
            policy,
            rules,
            store: Store::new("simulated".into(), false),
            database: Database::default(),
            machines: Vec::new(),
            users: Vec::new(),
            by_name: HashMap::new(),
            publications: HashMap::new(),
            next_id: 1,
            said: Vec::new(),
            unsure: HashSet::new(),
            history: RefCell::default(),
            told: Cell::new(0),
            is_quiet: false,
            meter: Meter::default(),
            verdict: Verdict::default(),
        };
        for node in 0..plan.nodes {
            let machine = world.machine();
            world.machines.push(machine);
            world.after(world.random.clone().below(SECOND), node, Event::Connect { life: world.machines[node].life });
        }
        for number in 0..plan.users {
            world.add_user(number);
        }
        world.plan_faults();
        world
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn at(&mut self, at: Time, whose: usize, event: Event) {
        self.next_number += 1;
        let number = self.next_number;
        self.queue.push(Entry { at: at.max(self.now), number, whose, event });
    }

    fn after(&mut self, wait: Time, whose: usize, event: Event) {
        self.at(self.now + wait, whose, event);
    }

    /// From the beginning to the end.
    pub fn run(&mut self) {
        // People come for 10 s, things go wrong, things settle, traffic is measured, all are quiet.
        let wrong_until = (10 + self.plan.faults_s) * SECOND;
        let measured = wrong_until + 30 * SECOND;
        self.run_until(measured);
        self.meter.begin(self.now);
        self.run_until(measured + 10 * SECOND);
        self.meter.end(self.now);
        self.is_quiet = true;
        // What waits for its rate does so for 10 s at most.
        self.run_until(measured + 25 * SECOND);
        self.check_the_end();
    }

    fn run_until(&mut self, end: Time) {
        while let Some(entry) = self.queue.pop_if_before(end) {
            self.now = entry.at;
            self.verdict.events += 1;
            self.happen(entry);
        }
        self.now = end;
    }

    /// Notes what happens to a user, or to all that a node has, to be told if it ends badly.
    fn note(&self, user: Option<&str>, what: &dyn Fn() -> String) {
        if self.plan.is_loud {
            let line = (user.map(Arc::from), format!("{:.6} {}", self.now as f64 / 1e9, what()));
            self.history.borrow_mut().push(line);
        }
    }

    /// What happened to a user, of the first few that it is asked of.
    fn tell_history(&self, user: &str) {
        if self.plan.is_loud && self.told.get() < 3 {
            self.told.set(self.told.get() + 1);
            println!("--- {:.3} s: {user}", self.now as f64 / 1e9);
            for (of, line) in self.history.borrow().iter() {
                if of.as_ref().is_none_or(|of: &Arc<str>| **of == *user) {
                    println!("{line}");
                }
            }
        }
    }

    fn happen(&mut self, entry: Entry) {
        let Entry { whose, event, .. } = entry;
        match event {
            Event::Poll { life }
            | Event::Connect { life }
            | Event::Answered { life, .. }
            | Event::Heard { life, .. } => {
                if self.machines[whose].life == life {
                    self.happen_to_machine(whose, event);
                }
            }
            Event::Asked { life, link, id, op } => self.asked(whose, life, link, id, op),
            Event::Act => self.act(whose),
            Event::Retry { connection } => self.retry(whose, connection),
            Event::Fault(fault) => self.fault(fault),
            Event::Look { publication } => self.look_for(publication),
            Event::Remains { node, life, leases } => self.look_for_remains(node, life, leases),
            Event::Check => self.check(),
        }
    }
}

trait PopIfBefore {
    fn pop_if_before(&mut self, end: Time) -> Option<Entry>;
}

impl PopIfBefore for BinaryHeap<Entry> {
    fn pop_if_before(&mut self, end: Time) -> Option<Entry> {
        if self.peek()?.at < end { self.pop() } else { None }
    }
}
