//! A shard: one thread, one runtime, and every connection that lives on it.
//!
//! Its state is thread-local, so that a connection is nothing but a slot number and its waker: no lock and no task of its
//! own. Everything that happens to a connection is a *turn*: borrow the shard's scratch,
//! let the state machine work, write once, re-arm its deadline.

mod carry;
mod ready;

pub(super) use carry::carry_out;
pub(super) use ready::run_connections;

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use self::ready::{Ready, SessionWaker};
use super::commands::CommandBuffer;
use super::events::Open;
use super::ids::{ConnectionId, MAX_SLOTS};
use super::log::Subject;
use super::outbox::Pool;
use super::session::Session;
use super::shared::{Remote, Shared};
use super::sink::TurnSink;
use super::stats::{add, shift};
use super::stream::Stream;
use crate::connection::{Connection, Ending, Opened, Phase, Report, Turn};
use crate::contract::Scratch;
use crate::limits::Seat;
use crate::rooms::Rooms;
use crate::time::Moment;
use crate::verdict::Code;

/// The buffer that every read of the shard goes to, and the most one connection reads in a turn.
const SCRATCH_BYTES: usize = 256 * 1024;
/// Messages and control frames of one connection in a turn.
const MESSAGES_PER_TURN: usize = 1024;
/// Output is written early when a turn makes more than this.
const CORK_BYTES: usize = 64 * 1024;
/// TLS handshakes and signatures before everything else has its turn.
const EXPENSIVE_STEPS_PER_TURN: usize = 8;

thread_local! {
    static SHARD: RefCell<Option<Shard>> = const { RefCell::new(None) };
}

/// The shard of this thread.
///
/// Only called on shard threads and never inside itself: handlers of the application post commands instead.
pub(super) fn with_shard<R: Default>(act: impl FnOnce(&mut Shard) -> R) -> R {
    SHARD.with_borrow_mut(|slot| slot.as_mut().map(act).unwrap_or_default())
}

/// Installs the shard of this thread, or removes it.
pub(super) fn install(shard: Option<Shard>) {
    let previous = SHARD.with_borrow_mut(|slot| core::mem::replace(slot, shard));
    if let Some(previous) = previous {
        previous.ready.close();
    }
}

/// Waits until expensive work may be done: a storm of handshakes does not starve open connections.
pub(super) async fn expensive_step() {
    let spent = with_shard(|shard| {
        shard.expensive_steps += 1;
        shard.expensive_steps > EXPENSIVE_STEPS_PER_TURN
    });
    if spent {
        tokio::task::yield_now().await;
        with_shard(|shard| {
            if shard.expensive_steps > EXPENSIVE_STEPS_PER_TURN {
                shard.expensive_steps = 0;
            }
        });
    }
}

/// An entry of the timers: when, and for which slot and generation.
type Timer = Reverse<(Moment, u32, u32)>;

/// What a shard needs to take on an open connection.
pub(super) struct Newcomer {
    pub(super) stream: Stream,
    pub(super) opened: Opened,
    pub(super) seat: Seat,
    pub(super) ip: Option<IpAddr>,
    pub(super) peer: Option<IpAddr>,
    /// The revocation that was the last when it was let in.
    pub(super) granted: u64,
    /// The 101, not yet sent.
    pub(super) head: Vec<u8>,
    /// Bytes received behind the request head.
    pub(super) received: Vec<u8>,
}

/// The state of this thread.
pub(super) struct Shard {
    shared: Arc<Shared>,
    index: usize,
    ready: Arc<Ready>,
    sessions: Vec<Option<Box<Session>>>,
    generations: Vec<u32>,
    free: Vec<u32>,
    open: usize,
    scratch: Vec<u8>,
    out: Vec<u8>,
    pool: Pool,
    json: Scratch,
    rooms: Rooms,
    commands: CommandBuffer,
    touched: Vec<u32>,
    starved: Vec<ConnectionId>,
    timers: BinaryHeap<Timer>,
    /// When the timer task wakes by itself.
    timer_wakes_at: Moment,
    timer_task: Option<Waker>,
    events_added: bool,
    flush_task: Option<Waker>,
    expensive_steps: usize,
    /// The latest end of a drain that has begun.
    drain_until: Option<Moment>,
    stopped: bool,
}

impl Shard {
    pub(super) fn new(shared: Arc<Shared>, index: usize) -> Self {
        Self {
            shared,
            index,
            ready: Arc::default(),
            sessions: Vec::new(),
            generations: Vec::new(),
            free: Vec::new(),
            open: 0,
            scratch: vec![0; SCRATCH_BYTES],
            out: Vec::new(),
            pool: Pool::default(),
            json: Scratch::new(),
            rooms: Rooms::default(),
            commands: CommandBuffer::default(),
            touched: Vec::new(),
            starved: Vec::new(),
            timers: BinaryHeap::new(),
            timer_wakes_at: Moment::NEVER,
            timer_task: None,
            events_added: false,
            flush_task: None,
            expensive_steps: 0,
            drain_until: None,
            stopped: false,
        }
    }

    fn remote(&self) -> &Remote {
        &self.shared.shards[self.index]
    }

    /// Whether the shard's work is over.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Takes a session out of its slot for a turn; `None`: it has ended.
    fn take(&mut self, slot: u32, generation: u32) -> Option<Box<Session>> {
        if self.generations.get(slot as usize) != Some(&generation) {
            return None;
        }
        self.sessions[slot as usize].take()
    }

    fn take_id(&mut self, id: ConnectionId) -> Option<Box<Session>> {
        self.take(id.slot(), id.generation())
    }

    /// Takes on a connection whose handshake is over; whether there was a slot for it.
    pub(super) fn adopt(&mut self, newcomer: Newcomer, told: impl FnOnce(ConnectionId) -> Open) -> bool {
        let Some((slot, generation)) = self.take_slot() else { return false };
        let id = ConnectionId::new(self.index, slot, generation);
        let now = self.shared.clock.now();
        let Newcomer { stream, opened, seat, ip, peer, granted, head, received } = newcomer;
        let mut outbox = self.pool.take_outbox();
        outbox.push(&head, &mut self.pool);
        let mut session = Box::new(Session {
            id,
            conn: Connection::new(&self.shared.policy, opened, now),
            stream,
            outbox: Some(outbox),
            waker: SessionWaker::waker(&self.ready, slot, generation),
            timer_at: Moment::NEVER,
            drain_at: if self.drain_until.is_some() { now } else { Moment::NEVER },
            last_batch: 0,
            batch_bytes: 0,
            seat,
            ip,
            peer,
            granted,
            unread: (!received.is_empty()).then(|| Box::new(received)),
            rooms: None,
            counted_unsent: 0,
            counted_delayed: 0,
            must_flush: false,
            ended_writing: false,
            starved: false,
            paused: false,
            touched: false,
        });
        let mut sink = TurnSink::new(&self.shared, id, Subject::default(), 0);
        sink.batch().push_open(told(id));
        (session.last_batch, session.batch_bytes) = sink.finish();
        self.events_came();
        self.open += 1;
        self.shared.open.fetch_add(1, Ordering::AcqRel);
        add(&self.remote().stats.open, 1);
        add(&self.remote().stats.opened_total, 1);
        session.waker.wake_by_ref();
        self.sessions[slot as usize] = Some(session);
        true
    }

    fn take_slot(&mut self) -> Option<(u32, u32)> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = self.sessions.len();
                if slot >= self.remote().slots.capacity().min(MAX_SLOTS) {
                    return None;
                }
                self.sessions.push(None);
                self.generations.push(0);
                slot as u32
            }
        };
        let generation = &mut self.generations[slot as usize];
        *generation = generation.wrapping_add(1).max(1);
        let generation = *generation;
        self.remote().slots.make(slot)?.generation.store(generation, Ordering::Release);
        Some((slot, generation))
    }

    /// Ends a session: everything that names it is gone when this returns.
    fn remove(&mut self, session: Box<Session>) {
        let slot = session.id.slot();
        for room in session.rooms.iter().flat_map(|rooms| rooms.iter()) {
            self.rooms.leave(room, slot);
        }
        let remote = &self.shared.shards[self.index];
        if let Some(slot) = remote.slots.get(slot) {
            slot.close();
        }
        shift(&remote.stats.outbox_bytes, session.counted_unsent.into(), 0);
        shift(&remote.stats.delayed, session.counted_delayed.into(), 0);
        self.free.push(slot);
        drop(session);
        self.one_less();
    }

    fn one_less(&mut self) {
        self.open -= 1;
        add(&self.remote().stats.open, u64::MAX);
        self.remote().load.fetch_sub(1, Ordering::Relaxed);
        let last = self.shared.open.fetch_sub(1, Ordering::AcqRel) == 1;
        if last && self.drain_until.is_some() {
            for remote in &self.shared.shards {
                remote.post(CommandBuffer::resume);
            }
        }
    }

    /// After a fault of ours in a connection's turn, which has dropped it: the application hears of it, and the shard
    /// goes on. Its slot is not used again, because a room may still name it.
    fn recover(&mut self, slot: u32, generation: u32) {
        tracing::error!(target: "wsguard", shard = self.index, "a connection's turn failed; the shard goes on");
        self.out.clear();
        self.scratch.resize(SCRATCH_BYTES, 0);
        let conn = ConnectionId::new(self.index, slot, generation);
        if self.sessions[slot as usize].is_some() {
            return;
        }
        if let Some(slot) = self.remote().slots.get(slot) {
            slot.close();
        }
        let (code, reason) = (Code::Internal.close_code(), Code::Internal.reason().to_owned());
        self.shared.tell(self.index, |events| events.push_close(conn, &Ending { code, reason, clean: false }));
        self.one_less();
    }

    /// A draining server stops when its last connection is gone: until then every shard answers newcomers with 503.
    fn stop_when_drained(&mut self) {
        if self.drain_until.is_some() && self.shared.open.load(Ordering::Acquire) == 0 {
            self.stopped = true;
            self.remote().commands_arrived.notify_one();
        }
    }

    /// One turn of a connection: `act` on the state machine, and keep what it says.
    fn turn<R>(
        &mut self,
        session: &mut Session,
        now: Moment,
        act: impl FnOnce(&mut Connection, &mut Turn<'_>) -> R,
    ) -> R {
        let Shard { shared, out, pool, json, .. } = self;
        let Session { id, conn, seat, ip, peer, outbox, last_batch, .. } = session;
        let subject = Subject { ip: *ip, peer: *peer, user: seat.user().map(|user| &**user), conn: Some(*id) };
        let mut sink = TurnSink::new(shared, *id, subject, *last_batch);
        let result = act(
            conn,
            &mut Turn {
                policy: &shared.policy,
                now,
                out,
                pool: &mut pool.buffers,
                scratch: json,
                congested: outbox.is_some(),
                message_budget: MESSAGES_PER_TURN,
                sink: &mut sink,
            },
        );
        if let Some(ending) = conn.take_ending() {
            sink.batch().push_close(*id, &ending);
        }
        let messages = sink.messages;
        let (batch, added) = sink.finish();
        if messages > 0 {
            add(&shared.shards[self.index].stats.messages_in, messages);
        }
        if added > 0 {
            session.batch_bytes = if batch == session.last_batch { session.batch_bytes + added } else { added };
            session.last_batch = batch;
            self.events_came();
        }
        result
    }

    fn events_came(&mut self) {
        if !self.events_added {
            self.events_added = true;
            if let Some(task) = &self.flush_task {
                task.wake_by_ref();
            }
        }
    }

    /// Runs a connection because its socket is ready, or because there is something left to do.
    fn run_session(&mut self, slot: u32, generation: u32) {
        let Some(mut session) = self.take(slot, generation) else { return };
        let waker = session.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        let now = self.shared.clock.now();
        if session.outbox.is_some() || session.must_flush {
            self.write(&mut session, now, cx);
        }
        self.read(&mut session, now, cx);
        self.end_turn(session, now, cx);
    }

    /// Reads what has come, within the turn's budget.
    fn read(&mut self, session: &mut Session, now: Moment, cx: &mut Context<'_>) {
        let mut budget = SCRATCH_BYTES;
        let mut scratch = core::mem::take(&mut self.scratch);
        while session.conn.phase() != Phase::Dropped {
            if self.must_wait_for_the_application(session) {
                break;
            }
            if let Some(mut unread) = session.unread.take() {
                let used = self.turn(session, now, |conn, turn| conn.handle_input(&mut unread, turn));
                if used < unread.len() {
                    unread.drain(..used);
                    session.unread = Some(unread);
                    cx.waker().wake_by_ref();
                    break;
                }
                continue;
            }
            let len = match session.poll_read(cx, &mut scratch) {
                Poll::Pending => break,
                Poll::Ready(Ok(len)) if len > 0 => len,
                // Also without TLS's own goodbye: what came is whole messages or none.
                Poll::Ready(end) if end.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::UnexpectedEof) => {
                    self.turn(session, now, Connection::handle_half_close);
                    break;
                }
                Poll::Ready(_) => {
                    self.turn(session, now, Connection::handle_eof);
                    break;
                }
            };
            add(&self.remote().stats.bytes_in, len as u64);
            let used = self.turn(session, now, |conn, turn| conn.handle_input(&mut scratch[..len], turn));
            if used < len {
                session.unread = Some(Box::new(scratch[used..len].to_vec()));
            }
            if self.out.len() > CORK_BYTES {
                self.write(session, now, cx);
            }
            budget = budget.saturating_sub(len);
            if budget == 0 || session.unread.is_some() {
                cx.waker().wake_by_ref();
                break;
            }
        }
        self.scratch = scratch;
    }

    /// Back-pressure (THREATS S4): over half of `max_inbox_bytes` whoever has more than a fair share of the current
    /// batch is not read, when it is full nobody is.
    fn must_wait_for_the_application(&mut self, session: &mut Session) -> bool {
        if session.paused && session.conn.is_open() {
            return true;
        }
        let fill = self.shared.inbox_fill();
        if fill < 0.5 {
            return false;
        }
        let share = self.shared.policy.max_inbox_bytes / 2 / self.open.max(1);
        if !session.conn.is_open() || (fill < 1.0 && session.batch_bytes <= share) {
            return false;
        }
        self.remote().starved.store(true, Ordering::SeqCst);
        // The application may have made room just now, before it could see the mark.
        if self.shared.inbox_fill() < 0.5 {
            return false;
        }
        if !session.starved {
            session.starved = true;
            self.starved.push(session.id);
        }
        true
    }

    /// Writes what the turn made.
    fn write(&mut self, session: &mut Session, now: Moment, cx: &mut Context<'_>) {
        let was_congested = session.outbox.is_some();
        match session.write(cx, &mut self.out, &mut self.pool) {
            Ok(written) => {
                if written > 0 {
                    add(&self.remote().stats.bytes_out, written as u64);
                }
            }
            Err(_) => {
                self.out.clear();
                session.outbox = None;
                return self.turn(session, now, Connection::handle_eof);
            }
        }
        if was_congested && session.outbox.is_none() {
            self.drained(session, now);
        }
    }

    /// The outbox is empty again: what waited for that may go on.
    fn drained(&mut self, session: &mut Session, now: Moment) {
        self.turn(session, now, Connection::handle_drained);
    }

    /// Ends a turn: writes, checks the outbox, ends what is over, re-arms the deadline.
    fn end_turn(&mut self, mut session: Box<Session>, now: Moment, cx: &mut Context<'_>) {
        if !self.out.is_empty() {
            self.write(&mut session, now, cx);
        }
        let limit = self.shared.policy.max_outbox_bytes;
        if session.unsent_bytes() > limit && session.conn.is_open() {
            let detail = "unsent bytes over max_outbox_bytes";
            let report = Report { code: Code::SlowConsumer, event: None, detail };
            self.turn(&mut session, now, |conn, turn| conn.violate(&report, turn));
        }
        if !self.out.is_empty() {
            self.write(&mut session, now, cx);
        }
        match session.conn.phase() {
            Phase::Closed => session.end_writing(cx),
            Phase::Open | Phase::Parting | Phase::Doomed | Phase::Closing | Phase::Dropped => {}
        }
        // RFC 6455 section 7.1.1: once both sides have said goodbye, the server ends the connection.
        if session.ended_writing || session.conn.phase() == Phase::Dropped {
            self.out.clear();
            return self.remove(session);
        }
        self.count(&mut session);
        self.arm(&mut session);
        let slot = session.id.slot() as usize;
        self.sessions[slot] = Some(session);
    }

    /// Brings the shard's levels up to date.
    fn count(&mut self, session: &mut Session) {
        let remote = &self.shared.shards[self.index];
        let level = |stat: &AtomicU64, counted: &mut u32, now: usize| {
            shift(stat, u64::from(*counted), now as u64);
            *counted = now as u32;
        };
        let unsent = session.unsent_bytes();
        if unsent != session.counted_unsent as usize {
            level(&remote.stats.outbox_bytes, &mut session.counted_unsent, unsent);
            self.publish_unsent(session);
        }
        level(&remote.stats.delayed, &mut session.counted_delayed, session.conn.delayed_messages());
    }

    /// Publishes what is unsent, and tells the application, if it watches, that nothing is any more.
    fn publish_unsent(&self, session: &Session) {
        let id = session.id;
        let slot = self.remote().slots.get(id.slot());
        if slot.is_some_and(|slot| slot.publish(session.unsent_bytes() as u32)) && session.conn.is_open() {
            self.shared.tell(self.index, |events| events.push_drained(id));
        }
    }

    /// Makes sure that the timers wake the session in time. Deadlines mostly move away, and then this does nothing.
    fn arm(&mut self, session: &mut Session) {
        let deadline = session.conn.next_deadline(&self.shared.policy).min(session.drain_at);
        if deadline >= session.timer_at {
            return;
        }
        session.timer_at = deadline;
        self.timers.push(Reverse((deadline, session.id.slot(), session.id.generation())));
        if deadline < self.timer_wakes_at
            && let Some(task) = &self.timer_task
        {
            task.wake_by_ref();
        }
    }

    /// Runs every session whose time has come; returns when the next one is due.
    fn run_timers(&mut self) -> Moment {
        let now = self.shared.clock.now();
        while let Some(Reverse((at, slot, generation))) = self.timers.peek().copied() {
            if at > now {
                return at;
            }
            self.timers.pop();
            let Some(mut session) = self.take(slot, generation) else { continue };
            if session.timer_at != at {
                self.sessions[slot as usize] = Some(session);
                continue;
            }
            session.timer_at = Moment::NEVER;
            if session.starved || session.paused {
                session.conn.excuse(now);
            }
            if session.conn.next_deadline(&self.shared.policy) <= now {
                self.turn(&mut session, now, Connection::handle_deadline);
            }
            if session.drain_at <= now {
                self.drain_session(&mut session, now);
            }
            self.end_turn_elsewhere(session, now);
        }
        Moment::NEVER
    }

    /// Ends a turn that was not the socket's: it wakes the connection all the same.
    fn end_turn_elsewhere(&mut self, session: Box<Session>, now: Moment) {
        let waker = session.waker.clone();
        self.end_turn(session, now, &mut Context::from_waker(&waker));
    }
}

/// Keeps the timers: one tokio timer for the whole shard.
pub(super) async fn run_timers() {
    let clock = with_shard(|shard| Some(shard.shared.clock));
    let Some(clock) = clock else { return };
    let mut sleep = Box::pin(tokio::time::sleep(std::time::Duration::from_secs(3600)));
    std::future::poll_fn(move |cx| {
        loop {
            let next = with_shard(|shard| {
                shard.timer_task = Some(cx.waker().clone());
                let next = shard.run_timers();
                // An hour at most, so that the far end of time needs no special case.
                shard.timer_wakes_at = next.min(shard.shared.clock.now().after_millis(3_600_000));
                Some(shard.timer_wakes_at)
            });
            let Some(next) = next else { return Poll::Ready(()) };
            sleep.as_mut().reset(clock.instant(next));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
}

/// Wakes the application once for all events of the connections that were ready together: this task runs after them.
///
/// Where the application shares the core with the shard its answers are there as soon as it was woken: the shard looks
/// for them before it sleeps, and spares it the call that would wake the shard.
pub(super) async fn wake_application() {
    std::future::poll_fn(|cx| {
        let came = with_shard(|shard| {
            if shard.flush_task.is_none() {
                shard.flush_task = Some(cx.waker().clone());
            }
            let came = core::mem::take(&mut shard.events_added);
            if came {
                shard.remote().expect_commands();
                shard.shared.wake_application();
            }
            came
        });
        if came && !carry_out() {
            with_shard(|shard| shard.remote().commands_arrived.notify_one());
        }
        Poll::<()>::Pending
    })
    .await;
}
