//! What a server is in its cluster: what it asks of the other nodes, and who waits for their answers.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use super::nodes::{Cluster, Entered};
use crate::error::Error;
use wsguard_proto::cluster::ops::{Kind, Message, NodeId, Request, Topic, UserFull};
use wsguard_proto::config::ClusterPolicy;
use wsguard_proto::lock::lock;
use wsguard_proto::metrics::ClusterFacts;
use wsguard_proto::options::OnOutage;
use wsguard_proto::time::Moment;

/// The members of an audience on all nodes, as far as these have answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Everywhere {
    /// The connections, those of this node among them: each once.
    pub connections: usize,
    /// Nodes that did not answer in time: what they have is not counted.
    pub missing: u32,
}

impl Everywhere {
    /// Nobody else has to be asked.
    pub(super) fn here(connections: usize) -> Self {
        Self { connections, missing: 0 }
    }
}

/// Takes what has been counted.
type Counted = Box<dyn FnOnce(Result<Everywhere, Error>) + Send>;

/// A count that waits for other nodes.
struct Counting {
    /// What is on this node.
    here: usize,
    elsewhere: HashSet<(NodeId, u64)>,
    missing: u32,
    /// Questions without an answer.
    open: usize,
    counted: Option<Counted>,
}

#[derive(Default)]
struct Counts {
    last: u64,
    by_ticket: HashMap<u64, Arc<Mutex<Counting>>>,
    /// Nobody answers any more.
    is_closed: bool,
}

/// The cluster that a server is in.
pub(super) struct Membership {
    pub(super) cluster: Arc<Cluster>,
    /// `max_connections_per_user`, and `rate_limit` by user, are the cluster's.
    has_user_limits: bool,
    /// Nobody is let in while the cluster cannot be reached.
    closes: bool,
    counts: Mutex<Counts>,
}

impl Membership {
    pub(super) fn new(cluster: Arc<Cluster>, policy: &ClusterPolicy) -> Self {
        let closes = policy.on_outage == OnOutage::Closed;
        Self { cluster, has_user_limits: policy.user_limits, closes, counts: Mutex::default() }
    }

    /// What is told of it in numbers.
    pub(super) fn facts(&self) -> ClusterFacts {
        let facts = self.cluster.facts();
        ClusterFacts { is_up: facts.up, lag: facts.lag, dropped: facts.dropped }
    }

    /// Whether nobody is let in now.
    pub(super) fn is_closed(&self) -> bool {
        self.closes && !self.cluster.is_reachable()
    }

    /// Whether a connection of a user has to have a place on all nodes.
    pub(super) fn counts_users(&self) -> bool {
        self.has_user_limits
    }

    /// A place for a connection of a user. At most as many as the policy of its route says are open on all nodes.
    pub(super) fn enter(&self, user: Arc<str>, most: usize) -> impl Future<Output = Result<Entered, UserFull>> + use<> {
        self.cluster.enter(user, u32::try_from(most).unwrap_or(u32::MAX))
    }

    /// Whether any of these topics may have members on other nodes.
    fn reaches_others(&self, to: &[Topic]) -> bool {
        to.iter().any(|topic| self.cluster.reaches_others(topic))
    }

    /// Sends members on other nodes what those here have had. `payload` is asked for where there may be any.
    pub(super) fn publish(&self, to: Vec<Topic>, kind: Kind, plain: bool, payload: impl FnOnce() -> Arc<[u8]>) {
        if self.reaches_others(&to) {
            self.cluster.request(Request::Publish(Message { to, kind, plain, payload: payload() }));
        }
    }

    /// Counts the members of these topics on other nodes, where `here` are on this one.
    pub(super) fn count(&self, topics: Vec<Topic>, here: usize, until: Moment, counted: Counted) {
        let topics: Vec<_> = topics.into_iter().filter(|topic| self.cluster.reaches_others(topic)).collect();
        if topics.is_empty() {
            return counted(Ok(Everywhere::here(here)));
        }
        let (open, elsewhere) = (topics.len(), HashSet::new());
        let counting = Arc::new(Mutex::new(Counting { here, elsewhere, missing: 0, open, counted: Some(counted) }));
        let mut requests = Vec::with_capacity(open);
        {
            let mut counts = lock(&self.counts);
            if counts.is_closed {
                drop(counts);
                return finish(&counting, Err(Error::Stopped));
            }
            for topic in topics {
                counts.last += 1;
                let ticket = counts.last;
                counts.by_ticket.insert(ticket, Arc::clone(&counting));
                requests.push(Request::Count { ticket, topic, until });
            }
        }
        for request in requests {
            self.cluster.request(request);
        }
    }

    /// Other nodes have answered.
    pub(super) fn counted(&self, ticket: u64, connections: Vec<(NodeId, u64)>, missing: u32) {
        let Some(counting) = lock(&self.counts).by_ticket.remove(&ticket) else { return };
        let outcome = {
            let mut counting = lock(&counting);
            counting.elsewhere.extend(connections);
            counting.missing = counting.missing.max(missing);
            counting.open -= 1;
            if counting.open > 0 {
                return;
            }
            Everywhere { connections: counting.here + counting.elsewhere.len(), missing: counting.missing }
        };
        finish(&counting, Ok(outcome));
    }

    /// The server ends: this node leaves the cluster, and nobody waits for it.
    pub(super) fn leave(&self) {
        self.cluster.stop();
        let waiting = {
            let mut counts = lock(&self.counts);
            counts.is_closed = true;
            core::mem::take(&mut counts.by_ticket)
        };
        for counting in waiting.into_values() {
            finish(&counting, Err(Error::Stopped));
        }
    }
}

/// Hands a count over, once. No lock is held: what takes it may count again.
fn finish(counting: &Mutex<Counting>, outcome: Result<Everywhere, Error>) {
    let counted = lock(counting).counted.take();
    if let Some(counted) = counted {
        counted(outcome);
    }
}
