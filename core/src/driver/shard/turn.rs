//! A turn of a connection: the state machine works, what it says is written once, its deadline is re-armed.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;
use std::task::Context;

use super::turn_sink::TurnSink;
use super::{SCRATCH_BYTES, Shard};
use crate::driver::ids::ConnectionId;
use crate::driver::log::{Subject, VerdictRecord};
use crate::driver::session::Session;
use crate::driver::stats::add;
use wsguard_proto::connection::{Connection, Ending, Phase, Report, Turn};
use wsguard_proto::time::Moment;
use wsguard_proto::verdict::Code;

/// The close code that stands for a connection without a closing handshake (RFC 6455 section 7.1.5).
const BROKEN: u16 = 1006;
/// Messages and control frames of one connection in a turn.
const MESSAGES_PER_TURN: usize = 1024;

/// A session that has its turn, with what it says in it: the shard's buffer is its own until the turn is over, so that
/// nothing said for one connection can reach another.
///
/// It ends in [`Shard::put_back`] or [`Shard::remove`], which give the buffer back empty.
pub(super) struct ActiveSession {
    pub(super) session: Box<Session>,
    pub(super) out: Vec<u8>,
}

impl Deref for ActiveSession {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl DerefMut for ActiveSession {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl Shard {
    /// Takes a session out of its slot for a turn; `None`: it has ended.
    pub(super) fn take(&mut self, slot: u32, generation: u32) -> Option<ActiveSession> {
        let session = self.sessions.get_mut(slot as usize)?.take_if(|session| session.id.generation() == generation)?;
        Some(self.lend(session))
    }

    /// Takes the session in a slot, whichever it is.
    pub(super) fn take_any(&mut self, slot: usize) -> Option<ActiveSession> {
        let session = self.sessions.get_mut(slot)?.take()?;
        Some(self.lend(session))
    }

    fn lend(&mut self, session: Box<Session>) -> ActiveSession {
        ActiveSession { session, out: core::mem::take(&mut self.out) }
    }

    /// Ends a turn: the session goes back into its slot. What it said and nobody wrote waits in its outbox.
    pub(super) fn put_back(&mut self, active: ActiveSession) {
        let ActiveSession { mut session, out } = active;
        if !out.is_empty() {
            session.outbox.get_or_insert_with(|| self.pool.take_outbox()).push(&out, &mut self.pool);
            session.waker.wake_by_ref();
        }
        self.take_buffer(out);
        let slot = session.id.slot() as usize;
        self.sessions[slot] = Some(session);
    }

    fn take_buffer(&mut self, mut out: Vec<u8>) {
        out.clear();
        out.shrink_to(SCRATCH_BYTES);
        self.out = out;
    }

    /// Ends a session: everything that names it is gone before its close is told.
    pub(super) fn remove(&mut self, active: ActiveSession, now: Moment) {
        let ActiveSession { mut session, out } = active;
        self.take_buffer(out);
        let (id, ending) = (session.id, session.conn.take_ending());
        if let Some(ending) = &ending {
            session.slot.close_was_told();
            self.log_close(&session, ending, now);
        }
        drop(session);
        if let Some(ending) = ending {
            self.tell_close(id, &ending);
        }
        self.free_buffers_later(now);
    }

    /// Tells the close of a connection whose closing handshake may go on: from here on its id is nobody's.
    fn tell_ending(&mut self, session: &mut Session, now: Moment) {
        if let Some(ending) = session.conn.take_ending() {
            session.slot.close_was_told();
            self.log_close(session, &ending, now);
            session.end();
            self.tell_close(session.id, &ending);
        }
    }

    /// Tells an application that heeds it that the connection has begun to close.
    fn tell_beginning(&self, session: &mut Session) {
        if !session.conn.is_open()
            && self.state.heeds_closing.load(Ordering::Relaxed)
            && let Some(beginning) = session.conn.take_beginning()
        {
            self.state.tell(self.index, |events| events.push_closing(session.id, beginning));
        }
    }

    fn log_close(&self, session: &Session, ending: &Ending, now: Moment) {
        // What waits is on its way, unless the connection broke.
        let on_its_way = if ending.code == BROKEN { 0 } else { session.unsent_bytes() };
        let tally = session.tally.with_unsent(on_its_way);
        let since = session.conn.opened_at();
        self.state.audit.close(session.subject(), &session.policy, ending, &tally, since, now);
    }

    fn tell_close(&mut self, id: ConnectionId, ending: &Ending) {
        let mut writing = self.state.write_events(self.index);
        writing.push_change(|batch| batch.push_close(id, ending));
        writing.finish();
        self.events_came();
    }

    /// Lets `act` work on the state machine, and keeps what it says.
    pub(super) fn turn<R>(
        &mut self,
        active: &mut ActiveSession,
        now: Moment,
        act: impl FnOnce(&mut Connection, &mut Turn<'_>) -> R,
    ) -> R {
        let Shard { state, pool, json, deflate, .. } = self;
        let ActiveSession { session, out } = active;
        let Session { id, hs, conn, policy, let_in, seat, ip, outbox, last_batch, slot, tally, .. } = &mut **session;
        let user = seat.user().map(|user| &**user);
        let subject = Subject { hs: Some(*hs), ip: *ip, peer: let_in.peer(*ip), user, conn: Some(*id) };
        let mut sink = TurnSink::new(state, *id, &policy.contract, subject, *last_batch);
        (sink.is_mid_fragments, sink.reports_only) = (conn.is_mid_fragments(), policy.report_only());
        let result = act(
            conn,
            &mut Turn {
                policy,
                now,
                out,
                pool: &mut pool.buffers,
                scratch: json,
                deflate,
                congested: outbox.is_some(),
                message_budget: MESSAGES_PER_TURN,
                sink: &mut sink,
            },
        );
        let (messages, replies, records) = (sink.messages, sink.replies, core::mem::take(&mut sink.records));
        tally.messages_in += messages;
        tally.messages_out += replies;
        slot.pings_ended(sink.pongs);
        let added = sink.finish();
        // The batch is not locked any more.
        records.into_iter().for_each(VerdictRecord::say);
        if messages > 0 {
            add(&state.shards[self.index].stats.messages_in, messages);
        }
        if replies > 0 {
            add(&state.shards[self.index].stats.messages_out, replies);
        }
        if deflate.has_counted() {
            state.shards[self.index].stats.count_turn(deflate);
        }
        if let Some(added) = added {
            session.share.add(added.batch, added.bytes);
            session.last_batch = added.answerable;
            self.events_came();
        }
        result
    }

    /// Writes what the turn made.
    pub(super) fn write(&mut self, active: &mut ActiveSession, now: Moment, cx: &mut Context<'_>) {
        let ActiveSession { session, out } = active;
        let was_congested = session.outbox.is_some();
        match session.write(cx, out, &mut self.pool) {
            Ok(written) => {
                if written > 0 {
                    add(&self.mailbox().stats.bytes_out, session.tally.wrote(written));
                    if session.is_held_back() {
                        session.conn.excuse(now);
                    }
                }
            }
            Err(_) => {
                out.clear();
                session.outbox = None;
                return self.turn(active, now, Connection::handle_eof);
            }
        }
        if was_congested && session.outbox.is_none() {
            // What waited for the outbox to be empty may go.
            self.turn(active, now, Connection::handle_drained);
            if !active.out.is_empty() {
                self.write(active, now, cx);
            }
        }
    }

    /// Ends a turn: writes, checks the outbox, ends what is over, re-arms the deadline.
    pub(super) fn end_turn(&mut self, mut session: ActiveSession, now: Moment, cx: &mut Context<'_>) {
        if !session.out.is_empty() {
            self.write(&mut session, now, cx);
        }
        let limit = session.policy.max_outbox_bytes;
        if session.unsent_bytes() > limit && session.conn.may_send() {
            let detail = format!("{} unsent bytes are over max_outbox_bytes ({limit})", session.unsent_bytes());
            let report = Report { code: Code::SlowConsumer, event: None, detail: &detail };
            self.turn(&mut session, now, |conn, turn| conn.violate(&report, turn));
        }
        if !session.out.is_empty() {
            self.write(&mut session, now, cx);
        }
        match session.conn.phase() {
            Phase::Closed => {
                // Before the peer can see it: whoever the peer then tells of it finds that nothing can be sent any more.
                self.tell_ending(&mut session, now);
                session.end_writing(cx);
            }
            Phase::Open | Phase::Parting | Phase::Doomed | Phase::Closing | Phase::Dropped => {}
        }
        // RFC 6455 section 7.1.1: once both sides have sent a close frame, the server ends the connection.
        if session.ended_writing || session.conn.phase() == Phase::Dropped {
            return self.remove(session, now);
        }
        self.tell_ending(&mut session, now);
        self.tell_beginning(&mut session);
        if session.is_held_back() && !session.conn.is_open() {
            // Nothing more of it goes to the application: it is read for the peer's close frame.
            (session.paused, session.starved, session.is_draining) = (false, false, false);
            session.waker.wake_by_ref();
        }
        self.count(&mut session);
        self.arm(&mut session, now);
        self.put_back(session);
    }

    /// Ends a turn that was not the socket's: it wakes the connection all the same.
    pub(super) fn end_turn_elsewhere(&mut self, session: ActiveSession, now: Moment) {
        let waker = session.waker.clone();
        self.end_turn(session, now, &mut Context::from_waker(&waker));
    }

    /// Brings the shard's levels up to date.
    fn count(&mut self, session: &mut Session) {
        if session.slot.count(session.unsent_bytes(), session.conn.delayed_messages()) {
            self.publish_unsent(session);
        }
    }

    /// Publishes what is unsent, and tells the application, if it watches, that nothing is any more.
    pub(super) fn publish_unsent(&self, session: &Session) {
        let id = session.id;
        let slot = self.mailbox().slots.get(id.slot());
        if slot.is_some_and(|slot| slot.publish(session.unsent_bytes(), session.saved_bytes()))
            && session.conn.is_open()
        {
            self.state.tell(self.index, |events| events.push_drained(id));
        }
    }
}
