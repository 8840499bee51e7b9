//! What a node and its surroundings say to one another.

use core::fmt;
use std::sync::Arc;

use crate::bans::Subject;
use crate::time::Moment;

/// A node: a random number for each start of a server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 16]);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which [`Op`] a [`Reply`] answers. A node never uses one twice; what it no longer waits for it passes over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// Microseconds since 1970 by the clock of Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreTime(pub u64);

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Every connection.
    All,
    /// The members of a room.
    Room(Arc<str>),
    /// The connections of a user.
    User(Arc<str>),
    /// What nodes say to one node.
    Node(NodeId),
}

/// What is sent to a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An event, as the JSON text that members receive (`json`).
    Event,
    /// A text message (`raw`).
    Text,
    /// A binary message (`raw`).
    Binary,
    /// The closing handshake: a code (two bytes, big endian) and a reason.
    Close,
    /// Members leave the room.
    Clear,
}

/// A message for members on other nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Whoever is in at least one of these, once.
    pub to: Vec<Topic>,
    /// What it is.
    pub kind: Kind,
    /// It is not to be compressed.
    pub plain: bool,
    /// What is sent.
    pub payload: Arc<[u8]>,
}

/// What is in the shared buckets of a user for one scope (the path of a route with a rate of its own, else empty).
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// The scope of [`RateKey`](crate::rate::RateKey).
    pub scope: Arc<str>,
    /// Cost units.
    pub units: f64,
    /// How many of them leak in a second.
    pub units_per_second: f64,
    /// Payload bytes.
    pub bytes: f64,
    /// How many of them leak in a second; 0: bytes have no limit.
    pub bytes_per_second: f64,
}

/// What an application or a shard wants of the cluster.
#[derive(Clone, Debug)]
pub enum Request {
    /// A connection of a user asks for a place. Answered by [`Effect::Entered`]; then [`Request::Exit`] gives it back.
    Enter {
        /// Comes back with the answer.
        ticket: u64,
        /// Who.
        user: Arc<str>,
        /// `max_connections_per_user`.
        most: u32,
    },
    /// A connection that was let in before the answer to its [`Request::Enter`] came, and was refused then, is open: it counts all
    /// the same. [`Request::Exit`] gives it back.
    Stay {
        /// Who.
        user: Arc<str>,
    },
    /// A connection that has entered is gone.
    Exit {
        /// Who.
        user: Arc<str>,
    },
    /// Members on other nodes are to have this.
    Publish(Message),
    /// `disconnect_user`.
    Disconnect {
        /// Who.
        user: Arc<str>,
    },
    /// `ban`.
    Ban {
        /// Whom.
        subject: Subject,
        /// For how long; `None`: until it is lifted.
        for_ms: Option<u64>,
        /// Why.
        reason: Arc<str>,
    },
    /// `unban`.
    Unban {
        /// Whom.
        subject: Subject,
    },
    /// How many members other nodes have. Answered by [`Effect::Counted`].
    Count {
        /// Comes back with the answer.
        ticket: u64,
        /// Of what.
        topic: Topic,
        /// When it is answered at the latest.
        until: Moment,
    },
    /// The answer to [`Effect::Asked`].
    Answer {
        /// Who asked.
        to: NodeId,
        /// Which question.
        question: u64,
        /// The ids of the connections here, as this node knows them.
        connections: Vec<u64>,
    },
}

/// What a server is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The answer to [`Request::Enter`].
    Entered {
        /// As it was asked.
        ticket: u64,
        /// `Err`: as many connections of the user are open as may be.
        outcome: Result<(), UserFull>,
    },
    /// Members here are to have this.
    Deliver(Message),
    /// Connections of a user that were granted before this moment are closed.
    Disconnect {
        /// Who.
        user: Arc<str>,
        /// By the clock of this node.
        before: Moment,
    },
    /// A ban of another node's, or one that was there before this node was.
    Ban {
        /// Whom.
        subject: Subject,
        /// Until when, by the clock of this node.
        until: Moment,
        /// Why.
        reason: Arc<str>,
    },
    /// Another node has lifted a ban.
    Unban {
        /// Whom.
        subject: Subject,
    },
    /// Everything that was granted before this moment is closed: the log of revocations no longer reaches back to what was
    /// missed.
    DisconnectAll {
        /// By the clock of this node.
        before: Moment,
    },
    /// Another node asks for the members here; [`Request::Answer`] answers.
    Asked {
        /// Who asks.
        from: NodeId,
        /// Which question.
        question: u64,
        /// Of what.
        topic: Topic,
    },
    /// The answer to [`Request::Count`], without what is on this node.
    Counted {
        /// As it was asked.
        ticket: u64,
        /// The connections on other nodes.
        connections: Vec<(NodeId, u64)>,
        /// Nodes that did not answer in time.
        missing: u32,
    },
    /// The cluster can be reached, or cannot.
    Reachable(bool),
}

/// As many connections of a user are open as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserFull {
    /// How many are open, on all nodes.
    pub open: u32,
}

/// What is asked of Redis. Those of one node are carried out in their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// This node is there. Answered by [`Reply::Beat`].
    Beat {
        /// Who.
        node: NodeId,
        /// For how long.
        lease_ms: u64,
        /// The members this node knows of; 0: none.
        version: u64,
        /// What the database is known by if it has no mark yet.
        mark: u64,
    },
    /// This node goes.
    Leave {
        /// Who.
        node: NodeId,
    },
    /// One more connection of a user on this node. Answered by [`Reply::Entered`].
    Enter {
        /// Who asks.
        node: NodeId,
        /// Whose.
        user: Arc<str>,
        /// At most so many on all nodes.
        most: u32,
        /// Nodes that are no more: what is noted of them is dropped first, their buckets counted as full (`full`).
        gone: Vec<NodeId>,
        /// What a node that is gone may have passed: full buckets.
        full: Vec<Level>,
        /// How long what is noted of the user is kept unless it is touched.
        keep_ms: u64,
    },
    /// One connection less. The last one of a node leaves its levels. No answer matters.
    Exit {
        /// Who.
        node: NodeId,
        /// Whose.
        user: Arc<str>,
        /// What is in the buckets here, if the node held them alone.
        levels: Vec<Level>,
        /// As in [`Op::Enter`].
        keep_ms: u64,
    },
    /// So many connections of a user are on this node: after a gap, whatever was noted. Answered by [`Reply::Entered`], never full.
    /// With 0 connections this is the exit of the last one: the node holds nothing any more, the levels stay until they have leaked.
    Restore {
        /// Who.
        node: NodeId,
        /// Whose.
        user: Arc<str>,
        /// How many.
        connections: u32,
        /// What is in the buckets here.
        levels: Vec<Level>,
        /// As in [`Op::Enter`].
        keep_ms: u64,
    },
    /// The node that held a user alone gives its buckets to all. Answered by [`Reply::Levels`].
    Share {
        /// Who.
        node: NodeId,
        /// Whose.
        user: Arc<str>,
        /// What is in the buckets here.
        levels: Vec<Level>,
    },
    /// What passed here since the last report. Answered by [`Reply::Levels`]. Of a node that nothing is noted of, nothing is: it restores
    /// the user, with its levels.
    Report {
        /// Who.
        node: NodeId,
        /// Whose.
        user: Arc<str>,
        /// What passed, by scope; `units` and `bytes` may be 0. It is added to what is there.
        used: Vec<Level>,
        /// How full the buckets are at least, before that.
        least: Vec<Level>,
    },
    /// The node that held the user alone does not answer: its buckets count as full. Answered by [`Reply::Levels`]. If `from` does not
    /// own the user (any more), no bucket changes; if it is gone, its connections are dropped all the same.
    TakeOver {
        /// Who asks.
        node: NodeId,
        /// Whose.
        user: Arc<str>,
        /// Who does not answer.
        from: NodeId,
        /// Whether it is no more: then its connections are dropped, too.
        is_gone: bool,
        /// Full buckets.
        full: Vec<Level>,
    },
    /// What is noted of these users is kept for longer. Missing ones are answered by [`Reply::Touched`].
    Touch {
        /// Whose.
        users: Vec<Arc<str>>,
        /// For how long.
        keep_ms: u64,
    },
    /// Which of these users are noted for which of these nodes, that are no more. Answered by [`Reply::Found`].
    Find {
        /// Whose.
        users: Vec<Arc<str>>,
        /// Of whom.
        nodes: Vec<NodeId>,
    },
    /// A revocation, for the log.
    Disconnect {
        /// Who.
        user: Arc<str>,
        /// By whom.
        node: NodeId,
    },
    /// A ban, for the table and the log.
    Ban {
        /// Whom, as [`Subject`] is displayed.
        subject: Subject,
        /// For how long; `None`: until it is lifted.
        for_ms: Option<u64>,
        /// Why.
        reason: Arc<str>,
        /// By whom.
        node: NodeId,
    },
    /// A ban is lifted.
    Unban {
        /// Whom.
        subject: Subject,
        /// By whom.
        node: NodeId,
    },
    /// All bans, and where the log is. Answered by [`Reply::Bans`].
    LoadBans,
    /// What the log has behind this entry (`ms`, `sequence`), at most 256 entries. Answered by [`Reply::Log`].
    ReadLog {
        /// The last entry that this node has.
        after: LogId,
    },
    /// Sends bytes to a topic. Answered by [`Reply::Published`].
    Publish {
        /// Where.
        topic: Topic,
        /// The bytes of a message between nodes.
        bytes: Arc<[u8]>,
    },
    /// Hears a topic from now on. Answered by [`Reply::Subscribed`].
    Subscribe {
        /// Which.
        topic: Topic,
    },
    /// Hears a topic no more.
    Unsubscribe {
        /// Which.
        topic: Topic,
    },
}

impl Op {
    /// For a log line.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Beat { .. } => "beat",
            Op::Leave { .. } => "leave",
            Op::Enter { .. } => "enter",
            Op::Exit { .. } => "exit",
            Op::Restore { .. } => "restore",
            Op::Share { .. } => "share",
            Op::Report { .. } => "report",
            Op::TakeOver { .. } => "take_over",
            Op::Touch { .. } => "touch",
            Op::Find { .. } => "find",
            Op::Disconnect { .. } => "disconnect",
            Op::Ban { .. } => "ban",
            Op::Unban { .. } => "unban",
            Op::LoadBans => "load_bans",
            Op::ReadLog { .. } => "read_log",
            Op::Publish { .. } => "publish",
            Op::Subscribe { .. } => "subscribe",
            Op::Unsubscribe { .. } => "unsubscribe",
        }
    }
}

/// An entry of the log: milliseconds of Redis, and a number among those.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogId(pub u64, pub u64);

/// Who owns the buckets of a user.
#[derive(Clone, Debug, PartialEq)]
pub enum Ownership {
    /// This node alone: no other holds the user.
    Alone,
    /// All nodes that hold the user.
    Shared,
    /// All, once this node has given its buckets: until then nothing more passes than one lease. The node that asked itself: others
    /// wait for its [`Op::Share`], or have passed something meanwhile.
    Awaits(NodeId),
}

/// What Redis answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To [`Op::Beat`].
    Beat {
        /// Its clock.
        now: StoreTime,
        /// What the database is known by: another one is empty of what was noted.
        mark: u64,
        /// Counts changes of the members.
        version: u64,
        /// Whether this node was still noted.
        was_member: bool,
        /// The members, if they are not those of the version that was asked with.
        members: Option<Vec<NodeId>>,
        /// The last entry of the log.
        log: LogId,
    },
    /// To [`Op::Enter`] and [`Op::Restore`].
    Entered {
        /// Its clock.
        now: StoreTime,
        /// `Err`: no place; nothing was noted.
        outcome: Result<(), UserFull>,
        /// Who else holds the user, with how many connections.
        others: Vec<(NodeId, u32)>,
        /// Whose the buckets are.
        ownership: Ownership,
        /// What is in the buckets.
        levels: Vec<Level>,
    },
    /// To [`Op::Share`], [`Op::Report`] and [`Op::TakeOver`].
    Levels {
        /// Its clock.
        now: StoreTime,
        /// Whose the buckets are. [`Ownership::Awaits`]: a report was noted, but nothing more may pass yet.
        ownership: Ownership,
        /// What is in the buckets, with what was reported.
        levels: Vec<Level>,
        /// Whether the user is noted for this node at all; if not, it has to be restored.
        is_known: bool,
    },
    /// To [`Op::Touch`]: users that nothing was noted of any more.
    Touched(Vec<Arc<str>>),
    /// To [`Op::Find`]: what is noted of those nodes.
    Found(Vec<(Arc<str>, NodeId)>),
    /// To [`Op::LoadBans`].
    Bans {
        /// Its clock.
        now: StoreTime,
        /// What is in force: whom, until when (`None`: until it is lifted), why.
        bans: Vec<(Subject, Option<StoreTime>, Arc<str>)>,
        /// The last entry of the log at that time.
        log: LogId,
    },
    /// To [`Op::ReadLog`].
    Log {
        /// Its clock, not before the last entry.
        now: StoreTime,
        /// The oldest entry that is still there; later than `after`: some were missed.
        oldest: LogId,
        /// What is behind, in order.
        entries: Vec<(LogId, Entry)>,
    },
    /// To [`Op::Publish`]: how many connections to Redis hear the topic, where Redis can tell.
    Published(Option<u32>),
    /// To [`Op::Subscribe`]: from now on.
    Subscribed,
    /// To those without an answer of their own.
    Done,
    /// It was not carried out, or nobody knows: the connection broke, a time-out, an error of Redis (in words, without secrets).
    Failed(Arc<str>),
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// `disconnect_user`, at the time of the entry.
    Disconnect {
        /// Who.
        user: Arc<str>,
        /// By whom.
        node: NodeId,
    },
    /// A ban.
    Ban {
        /// Whom.
        subject: Subject,
        /// Until when.
        until: Option<StoreTime>,
        /// Why.
        reason: Arc<str>,
        /// By whom.
        node: NodeId,
    },
    /// A ban is lifted.
    Unban {
        /// Whom.
        subject: Subject,
        /// By whom.
        node: NodeId,
    },
    /// Of a later version: passed over.
    Unknown,
}

/// The buckets of users on this node. [`Limits`](crate::limits::Limits) keeps them.
///
/// While a user is shared, what passes here is counted until it is reported, and at most a lease (a quarter of what is left of
/// `burst`) passes that Redis has not heard of and answered: further messages wait. What the buckets hold is what Redis said last, and what passed here since.
pub trait Buckets: Send + Sync {
    /// Whether other nodes draw on the buckets of this user, too. Buckets of it that are made later are like this as well.
    fn share(&self, user: &str, is_shared: bool, now: Moment);

    /// What is in the buckets of a user now, scope by scope.
    fn levels(&self, user: &str, now: Moment) -> Vec<Level>;

    /// The same if they were full.
    fn full(&self, user: &str) -> Vec<Level>;

    /// Users that are shared and have something to report: each once until it is asked for.
    fn take_dirty(&self) -> Vec<Arc<str>>;

    /// What passed since the last report. It counts as on its way until [`settle`](Self::settle) or [`lose`](Self::lose).
    fn take_unreported(&self, user: &str, now: Moment) -> Vec<Level>;

    /// How full the buckets are at least, where Redis was not told: after a reload by what passed on a route or by a key that was
    /// another's before. On its way as what passed is.
    fn take_least(&self, user: &str, now: Moment) -> Vec<Level>;

    /// Redis has heard what was on its way. The buckets hold this much, and what passed since. Without `acknowledges` (the owner's
    /// levels are awaited) what was on its way still counts against the lease.
    fn settle(&self, user: &str, levels: &[Level], acknowledges: bool, now: Moment);

    /// What was on its way is to be reported again.
    fn lose(&self, user: &str);

    /// Somebody whose node held nothing before comes with these levels: the buckets are at least as full.
    fn raise(&self, user: &str, levels: &[Level], now: Moment);
}
