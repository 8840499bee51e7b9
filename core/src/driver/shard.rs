//! A shard: one thread, one runtime, and every connection that lives on it.
//!
//! Its state is thread-local, so that a connection is nothing but a slot number and its waker: no lock and no task of its
//! own. Everything that happens to a connection is a *turn*: borrow the shard's scratch,
//! let the state machine work, write once, re-arm its deadline.

mod carry;
mod place;
mod ready;

pub(super) use carry::carry_out;
pub(super) use place::Place;
pub(super) use ready::run_connections;

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::task::{Context, Poll, Waker};

use self::place::Places;
use self::ready::{Ready, SessionWaker};
use super::caught::caught;
use super::commands::CommandBuffer;
use super::events::Open;
use super::ids::ConnectionId;
use super::log::Subject;
use super::outbox::Pool;
use super::session::Session;
use super::shared::{Remote, Shared};
use super::sink::TurnSink;
use super::stats::add;
use super::stream::Stream;
use wsguard_proto::connection::{Connection, Ending, Opened, Phase, Report, Turn};
use wsguard_proto::contract::Scratch;
use wsguard_proto::limits::Seat;
use wsguard_proto::lock::lock;
use wsguard_proto::revocation::Grant;
use wsguard_proto::time::Moment;
use wsguard_proto::verdict::Code;

/// The buffer that every read of the shard goes to, and the most one connection reads in a turn.
const SCRATCH_BYTES: usize = 256 * 1024;
/// Messages and control frames of one connection in a turn.
const MESSAGES_PER_TURN: usize = 1024;
/// Output is written early when a turn makes more than this.
const CORK_BYTES: usize = 64 * 1024;
/// TLS handshakes and signatures before everything else has its turn.
const EXPENSIVE_STEPS_PER_TURN: usize = 8;
/// Timers that are kept for each connection, and beside those, before stale ones are let go.
const MOST_TIMERS_EACH: usize = 4;
const MOST_STALE_TIMERS: usize = 1024;
/// How long buffers are kept that no connection is there to need.
const REST_MS: u64 = 60_000;

thread_local! {
    static SHARD: RefCell<Option<Shard>> = const { RefCell::new(None) };
}

/// The shard of this thread.
///
/// Only called on shard threads and never inside itself: handlers of the application post commands instead.
pub(super) fn with_shard<R: Default>(act: impl FnOnce(&mut Shard) -> R) -> R {
    SHARD.with_borrow_mut(|slot| slot.as_mut().map(act).unwrap_or_default())
}

/// Installs the shard of this thread.
pub(super) fn install(shard: Shard) {
    SHARD.with_borrow_mut(|slot| *slot = Some(shard));
}

/// Whether the shard's work is over, and not only broken off.
pub(super) fn has_stopped() -> bool {
    with_shard(|shard| shard.stopped)
}

/// Removes the shard of this thread with all its connections, whatever state they are in, and tells of their end.
pub(super) fn remove() {
    let Some(shard) = SHARD.with_borrow_mut(Option::take) else { return };
    shard.ready.close();
    let (shared, places, index) = (Arc::clone(&shard.shared), Rc::clone(&shard.places), shard.index);
    drop(shard);
    let mut writing = shared.write_events(index);
    for conn in places.take_lost() {
        writing.batch().push_close(conn, &broken());
    }
}

/// How a connection ends that a fault of ours has ended.
fn broken() -> Ending {
    Ending { code: Code::Internal.close_code(), reason: Code::Internal.reason().to_owned(), clean: false }
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
    places: Rc<Places>,
    scratch: Vec<u8>,
    out: Vec<u8>,
    pool: Pool,
    json: Scratch,
    commands: CommandBuffer,
    touched: Vec<u32>,
    starved: Vec<ConnectionId>,
    timers: BinaryHeap<Timer>,
    /// When the timer task wakes by itself.
    timer_wakes_at: Moment,
    timer_task: Option<Waker>,
    /// When buffers go that nobody needs.
    rest_at: Moment,
    events_added: bool,
    flush_task: Option<Waker>,
    expensive_steps: usize,
    /// The latest end of a drain that has begun.
    drain_until: Option<Moment>,
    /// The last batch whose answers were carried out when a draining shard looked.
    answered: u64,
    stopped: bool,
}

impl Shard {
    pub(super) fn new(shared: Arc<Shared>, index: usize) -> Self {
        Self {
            places: Places::new(Arc::clone(&shared), index),
            shared,
            index,
            ready: Arc::default(),
            sessions: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES],
            out: Vec::new(),
            pool: Pool::default(),
            json: Scratch::new(),
            commands: CommandBuffer::default(),
            touched: Vec::new(),
            starved: Vec::new(),
            timers: BinaryHeap::new(),
            timer_wakes_at: Moment::NEVER,
            timer_task: None,
            rest_at: Moment::NEVER,
            events_added: false,
            flush_task: None,
            expensive_steps: 0,
            drain_until: None,
            answered: 0,
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
        self.sessions.get_mut(slot as usize)?.take_if(|session| session.id.generation() == generation)
    }

    fn take_id(&mut self, id: ConnectionId) -> Option<Box<Session>> {
        self.take(id.slot(), id.generation())
    }

    /// Takes on a connection whose handshake is over; whether there was a slot for it.
    pub(super) fn adopt(
        &mut self,
        newcomer: Newcomer,
        told: impl FnOnce(ConnectionId) -> (Open, Option<Grant>),
    ) -> bool {
        if self.stopped {
            return false;
        }
        let Some(place) = self.places.take() else { return false };
        let id = place.id();
        let slot = id.slot() as usize;
        if self.sessions.len() <= slot {
            self.sessions.resize_with(slot + 1, || None);
        }
        let now = self.shared.clock.now();
        let Newcomer { stream, opened, seat, ip, peer, granted, head, received } = newcomer;
        let mut outbox = self.pool.take_outbox();
        outbox.push(&head, &mut self.pool);
        let mut session = Box::new(Session {
            id,
            conn: Connection::new(&self.shared.policy, opened, now),
            stream,
            outbox: Some(outbox),
            waker: SessionWaker::waker(&self.ready, id.slot(), id.generation()),
            timer_at: Moment::NEVER,
            drain_at: if self.drain_until.is_some() { now } else { Moment::NEVER },
            last_batch: 0,
            batch_bytes: 0,
            seat,
            ip,
            peer,
            granted,
            unread: (!received.is_empty()).then(|| Box::new(received)),
            place,
            must_flush: false,
            ended_writing: false,
            starved: false,
            paused: false,
            touched: false,
        });
        let mut sink = TurnSink::new(&self.shared, id, Subject::default(), 0);
        let (open, grant) = told(id);
        sink.batch().push_open(open, grant);
        session.place.told(true);
        (session.last_batch, session.batch_bytes) = sink.finish();
        self.events_came();
        session.waker.wake_by_ref();
        // From here on nothing can fail: the opening hands its part in the load over.
        session.place.take_load();
        self.sessions[slot] = Some(session);
        true
    }

    /// Ends a session: everything that names it is gone when this returns.
    fn remove(&mut self, session: Box<Session>, now: Moment) {
        drop(session);
        if self.places.open() == 0 {
            self.rest_at = now.after_millis(REST_MS);
            self.wake_timers_for(self.rest_at);
        }
    }

    /// Lets `act` do its work. A fault of ours costs the connection it held, and neither the shard nor what comes next.
    fn shielded<R>(&mut self, act: impl FnOnce(&mut Self) -> R) -> Option<R> {
        let result = caught(|| act(self));
        if result.is_none() {
            self.recover();
        }
        result
    }

    /// After a fault of ours: what the shard lends to a turn is made anew, then the end of whoever was lost is told.
    fn recover(&mut self) {
        self.out.clear();
        self.scratch.resize(SCRATCH_BYTES, 0);
        self.json = Scratch::new();
        let mut lost = self.places.take_lost().into_iter().map(Some).collect::<Vec<_>>();
        if lost.is_empty() {
            lost.push(None);
        }
        for conn in lost {
            let subject = Subject { conn, ..Subject::default() };
            let detail = "a fault of the server's own; the shard goes on";
            let report = Report { code: Code::Internal, event: None, detail };
            let _ = caught(|| {
                self.shared.tell(self.index, |events| {
                    self.shared.report(&report, subject, events);
                    let _ = conn.map(|conn| events.push_close(conn, &broken()));
                });
            });
        }
    }

    /// Nobody has been here for a while: gives back what was kept for the next.
    fn rest(&mut self) {
        self.rest_at = Moment::NEVER;
        if self.places.open() > 0 {
            return;
        }
        self.places.shrink();
        self.sessions = Vec::new();
        self.timers = BinaryHeap::new();
        self.pool = Pool::default();
        self.json = Scratch::new();
        (self.out, self.touched, self.starved) = (Vec::new(), Vec::new(), Vec::new());
        self.commands = CommandBuffer::default();
        self.remote().shrink();
        lock(&self.remote().events).shrink();
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
        let Session { id, conn, seat, ip, peer, outbox, last_batch, place, .. } = session;
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
            place.told(false);
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

    /// Back-pressure (THREATS S4): over half of `max_inbox_bytes` whoever has more than a fair share of the waiting batch
    /// is not read, when it is full nobody is.
    fn must_wait_for_the_application(&mut self, session: &mut Session) -> bool {
        if session.paused && session.conn.is_open() {
            return true;
        }
        if !session.conn.is_open() || !self.has_no_room_for(session) {
            return false;
        }
        self.remote().starved.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        // The application may have made room just now, before it could see the mark.
        if !self.has_no_room_for(session) {
            return false;
        }
        if !session.starved {
            session.starved = true;
            self.starved.push(session.id);
        }
        true
    }

    fn has_no_room_for(&self, session: &Session) -> bool {
        let fill = self.shared.inbox_fill();
        if fill < 0.5 {
            return false;
        }
        // What the application has let go is nobody's share any more.
        let waits = if self.remote().has_released(session.last_batch) { 0 } else { session.batch_bytes };
        fill >= 1.0 || waits > self.shared.policy.max_inbox_bytes / 2 / self.places.open().max(1)
    }

    /// Writes what the turn made.
    fn write(&mut self, session: &mut Session, now: Moment, cx: &mut Context<'_>) {
        let was_congested = session.outbox.is_some();
        match session.write(cx, &mut self.out, &mut self.pool) {
            Ok(written) => {
                if written > 0 {
                    add(&self.remote().stats.bytes_out, written as u64);
                    if session.starved || session.paused {
                        session.conn.excuse(now);
                    }
                }
            }
            Err(_) => {
                self.out.clear();
                session.outbox = None;
                return self.turn(session, now, Connection::handle_eof);
            }
        }
        if was_congested && session.outbox.is_none() {
            self.drained(session, now, cx);
        }
    }

    /// The outbox is empty again: what waited for that is written, before anybody else has a turn with the shard's buffer.
    fn drained(&mut self, session: &mut Session, now: Moment, cx: &mut Context<'_>) {
        self.turn(session, now, Connection::handle_drained);
        if !self.out.is_empty() {
            self.write(session, now, cx);
        }
    }

    /// Ends a turn: writes, checks the outbox, ends what is over, re-arms the deadline.
    fn end_turn(&mut self, mut session: Box<Session>, now: Moment, cx: &mut Context<'_>) {
        if !self.out.is_empty() {
            self.write(&mut session, now, cx);
        }
        let limit = self.shared.policy.max_outbox_bytes;
        if session.unsent_bytes() > limit && session.conn.may_send() {
            let detail = format!("{} unsent bytes are over max_outbox_bytes ({limit})", session.unsent_bytes());
            let report = Report { code: Code::SlowConsumer, event: None, detail: &detail };
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
            return self.remove(session, now);
        }
        if (session.paused || session.starved) && !session.conn.is_open() {
            // Nothing of it goes to the application any more: the peer's goodbye is read.
            (session.paused, session.starved) = (false, false);
            session.waker.wake_by_ref();
        }
        self.count(&mut session);
        self.arm(&mut session);
        let slot = session.id.slot() as usize;
        self.sessions[slot] = Some(session);
    }

    /// Brings the shard's levels up to date.
    fn count(&mut self, session: &mut Session) {
        if session.place.count(session.unsent_bytes(), session.conn.delayed_messages()) {
            self.publish_unsent(session);
        }
    }

    /// Publishes what is unsent, and tells the application, if it watches, that nothing is any more.
    fn publish_unsent(&self, session: &Session) {
        let id = session.id;
        let slot = self.remote().slots.get(id.slot());
        if slot.is_some_and(|slot| slot.publish(session.unsent_bytes())) && session.conn.is_open() {
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
        self.push_timer(deadline, session.id.slot(), session.id.generation());
        self.wake_timers_for(deadline);
    }

    fn push_timer(&mut self, at: Moment, slot: u32, generation: u32) {
        if self.timers.len() > MOST_TIMERS_EACH * self.places.open() + MOST_STALE_TIMERS {
            self.forget_stale_timers();
        }
        self.timers.push(Reverse((at, slot, generation)));
    }

    /// Lets go of timers whose connection has ended or has an earlier one: a session's end may be a year away.
    fn forget_stale_timers(&mut self) {
        let sessions = &self.sessions;
        self.timers.retain(|Reverse((at, slot, generation))| {
            let session = sessions.get(*slot as usize).and_then(Option::as_ref);
            session.is_some_and(|session| session.id.generation() == *generation && session.timer_at == *at)
        });
    }

    /// Makes sure that the timers look again at `deadline`.
    fn wake_timers_for(&self, deadline: Moment) {
        if deadline < self.timer_wakes_at
            && let Some(task) = &self.timer_task
        {
            task.wake_by_ref();
        }
    }

    /// Runs every session whose time has come; returns when the next one is due.
    fn run_timers(&mut self) -> Moment {
        let now = self.shared.clock.now();
        if self.rest_at <= now {
            self.rest();
        }
        if self.drain_until.is_some() {
            self.carry_out_answers();
        }
        while let Some(Reverse((at, slot, generation))) = self.timers.peek().copied() {
            if at > now {
                return at.min(self.rest_at);
            }
            self.timers.pop();
            self.shielded(|shard| shard.run_timer(at, slot, generation, now));
        }
        self.rest_at
    }

    fn run_timer(&mut self, at: Moment, slot: u32, generation: u32, now: Moment) {
        let Some(mut session) = self.take(slot, generation) else { return };
        if session.timer_at != at {
            self.sessions[slot as usize] = Some(session);
            return;
        }
        session.timer_at = Moment::NEVER;
        // Whoever is not read for reasons of ours is not silent. But who takes nothing either is gone, or wants the application
        // to wait for it while its messages fill the inbox.
        if (session.starved || session.paused) && session.outbox.is_none() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use wsguard_proto::config::Options;

    use crate::driver::compile;
    use crate::driver::shared::Wake;

    struct Nobody;

    impl Wake for Nobody {
        fn wake(&self) {}
    }

    #[test]
    fn timers_of_connections_that_are_gone_do_not_pile_up() {
        let json = r#"{"origins": ["https://a.example"], "auth": "none", "threads": 1}"#;
        let policy = compile(Options::from_json(json).unwrap()).unwrap();
        let mut shard = Shard::new(Arc::new(Shared::new(policy, None, None, Box::new(Nobody), false)), 0);
        // Sessions that would have lasted a year.
        for generation in 1..100_000 {
            shard.push_timer(Moment::from_millis(31_536_000_000), 0, generation);
            assert!(shard.timers.len() <= MOST_STALE_TIMERS + 1);
        }
    }
}
