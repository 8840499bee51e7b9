//! A shard: one thread, one runtime, and every connection that lives on it.
//!
//! Its state is thread-local, so that a connection is nothing but a slot number and its waker: no lock and no task of its
//! own. Everything that happens to a connection is a *turn*: borrow the shard's scratch,
//! let the state machine work, write once, re-arm its deadline.

mod admitted;
mod banning;
mod execute;
mod reading;
mod reload;
mod run_queue;
mod timers;
mod turn;
mod turn_sink;

pub(super) use execute::run_commands;
pub(super) use reload::rate_key;
pub(super) use run_queue::run_connections;
pub(super) use timers::run_timers;

use std::cell::RefCell;
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};

use self::admitted::RecentlyAdmitted;
use self::banning::Walk;
use self::run_queue::{RunQueue, SessionWaker};
use self::timers::Timer;
use self::turn_sink::TurnSink;
use super::accepted::Accepted;
use super::caught::caught;
use super::commands::CommandBuffer;
use super::events::Open;
use super::handshake_id::HandshakeId;
use super::ids::ConnectionId;
use super::inbox_shares::Shares;
use super::level::HeldOne;
use super::log::{Opened, Proof, Subject};
use super::mailbox::ShardMailbox;
use super::nodes::Entered;
use super::outbox::Pool;
use super::session::{LetIn, Session, Unread};
use super::slot_guard::SlotPool;
use super::state::{Effect, ServerState};
use super::stats::add;
use super::stream::Stream;
use super::tally::Tally;
use wsguard_proto::config::{Admitted, Policy, PolicySet};
use wsguard_proto::connection::{Connection, Ending, Opened as ConnectionParams, Report};
use wsguard_proto::contract::Scratch;
use wsguard_proto::deflate::Deflate;
use wsguard_proto::limits::Seat;
use wsguard_proto::time::Moment;
use wsguard_proto::verdict::Code;

/// The buffer that every read of the shard goes to, and the most one connection reads in a turn.
const SCRATCH_BYTES: usize = 256 * 1024;
/// TLS handshakes and signatures before everything else has its turn.
const EXPENSIVE_STEPS_PER_TURN: usize = 8;
/// How long buffers are kept that no connection is there to need.
const IDLE_BUFFERS_MS: u64 = 60_000;

thread_local! {
    static SHARD: RefCell<Option<Shard>> = const { RefCell::new(None) };
}

/// Lets `act` work on the shard of this thread.
///
/// Only called on shard threads and never inside itself: handlers of the application post commands instead. Without a shard
/// nothing is done, which is a mistake of ours.
pub(super) fn with_shard<R: Default>(act: impl FnOnce(&mut Shard) -> R) -> R {
    let done = try_with_shard(act);
    debug_assert!(done.is_some(), "this thread has no shard");
    done.unwrap_or_default()
}

/// As [`with_shard`] where the shard may be gone; `None`: it is.
fn try_with_shard<R>(act: impl FnOnce(&mut Shard) -> R) -> Option<R> {
    SHARD.with_borrow_mut(|slot| slot.as_mut().map(act))
}

/// Installs the shard of this thread.
pub(super) fn install(shard: Shard) {
    SHARD.with_borrow_mut(|slot| *slot = Some(shard));
}

/// Whether this is the thread of a shard.
pub(super) fn is_here() -> bool {
    // Borrowed: the shard is at work, and calls what the application gave it.
    SHARD.with(|shard| shard.try_borrow().map_or(true, |shard| shard.is_some()))
}

/// Whether the shard's work is over, and not only broken off.
pub(super) fn has_stopped() -> bool {
    with_shard(|shard| shard.stopped)
}

/// Returns when the shard of this thread does its last: what a handshake waits for does not come, and its peer is to be answered.
pub(super) async fn last_turns(state: &ServerState, index: usize) {
    let mailbox = &state.shards[index];
    let _waits = mailbox.waiting.hold_one();
    // Made first: it hears of what comes from here on.
    let last_turns = mailbox.last_turns.notified();
    if !has_stopped() {
        last_turns.await;
    }
}

/// Removes the shard of this thread with all its connections, whatever state they are in, and tells of their end.
pub(super) fn remove() {
    let Some(shard) = SHARD.with_borrow_mut(Option::take) else { return };
    shard.run_queue.close();
    let (state, slots, index) = (Arc::clone(&shard.state), Rc::clone(&shard.slots), shard.index);
    drop(shard);
    let mut writing = state.write_events(index);
    for conn in slots.take_lost() {
        writing.push_change(|batch| batch.push_close(conn, &broken()));
    }
}

/// How a connection ends that a fault of ours has ended.
fn broken() -> Ending {
    Ending::ours(Code::Internal.close_code(), Code::Internal.reason(), Some(Code::Internal))
}

/// Waits until expensive work may be done: a storm of handshakes does not starve open connections. All other tasks of the shard
/// have a turn before the next few steps. Work that is done without waiting in between is counted afterwards, by
/// [`count_expensive_step`].
pub(super) async fn expensive_turn() {
    while let Some(round) = with_shard(Shard::next_round) {
        tokio::task::yield_now().await;
        drop(round);
    }
}

/// Counts expensive work of this round.
pub(super) fn count_expensive_step() {
    with_shard(|shard| shard.expensive_steps += 1);
}

/// Waits for the turn of expensive work that is done in any case.
pub(super) async fn expensive_step() {
    expensive_turn().await;
    count_expensive_step();
}

/// The first that has to wait in a round of expensive work; after everybody has had a turn, its end begins the next round.
struct NextRound {
    is_first: bool,
}

impl Drop for NextRound {
    fn drop(&mut self) {
        if self.is_first {
            // A handshake may outlive its shard, whose runtime drops it last.
            try_with_shard(|shard| (shard.expensive_steps, shard.round_ends) = (0, false));
        }
    }
}

/// What a shard needs to take on an open connection.
pub(super) struct NewSession {
    pub(super) hs: HandshakeId,
    pub(super) stream: Stream,
    pub(super) params: ConnectionParams,
    pub(super) policy: Arc<Policy>,
    pub(super) admitted: Admitted,
    pub(super) seat: Seat,
    pub(super) ip: Option<IpAddr>,
    pub(super) peer: Option<IpAddr>,
    /// The revocation that was the last when it was let in.
    pub(super) granted: u64,
    /// The 101, not yet sent.
    pub(super) head: Vec<u8>,
    /// Bytes received behind the request head.
    pub(super) received: Vec<u8>,
    /// Its part in the load of the shard.
    pub(super) load: HeldOne,
    /// The place of its user on all nodes of the cluster.
    pub(super) entered: Option<Entered>,
}

/// The state of this thread.
pub(super) struct Shard {
    state: Arc<ServerState>,
    set: Arc<PolicySet>,
    /// The slot that a reload looks at next.
    reloading_at: Option<usize>,
    banning: Option<Walk>,
    index: usize,
    run_queue: Arc<RunQueue>,
    sessions: Vec<Option<Box<Session>>>,
    slots: Rc<SlotPool>,
    shares: Rc<Shares>,
    admitted: RecentlyAdmitted,
    scratch: Vec<u8>,
    /// What the connection says that has its turn: lent to it (`turn`), and empty in between.
    out: Vec<u8>,
    pool: Pool,
    json: Scratch,
    /// For compressed messages of all its connections.
    deflate: Deflate,
    commands: CommandBuffer,
    /// Frames of one command, compressed; empty in between.
    compressed: Vec<u8>,
    /// Connections that came by commands, for the task that takes them through their opening handshakes.
    accepted: Vec<Accepted>,
    touched: Vec<u32>,
    starved: Vec<ConnectionId>,
    timers: BinaryHeap<Timer>,
    /// When the timer task wakes by itself.
    timer_wakes_at: Moment,
    timer_task: Option<Waker>,
    /// When buffers go that nobody needs.
    free_buffers_at: Moment,
    events_added: bool,
    flush_task: Option<Waker>,
    /// Expensive work done in this round, and whether somebody waits for the next.
    expensive_steps: usize,
    round_ends: bool,
    /// The latest end of a drain that has begun.
    drain_until: Option<Moment>,
    /// The last batch whose answers were carried out when a draining shard looked.
    answered: u64,
    stopped: bool,
}

impl Shard {
    pub(super) fn new(state: Arc<ServerState>, index: usize) -> Self {
        Self {
            slots: SlotPool::new(Arc::clone(&state), index),
            shares: Shares::new(Arc::clone(&state), index),
            set: state.set(),
            reloading_at: None,
            banning: None,
            state,
            index,
            run_queue: Arc::default(),
            sessions: Vec::new(),
            admitted: RecentlyAdmitted::default(),
            scratch: vec![0; SCRATCH_BYTES],
            out: Vec::new(),
            pool: Pool::default(),
            json: Scratch::new(),
            deflate: Deflate::default(),
            commands: CommandBuffer::default(),
            compressed: Vec::new(),
            accepted: Vec::new(),
            touched: Vec::new(),
            starved: Vec::new(),
            timers: BinaryHeap::new(),
            timer_wakes_at: Moment::NEVER,
            timer_task: None,
            free_buffers_at: Moment::NEVER,
            events_added: false,
            flush_task: None,
            expensive_steps: 0,
            round_ends: false,
            drain_until: None,
            answered: 0,
            stopped: false,
        }
    }

    fn mailbox(&self) -> &ShardMailbox {
        &self.state.shards[self.index]
    }

    /// The next round of expensive work, where this one's steps are used up.
    fn next_round(&mut self) -> Option<NextRound> {
        // At the end nobody else waits, and who is put off is not answered.
        if self.stopped || self.expensive_steps < EXPENSIVE_STEPS_PER_TURN {
            return None;
        }
        Some(NextRound { is_first: !core::mem::replace(&mut self.round_ends, true) })
    }

    /// Takes on a connection whose handshake is over. It is dropped where the shard has stopped or has no slot left.
    pub(super) fn adopt(&mut self, new: NewSession, proof: Proof, open_event: impl FnOnce(ConnectionId) -> Open) {
        if self.stopped {
            return;
        }
        let Some(mut slot) = self.slots.take(new.policy.protocol) else { return };
        let id = slot.id();
        let index = id.slot() as usize;
        if self.sessions.len() <= index {
            self.sessions.resize_with(index + 1, || None);
        }
        let now = self.state.clock.now();
        let NewSession { hs, stream, params, policy, admitted, seat, ip, peer, granted, head, received, load, entered } =
            new;
        slot.keep_load(load);
        slot.bound(policy.max_outbox_bytes);
        add(&self.mailbox().stats.bytes_in, received.len() as u64);
        let mut outbox = self.pool.take_outbox();
        outbox.push(&head, &mut self.pool);
        let mut conn = Connection::new(&policy, params, now);
        conn.set_auto_pong(!self.state.leaves_pings);
        let mut session = Box::new(Session {
            id,
            hs,
            conn,
            policy,
            let_in: self.admitted.share(LetIn::new(admitted, ip, peer)),
            stream,
            outbox: Some(outbox),
            waker: SessionWaker::waker(&self.run_queue, id.slot(), id.generation()),
            timer_at: Moment::NEVER,
            drain_at: if self.drain_until.is_some() { now } else { Moment::NEVER },
            last_batch: 0,
            share: self.shares.enter(seat.user(), ip),
            seat,
            _entered: entered,
            tally: Tally::begin(head.len(), received.len()),
            ip,
            granted,
            unread: Unread::new(received),
            slot,
            must_flush: false,
            ended_writing: false,
            starved: false,
            is_listed: false,
            paused: false,
            is_draining: false,
            touched: false,
        });
        if let Some(user) = session.seat.user() {
            self.state.directory.enter_user(user, id);
        }
        let mut sink = TurnSink::new(&self.state, id, &session.policy.contract, Subject::default(), 0);
        let open = open_event(id);
        let opened = Opened { route: open.route.as_deref(), subprotocol: open.subprotocol.as_deref(), proof };
        let subject = Subject { hs: Some(hs), ip, peer, user: open.user.as_deref(), conn: Some(id) };
        self.state.audit.open(subject, &session.policy, opened, now);
        sink.push_open(open);
        session.slot.open_was_told();
        if let Some(added) = sink.finish() {
            session.share.add(added.batch, added.bytes);
            session.last_batch = added.answerable;
        }
        self.events_came();
        session.waker.wake_by_ref();
        self.sessions[index] = Some(session);
    }

    /// Lets `act` do its work. A fault of ours costs the connection it held, and neither the shard nor what comes next.
    fn shielded<R>(&mut self, act: impl FnOnce(&mut Self) -> R) -> Option<R> {
        let result = caught(|| act(self));
        if result.is_none() {
            self.recover();
        }
        result
    }

    /// After a fault of ours: what the shard lends to a turn is made anew, then the close of each lost connection is told.
    fn recover(&mut self) {
        self.scratch.resize(SCRATCH_BYTES, 0);
        self.json = Scratch::new();
        self.deflate = Deflate::default();
        let mut lost = self.slots.take_lost().into_iter().map(Some).collect::<Vec<_>>();
        if lost.is_empty() {
            lost.push(None);
        }
        for conn in lost {
            let subject = Subject { conn, ..Subject::default() };
            let detail = "a fault of the server's own; the shard goes on";
            let report = Report { code: Code::Internal, event: None, detail };
            let _ = caught(|| {
                let effect = if conn.is_some() { Effect::Ends } else { Effect::Refuses };
                self.state.report_elsewhere(self.index, &report, subject, effect, |events| {
                    let _ = conn.map(|conn| events.push_close(conn, &broken()));
                });
            });
        }
    }

    /// When the last connection has left, its buffers are kept for a while.
    fn free_buffers_later(&mut self, now: Moment) {
        if self.slots.open() == 0 {
            self.free_buffers_at = now.after_millis(IDLE_BUFFERS_MS);
            self.wake_timers_for(self.free_buffers_at);
        }
    }

    /// Nobody has been here for a while: gives back what was kept for the next.
    fn free_buffers(&mut self) {
        self.free_buffers_at = Moment::NEVER;
        if self.slots.open() > 0 {
            return;
        }
        self.slots.shrink();
        self.shares.shrink();
        self.sessions = Vec::new();
        self.admitted = RecentlyAdmitted::default();
        self.timers = BinaryHeap::new();
        self.pool = Pool::default();
        self.json = Scratch::new();
        self.deflate = Deflate::default();
        (self.out, self.touched, self.starved) = (Vec::new(), Vec::new(), Vec::new());
        (self.commands, self.compressed) = (CommandBuffer::default(), Vec::new());
        self.state.shrink(self.index);
    }

    /// A draining server stops when its last connection is gone: until then every shard answers newcomers with 503.
    fn stop_when_drained(&mut self) {
        if self.drain_until.is_some() && self.state.open.load(Ordering::Acquire) == 0 {
            self.stopped = true;
            self.mailbox().commands_arrived.notify_one();
        }
    }

    fn events_came(&mut self) {
        if !self.events_added {
            self.events_added = true;
            if let Some(task) = &self.flush_task {
                task.wake_by_ref();
            }
        }
    }
}

/// Wakes the application once for all events of the connections that were ready together: this task runs after them.
///
/// Where the application shares the core with the shard its answers are there as soon as it was woken: the shard looks
/// for them before it sleeps, and spares it the call that would wake the shard.
pub(super) async fn wake_application() {
    std::future::poll_fn(|cx| {
        with_shard(|shard| {
            if shard.flush_task.is_none() {
                shard.flush_task = Some(cx.waker().clone());
            }
            if core::mem::take(&mut shard.events_added) {
                shard.mailbox().expect_commands();
                shard.state.waker.wake();
                shard.run_commands_elsewhere();
            }
        });
        Poll::<()>::Pending
    })
    .await;
}

#[cfg(test)]
mod tests;
