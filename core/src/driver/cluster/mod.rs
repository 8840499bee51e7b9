//! Many nodes as one server: the thread that speaks with Redis, and what shards and applications see of it.
//!
//! What is decided is decided by [`Node`]; this carries its ops to Redis, the answers back, and its effects to the server.
//! Nobody waits for Redis but a handshake that needs a place, for at most a second.

mod connect;
mod dice;
mod lane;
mod link;
mod queue;
mod refusal;
mod seat;
mod session;
mod slots;
#[cfg(test)]
mod tests;
mod tls;
mod worker;

use core::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wsguard_proto::cluster::interest::Interest;
use wsguard_proto::cluster::node::{Node, Settings};
use wsguard_proto::cluster::ops::{Buckets, Effect, NodeId, Request, Topic, UserFull};
use wsguard_proto::config::ClusterPolicy;
use wsguard_proto::config_error::ConfigError;
use wsguard_proto::lock::lock;
use wsguard_proto::options::OnOutage;

use self::connect::Target;
use self::dice::dice;
use self::queue::Queue;
use self::refusal::Refusal;
pub(super) use self::seat::Entered;
use self::seat::Seats;
use self::worker::Worker;
use super::caught::{caught, said};
use super::clock::Clock;
use super::log::guard_panics;
use crate::error::Error;

/// For how long a handshake waits for its place.
const ENTER_PATIENCE: Duration = Duration::from_secs(1);
/// For how long a start waits until bans are known and the node is one of the cluster.
const START_PATIENCE: Duration = Duration::from_secs(5);

/// What the thread and others share.
struct Shared {
    queue: Arc<Queue>,
    seats: Seats,
    is_reachable: AtomicBool,
    lag_ns: AtomicU64,
    dropped: AtomicU64,
}

/// How the cluster is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ClusterFacts {
    /// Whether it can be reached.
    pub(super) up: bool,
    /// How old the oldest question is that Redis has not answered, or the last message to ourselves was when it arrived.
    pub(super) lag: Duration,
    /// Messages for other nodes that were dropped.
    pub(super) dropped: u64,
}

/// This server as a node among others.
pub(super) struct Cluster {
    shared: Arc<Shared>,
    interest: Arc<Interest>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("facts", &self.facts()).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Connects and waits until this node is one of the cluster; a Redis that is not there is a warning, and tried again. Effects
    /// are told on the cluster's thread, the first ones before this returns.
    ///
    /// # Errors
    /// Redis refuses this node, or is too old: names `cluster.url`.
    pub(super) fn start(
        policy: &ClusterPolicy,
        buckets: Arc<impl Buckets + 'static>,
        clock: Clock,
        effects: Box<dyn Fn(Effect) + Send>,
    ) -> Result<Arc<Self>, Error> {
        let tls = policy.url.is_tls.then(tls::connector).transpose()?;
        let closes = policy.on_outage == OnOutage::Closed;
        let target = Arc::new(Target { url: policy.url.clone(), name: Arc::clone(&policy.name), closes, tls });
        let interest = Arc::new(Interest::default());
        let settings = Settings {
            id: node_id(),
            name: Arc::clone(&policy.name),
            lease_ms: policy.lease_ms,
            user_limits: policy.user_limits,
        };
        let node = Node::new(settings, buckets, Arc::clone(&interest), dice(), clock.now());
        let queue = Arc::new(Queue::default());
        let shared = Arc::new(Shared {
            seats: Seats::new(Arc::clone(&queue), ENTER_PATIENCE),
            queue,
            is_reachable: AtomicBool::new(false),
            lag_ns: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        let (first, tried) = mpsc::channel();
        let worker = Worker::new(Arc::clone(&shared), target, clock, node, effects, first);
        let ends = Ends(Arc::clone(&shared));
        let run = move || {
            guard_panics(true);
            run(worker, ends);
        };
        let thread = thread::Builder::new().name("wsguard-cluster".to_owned()).spawn(run).map_err(Error::Start)?;
        let cluster = Arc::new(Self { shared, interest, thread: Mutex::new(Some(thread)) });
        if let Ok(Err(Refusal::Wrong(why))) = tried.recv_timeout(START_PATIENCE) {
            let message = format!("cannot be used: {why} ({})", policy.url);
            return Err(Error::Config(ConfigError::invalid("cluster.url", message)));
        }
        Ok(cluster)
    }

    /// Whether the cluster can be reached.
    pub(super) fn is_reachable(&self) -> bool {
        self.shared.is_reachable.load(Ordering::Acquire)
    }

    /// Asks for a place for one more connection of a user, and waits for a second at most; then the connection is let in as in an
    /// outage. The place is given back when what this answers is dropped, and also where nobody waits for the answer any more.
    pub(super) fn enter(
        &self,
        user: Arc<str>,
        most: u32,
    ) -> impl Future<Output = Result<Entered, UserFull>> + Send + use<> {
        self.shared.seats.enter(user, most)
    }

    /// Hands over what the cluster is to do. Messages are dropped, and counted, where too many wait already.
    pub(super) fn request(&self, request: Request) {
        self.shared.queue.push(request);
    }

    /// Whether members of a topic may be on other nodes.
    pub(super) fn reaches_others(&self, topic: &Topic) -> bool {
        self.interest.reaches_others(topic)
    }

    /// One more member of a topic is on this node.
    pub(super) fn up(&self, topic: Topic) {
        self.interest.up(topic);
        self.shared.queue.wake();
    }

    /// One member less.
    pub(super) fn down(&self, topic: &Topic) {
        self.interest.down(topic);
        self.shared.queue.wake();
    }

    /// How the cluster is.
    pub(super) fn facts(&self) -> ClusterFacts {
        ClusterFacts {
            up: self.is_reachable(),
            lag: Duration::from_nanos(self.shared.lag_ns.load(Ordering::Relaxed)),
            dropped: self.shared.dropped.load(Ordering::Relaxed).saturating_add(self.shared.queue.dropped()),
        }
    }

    /// Gives back what this node holds, and ends; waits for that, a second at most.
    pub(super) fn stop(&self) {
        self.shared.queue.stop();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id()) {
            let _ = thread.join();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The end of the thread, however it came: nobody waits for it any more.
struct Ends(Arc<Shared>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.is_reachable.store(false, Ordering::Release);
        self.0.queue.close();
        self.0.seats.close();
    }
}

fn run(worker: Worker, _ends: Ends) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let Ok(runtime) = runtime else {
        said(|| tracing::error!(target: "wsguard", "cluster: no event loop can be made: this node stays alone"));
        return;
    };
    if caught(|| runtime.block_on(worker.run())).is_none() {
        said(
            || tracing::error!(target: "wsguard", "cluster: a fault of wsguard ended its thread: this node stays alone"),
        );
    }
    // A name that is still looked up keeps nobody.
    runtime.shutdown_background();
}

/// A number for this start of a server; nobody else has it.
fn node_id() -> NodeId {
    let mut id = [0; 16];
    let (first, second) = id.split_at_mut(8);
    first.copy_from_slice(&dice().to_be_bytes());
    second.copy_from_slice(&dice().to_be_bytes());
    NodeId(id)
}
