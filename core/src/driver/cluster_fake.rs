//! A cluster without Redis, for tests: the servers of this process whose `cluster` has the same name are one. What one says the
//! others hear at once, on the thread that says it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use super::clock::Clock;
use crate::error::Error;
use wsguard_proto::cluster::ops::{Effect, NodeId, Request, Topic, UserFull};
use wsguard_proto::config::ClusterPolicy;
use wsguard_proto::limits::Limits;
use wsguard_proto::lock::lock;
use wsguard_proto::time::Moment;

/// What the nodes of one name have in common.
#[derive(Default)]
pub(super) struct Bus {
    nodes: Mutex<Vec<Weak<Cluster>>>,
    users: Mutex<HashMap<Arc<str>, u32>>,
    /// Nobody can be reached.
    pub(super) is_down: AtomicBool,
    /// How long an answer takes.
    pub(super) delay_ms: AtomicU64,
    /// Places that were asked for.
    pub(super) asked: AtomicU64,
    /// Messages that were published.
    pub(super) published: AtomicU64,
    last: AtomicU64,
}

impl Bus {
    /// That of a name.
    pub(super) fn of(name: &str) -> Arc<Self> {
        static ALL: Mutex<Option<HashMap<String, Arc<Bus>>>> = Mutex::new(None);
        Arc::clone(lock(&ALL).get_or_insert_default().entry(name.to_owned()).or_default())
    }

    fn others(&self, than: NodeId) -> Vec<Arc<Cluster>> {
        let nodes = lock(&self.nodes);
        nodes.iter().filter_map(Weak::upgrade).filter(|node| node.id != than && !node.is_over()).collect()
    }

    /// Connections of a user on all nodes.
    pub(super) fn connections_of(&self, user: &str) -> u32 {
        lock(&self.users).get(user).copied().unwrap_or(0)
    }
}

pub(super) struct Cluster {
    bus: Arc<Bus>,
    id: NodeId,
    effects: Mutex<Box<dyn Fn(Effect) + Send>>,
    clock: Clock,
    interest: Mutex<HashMap<Topic, u32>>,
    answers: Mutex<HashMap<u64, Vec<(NodeId, u64)>>>,
    dropped: AtomicU64,
    is_over: AtomicBool,
}

/// A connection of a user; dropping it gives its place back.
#[derive(Debug)]
pub(super) struct Entered {
    _place: Arc<Place>,
}

#[derive(Debug)]
struct Place {
    bus: Option<Arc<Bus>>,
    user: Arc<str>,
}

impl Entered {
    fn new(bus: Option<Arc<Bus>>, user: Arc<str>) -> Self {
        Self { _place: Arc::new(Place { bus, user }) }
    }
}

impl core::fmt::Debug for Bus {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Bus")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(bus) = &self.bus {
            *lock(&bus.users).entry(Arc::clone(&self.user)).or_default() -= 1;
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClusterFacts {
    pub(super) up: bool,
    pub(super) lag: Duration,
    pub(super) dropped: u64,
}

impl Cluster {
    #[expect(clippy::unnecessary_wraps, reason = "as the real one")]
    pub(super) fn start(
        policy: &ClusterPolicy,
        _limits: Arc<Limits>,
        clock: Clock,
        effects: Box<dyn Fn(Effect) + Send>,
    ) -> Result<Arc<Self>, Error> {
        let bus = Bus::of(&policy.name);
        let number = bus.last.fetch_add(1, Ordering::Relaxed) + 1;
        let cluster = Arc::new(Self {
            id: NodeId(u128::from(number).to_be_bytes()),
            effects: Mutex::new(effects),
            clock,
            interest: Mutex::default(),
            answers: Mutex::default(),
            dropped: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            bus,
        });
        lock(&cluster.bus.nodes).push(Arc::downgrade(&cluster));
        Ok(cluster)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    pub(super) fn is_reachable(&self) -> bool {
        !self.bus.is_down.load(Ordering::Acquire)
    }

    pub(super) fn enter(
        &self,
        user: Arc<str>,
        most: u32,
    ) -> impl Future<Output = Result<Entered, UserFull>> + Send + use<> {
        let (bus, is_up) = (Arc::clone(&self.bus), self.is_reachable());
        async move {
            bus.asked.fetch_add(1, Ordering::AcqRel);
            let delay = bus.delay_ms.load(Ordering::Acquire);
            if delay > 0 {
                tokio::time::sleep(Duration::from_millis(delay)).await;
            }
            if !is_up {
                return Ok(Entered::new(None, user));
            }
            let mut users = lock(&bus.users);
            let open = users.entry(Arc::clone(&user)).or_default();
            if *open >= most {
                return Err(UserFull { open: *open });
            }
            *open += 1;
            drop(users);
            Ok(Entered::new(Some(bus), user))
        }
    }

    fn tell(&self, effect: Effect) {
        lock(&self.effects)(effect);
    }

    fn tell_others(&self, effect: impl Fn(&Cluster) -> Option<Effect>) {
        for other in self.bus.others(self.id) {
            if let Some(effect) = effect(&other) {
                other.tell(effect);
            }
        }
    }

    fn hears(&self, topics: &[Topic]) -> bool {
        let interest = lock(&self.interest);
        topics.iter().any(|topic| *topic == Topic::All || interest.contains_key(topic))
    }

    pub(super) fn request(&self, request: Request) {
        if !self.is_reachable() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            if let Request::Count { ticket, .. } = request {
                self.tell(Effect::Counted { ticket, connections: Vec::new(), missing: 1 });
            }
            return;
        }
        match request {
            Request::Publish(message) => {
                self.bus.published.fetch_add(1, Ordering::Relaxed);
                self.tell_others(|other| other.hears(&message.to).then(|| Effect::Deliver(message.clone())));
            }
            Request::Disconnect { user } => self
                .tell_others(|other| Some(Effect::Disconnect { user: Arc::clone(&user), before: other.clock.now() })),
            Request::Ban { subject, for_ms, reason } => self.tell_others(|other| {
                let until = for_ms.map_or(Moment::NEVER, |ms| other.clock.now().after_millis(ms));
                Some(Effect::Ban { subject: subject.clone(), until, reason: Arc::clone(&reason) })
            }),
            Request::Unban { subject } => self.tell_others(|_| Some(Effect::Unban { subject: subject.clone() })),
            Request::Count { ticket, topic, .. } => {
                lock(&self.answers).insert(ticket, Vec::new());
                self.tell_others(|_| Some(Effect::Asked { from: self.id, question: ticket, topic: topic.clone() }));
                let connections = lock(&self.answers).remove(&ticket).unwrap_or_default();
                self.tell(Effect::Counted { ticket, connections, missing: 0 });
            }
            Request::Answer { to, question, connections } => {
                let asker = self.bus.others(self.id).into_iter().find(|node| node.id == to);
                if let Some(asker) = asker
                    && let Some(answers) = lock(&asker.answers).get_mut(&question)
                {
                    answers.extend(connections.into_iter().map(|conn| (self.id, conn)));
                }
            }
            Request::Enter { .. } | Request::Stay { .. } | Request::Exit { .. } => {}
        }
    }

    pub(super) fn reaches_others(&self, topic: &Topic) -> bool {
        self.bus.others(self.id).iter().any(|other| other.hears(core::slice::from_ref(topic)))
    }

    pub(super) fn up(&self, topic: Topic) {
        *lock(&self.interest).entry(topic).or_default() += 1;
    }

    pub(super) fn down(&self, topic: &Topic) {
        let mut interest = lock(&self.interest);
        let members = interest.get_mut(topic).expect("it was up");
        *members -= 1;
        if *members == 0 {
            interest.remove(topic);
        }
    }

    /// Topics that have members here.
    pub(super) fn topics(&self) -> Vec<Topic> {
        let mut topics: Vec<_> = lock(&self.interest).keys().cloned().collect();
        topics.sort();
        topics
    }

    pub(super) fn facts(&self) -> ClusterFacts {
        let dropped = self.dropped.load(Ordering::Relaxed);
        ClusterFacts { up: self.is_reachable(), lag: Duration::from_millis(3), dropped }
    }

    pub(super) fn stop(&self) {
        self.is_over.store(true, Ordering::Release);
    }
}
