//! What an application says to its server: each command is checked here and handed to the shard of its connection.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::answer::Decision;
use super::arena::Span;
use super::caught::said;
use super::commands::{Command, CommandBuffer};
use super::cork::{self, Cork};
use super::ids::{ConnectionId, Slot};
use super::inbox::Inbox;
use super::mailbox::ShardMailbox;
use super::shard;
use super::state::{Life, ServerState};
use super::stats::Stats;
use super::tickets::TicketId;
use super::tls;
use crate::error::Error;
use wsguard_proto::admin::Facts as _;
use wsguard_proto::auth::check_user;
use wsguard_proto::cluster::ops::Request;
use wsguard_proto::codec::{self, MAX_CONTROL_PAYLOAD, Opcode};
use wsguard_proto::config::{Options, PolicySet, Protocol};
use wsguard_proto::connection::{Fragment, MAX_PINGS};
use wsguard_proto::lock::lock;

/// What became of a message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way.
    Sent,
    /// The peer has not read what was sent before, or the shard has not come to it: it waits. `Event::Drained` tells when all of
    /// it is written.
    Queued,
}

/// A server from any thread: cheap to clone, never blocks, safe to use after the server has stopped.
#[derive(Clone)]
pub struct ServerHandle {
    pub(super) state: Arc<ServerState>,
}

impl core::fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ServerHandle").field("life", &self.state.life()).finish_non_exhaustive()
    }
}

impl ServerHandle {
    /// Collects this thread's commands until the cork is dropped.
    pub fn cork(&self) -> Cork<'_> {
        Cork::new(&self.state)
    }

    /// As [`cork`](Self::cork) without a guard, until [`uncork`](Self::uncork) on this thread: for event loops, whose turn ends
    /// elsewhere than it begins. `false`: there is none, because the thread corks another server's, and nothing is to be undone.
    pub fn begin_cork(&self) -> bool {
        self.cork().hold()
    }

    /// The end of a [`begin_cork`](Self::begin_cork) of this thread that has answered `true`.
    pub fn uncork(&self) {
        drop(Cork::of_held(&self.state));
    }

    /// Hands over what this thread's cork holds back. What comes next may still be corked.
    pub fn flush(&self) {
        cork::flush(&self.state);
    }

    pub(super) fn post(&self, shard: usize, write: impl FnOnce(&mut CommandBuffer)) {
        cork::post(&self.state, shard, write);
    }

    /// Posts a command that speaks of a text.
    fn post_text(&self, shard: usize, text: &str, command: impl FnOnce(Span) -> Command) {
        self.post(shard, |commands| {
            let text = commands.keep(text.as_bytes());
            commands.commands.push(command(text));
        });
    }

    pub(super) fn mailbox(&self, conn: ConnectionId) -> Result<&ShardMailbox, Error> {
        self.state.mailbox(conn).ok_or(Error::ConnectionClosed)
    }

    pub(super) fn slot(&self, conn: ConnectionId) -> Result<&Slot, Error> {
        // Not `ok_or`: every message that is sent would make an error, and drop it.
        let Some(slot) = self.open_slot(conn) else { return Err(Error::ConnectionClosed) };
        Ok(slot)
    }

    fn send_control(&self, conn: ConnectionId, opcode: Opcode, payload: &[u8]) -> Result<Sent, Error> {
        if payload.len() > MAX_CONTROL_PAYLOAD {
            return Err(Error::InvalidArgument("the payload of a ping or pong must be at most 125 bytes"));
        }
        let slot = self.slot(conn)?;
        self.post(conn.shard(), |commands| slot.post(commands.control(conn, opcode, payload)));
        Ok(how_sent(slot))
    }

    /// Whether `conn` is open.
    pub fn is_open(&self, conn: ConnectionId) -> bool {
        self.state.mailbox(conn).is_some()
    }

    /// What `conn` speaks; `None`: it is not open.
    pub fn protocol(&self, conn: ConnectionId) -> Option<Protocol> {
        self.open_slot(conn)?.protocol(conn.generation())
    }

    /// Whether [`Sent::Queued`] was answered for `conn` and its `Event::Drained` is still to come: an event that was told
    /// before speaks of what was sent before.
    pub fn is_queued(&self, conn: ConnectionId) -> bool {
        self.open_slot(conn).is_some_and(Slot::is_awaited)
    }

    /// Sends a part of a message (`raw`): a text or binary fragment begins it, continuations go on, the one with `fin` ends it.
    /// Whole messages, broadcasts among them, that are sent in between wait for the last fragment, and count as unsent until
    /// then; pings, pongs and the close frame do not wait. That the fragments of a text are UTF-8 together is the application's
    /// to see to.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] where the fragment does not fit what was sent before, or where no route has the protocol `raw`.
    /// A connection whose own protocol is another is closed with 1011, and so is one to which two threads send fragments that mix.
    pub fn send_fragment(&self, conn: ConnectionId, fragment: Fragment, payload: &[u8]) -> Result<Sent, Error> {
        let slot = self.slot(conn)?;
        if payload.len().saturating_add(codec::frame_overhead(payload.len())) > slot.max_outbox_bytes() {
            return Err(NEVER_FITS);
        }
        if self.state.set().policies().all(|policy| policy.protocol != Protocol::Raw) {
            return Err(Error::InvalidArgument("fragments are for the protocol raw"));
        }
        let taken = slot.take_fragment(conn.generation(), fragment);
        taken
            .map_err(|what| if self.is_open(conn) { Error::InvalidArgument(what) } else { Error::ConnectionClosed })?;
        self.post(conn.shard(), |commands| slot.post(commands.fragment(conn, fragment, payload)));
        Ok(how_sent(slot))
    }

    /// Sends a ping with a payload that nobody can know before: `Event::Pong` tells the answer, and the close event
    /// that none comes. Of a connection that is paused or whose inbox is full no answer is read.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] where 16 pings of the connection have no answer.
    pub fn ping(&self, conn: ConnectionId) -> Result<Sent, Error> {
        let slot = self.slot(conn)?;
        if !slot.take_ping(MAX_PINGS as u8) {
            return Err(Error::InvalidArgument("a connection can have at most 16 pings without an answer"));
        }
        let payload = RandomState::new().hash_one(conn).to_be_bytes();
        self.post(conn.shard(), |commands| commands.commands.push(Command::Ping { conn, payload }));
        Ok(how_sent(slot))
    }

    /// Sends a ping with a payload of the application's own, at most 125 bytes. Its pong is told where
    /// [`heed_control`](Self::heed_control) asks for that, and is free: up to 255 pongs to such pings that have no answer do not
    /// count for `control_rate_limit`. To measure the time to the answer, use [`ping`](Self::ping).
    pub fn send_ping(&self, conn: ConnectionId, payload: &[u8]) -> Result<Sent, Error> {
        self.send_control(conn, Opcode::Ping, payload)
    }

    /// Sends a pong, at most 125 bytes: an answer to a ping where the server itself does not answer
    /// ([`set_auto_pong`](Self::set_auto_pong)), or one that nobody asked for (RFC 6455 section 5.5.3).
    pub fn send_pong(&self, conn: ConnectionId, payload: &[u8]) -> Result<Sent, Error> {
        self.send_control(conn, Opcode::Pong, payload)
    }

    /// Whether pings of this peer are answered by the server at once, as they are unless the server was built with
    /// [`Builder::auto_pong`](super::Builder::auto_pong), or left to the application. Either way they count for
    /// `control_rate_limit`, and as a sign of life.
    pub fn set_auto_pong(&self, conn: ConnectionId, answers: bool) -> Result<(), Error> {
        self.mailbox(conn)?;
        self.post(conn.shard(), |commands| commands.commands.push(Command::AutoPong { conn, answers }));
        Ok(())
    }

    /// Whether every ping and pong of a peer is told, as `Event::PingFrame` and `Event::PongFrame`, once it has passed
    /// `control_rate_limit`: at first none is. A pong that answers [`ping`](Self::ping) is told twice, as `Event::Pong`, too.
    pub fn heed_control(&self, heeds: bool) {
        self.state.heeds_control.store(heeds, Ordering::Relaxed);
    }

    /// Whether it is told, as `Event::Closing`, that a connection has begun to close, ahead of its `Event::Close`: at first it is
    /// not.
    pub fn heed_closing(&self, heeds: bool) {
        self.state.heeds_closing.store(heeds, Ordering::Relaxed);
    }

    /// Drops the socket at once, without a close frame. What was said before is offered to the socket once: what it has no room
    /// for is lost. The close event says 1006, or the code of a close frame that was sent before.
    pub fn terminate(&self, conn: ConnectionId) -> Result<(), Error> {
        self.mailbox(conn)?;
        self.post(conn.shard(), |commands| commands.commands.push(Command::Terminate { conn }));
        Ok(())
    }

    /// Ends a connection behind what was said to it, without a close frame: the peer, and the close event, see it break (1006).
    /// What the peer does not take within `close_timeout_ms` is dropped.
    pub fn hang_up(&self, conn: ConnectionId) -> Result<(), Error> {
        self.mailbox(conn)?;
        self.post(conn.shard(), |commands| commands.commands.push(Command::HangUp { conn }));
        Ok(())
    }

    /// Bytes that were sent to `conn` and that its socket has not taken; 0 when it is closed. Of a broadcast they are counted once
    /// the shard has come to it.
    pub fn buffered_bytes(&self, conn: ConnectionId) -> usize {
        self.open_slot(conn).map_or(0, Slot::buffered_bytes)
    }

    /// A count of the bytes that were said to `conn`, headers of frames included, which only grows; a message counts as it is before
    /// compression, and broadcasts are not in it. 0 when it is closed.
    ///
    /// What is said up to now is written when [`written`](Self::written) has come to this number. Where several threads speak to
    /// one connection, one may be told a little early what another has said late.
    pub fn queued(&self, conn: ConnectionId) -> u64 {
        self.open_slot(conn).map_or(0, Slot::said_bytes)
    }

    /// How much of [`queued`](Self::queued) its socket has taken at least: all of it whenever nothing is unsent, which
    /// `Event::Drained` tells after [`Sent::Queued`]. 0 when it is closed.
    pub fn written(&self, conn: ConnectionId) -> u64 {
        self.open_slot(conn).map_or(0, Slot::written_bytes)
    }

    fn open_slot(&self, conn: ConnectionId) -> Option<&Slot> {
        self.state.shards.get(conn.shard())?.slots.of(conn)
    }

    /// Starts the closing handshake. `code` must be one an endpoint may send (RFC 6455 section 7.4), the reason at most
    /// 123 bytes.
    pub fn close(&self, conn: ConnectionId, code: u16, reason: &str) -> Result<(), Error> {
        check_close(code, reason)?;
        self.mailbox(conn)?;
        self.post_text(conn.shard(), reason, |reason| Command::Close { conn, code, reason });
        Ok(())
    }

    /// As [`close`](Self::close), with a close frame that is empty: the peer is told 1005 (RFC 6455 section 7.1.5).
    pub fn close_without_code(&self, conn: ConnectionId) -> Result<(), Error> {
        self.mailbox(conn)?;
        self.post_text(conn.shard(), "", |reason| Command::Close { conn, code: codec::NO_CODE, reason });
        Ok(())
    }

    /// Closes a connection with 1011, `internal`, because the application's handler failed.
    pub fn fail(&self, conn: ConnectionId) -> Result<(), Error> {
        self.mailbox(conn)?;
        self.post(conn.shard(), |commands| commands.commands.push(Command::HandlerFailed { conn }));
        Ok(())
    }

    /// Refuses a message of `event` that the schema let pass and the application's own validation did not: the verdict
    /// is `schema_mismatch`, counted and logged. It closes the connection, unless `on_violation` is `report`.
    pub fn refuse(&self, conn: ConnectionId, event: &str) -> Result<(), Error> {
        self.post_refusal(conn, event, None, false)
    }

    /// As [`refuse`](Self::refuse), and where the event's `on_mismatch` is `reply` the message is answered by an error with its
    /// `id`, and the connection stays.
    pub fn refuse_message(&self, conn: ConnectionId, event: &str, id: Option<&str>) -> Result<(), Error> {
        self.post_refusal(conn, event, id, true)
    }

    fn post_refusal(&self, conn: ConnectionId, event: &str, id: Option<&str>, may_reply: bool) -> Result<(), Error> {
        self.mailbox(conn)?;
        self.post(conn.shard(), |commands| {
            let event = commands.keep(event.as_bytes());
            let id = id.map(|id| commands.keep(id.as_bytes()));
            commands.commands.push(Command::DataRefused { conn, event, id, may_reply });
        });
        Ok(())
    }

    /// Stops reading from a connection whose messages the application cannot take now: its peer feels back-pressure,
    /// others do not. What was read before may still arrive; writing and pings go on, and silence does not count.
    pub fn pause(&self, conn: ConnectionId) -> Result<(), Error> {
        self.set_paused(conn, true)
    }

    /// Goes on reading from a connection after [`pause`](Self::pause).
    pub fn resume(&self, conn: ConnectionId) -> Result<(), Error> {
        self.set_paused(conn, false)
    }

    fn set_paused(&self, conn: ConnectionId, paused: bool) -> Result<(), Error> {
        self.mailbox(conn)?;
        self.post(conn.shard(), |commands| commands.commands.push(Command::Pause { conn, paused }));
        Ok(())
    }

    /// Counts `bytes` of messages that the application keeps beyond their batch towards `max_inbox_bytes`, for as long as
    /// the guard lives.
    pub fn hold_inbox(&self, bytes: usize) -> KeptInbox {
        self.state.inbox.grew(bytes);
        KeptInbox { inbox: Arc::clone(&self.state.inbox), bytes }
    }

    /// As [`hold_inbox`](Self::hold_inbox) without a guard, until [`release_inbox`](Self::release_inbox) is called.
    pub fn keep_inbox(&self, bytes: usize) {
        self.state.inbox.grew(bytes);
    }

    /// The end of what [`keep_inbox`](Self::keep_inbox) began, for the same number of bytes.
    pub fn release_inbox(&self, bytes: usize) {
        self.state.inbox.shrank(bytes);
    }

    /// Says which of the events that ask for no answer the application listens to; all of them at first.
    ///
    /// Those it does not listen to do not wake it: opens and closes come with the next event that does, or after 20 ms,
    /// and violations are only counted and logged. So peers that are let in and thrown out cost it next to nothing.
    pub fn heed(&self, opens: bool, closes: bool, violations: bool) {
        self.state.waker.set_interest(opens, closes, violations);
    }

    /// Closes every connection of a user that was let in before this call: `session_revoked`, or `auth_failed` for one
    /// whose 101 is not sent yet. One that is let in after it stays. In a cluster: on every node, also on one that cannot be
    /// reached now, once it can.
    ///
    /// Returns the number of this revocation: it closes the user's connections whose [`granted`](super::Open::granted) is
    /// less, also those whose open the application has still to take from its batches.
    pub fn disconnect_user(&self, user: &str) -> Result<u64, Error> {
        self.check_running()?;
        let number = self.state.revocations.revoke(user, self.state.clock.now());
        // What this thread said before is carried out before. Nothing is held by a cork: the handler that calls may go on for
        // long, and until then the user would be served.
        self.flush();
        self.state.close_revoked(user, number);
        if let Some(membership) = self.state.cluster.get()
            && check_user(user).is_ok()
        {
            membership.cluster.request(Request::Disconnect { user: user.into() });
        }
        Ok(number)
    }

    /// Whether a ticket still waits for its answer: what the application does for one that does not is in vain.
    pub fn is_waiting(&self, ticket: TicketId) -> bool {
        self.state.tickets.is_waiting(ticket)
    }

    /// Answers a ticket. A second or late answer is an error.
    ///
    /// # Errors
    ///
    /// [`Error::TicketSettled`]; [`Error::InvalidArgument`], behind which the ticket takes another answer;
    /// [`Error::InvalidAnswer`], with which the peer is answered 503.
    pub fn answer(&self, ticket: TicketId, decision: Decision) -> Result<(), Error> {
        self.state.tickets.answer(ticket, decision, self.state.revocations.grant(self.state.clock.now()))
    }

    /// Reads certificate and key again; a bad pair keeps the old one and is an error that says so.
    pub fn reload_tls(&self) -> Result<(), Error> {
        // A reload that is under way brings its own.
        let one_at_a_time = lock(&self.state.reloading);
        let set = self.state.set();
        let Some(options) = &set.top.tls else {
            return Err(Error::InvalidArgument("reload_tls needs the option tls"));
        };
        let fresh = tls::load(options)?;
        *self.state.tls.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Arc::clone(&fresh));
        drop(one_at_a_time);
        fresh.warn();
        Ok(())
    }

    /// Runs by other options from now on, all or nothing: what comes is judged by them, and so is what is open. Returns the
    /// generation of the policy, which is 1 at the start.
    ///
    /// An open connection is closed with `session_revoked` where its static token is gone, or the key that has signed its JSON
    /// Web Token, or where its path is not served any more. One that was let in without a credential that the server checks
    /// stays. Origins and `Host` are asked of those who come.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] and [`Error::Tls`] name the option that is not accepted, or that cannot change while the server runs
    /// (`not_reloadable`); then nothing has changed. [`Error::Stopped`].
    pub fn reload(&self, options: Options) -> Result<u64, Error> {
        self.check_running()?;
        // What this thread said before is carried out before.
        self.flush();
        self.state.reload(options)
    }

    /// The policies in force.
    pub fn policies(&self) -> Arc<PolicySet> {
        self.state.set()
    }

    /// Shuts down gently: new handshakes answer 503, open connections close with 1012 spread over `jitter_ms` (an hour at
    /// most; never beyond the timeout), what is left after `timeout_ms` is dropped. The events end when all is
    /// over.
    ///
    /// `u64::MAX`: no end to the waiting, no jitter. A second drain may shorten the first. What this thread said before is
    /// carried out before.
    pub fn drain(&self, timeout_ms: u64, jitter_ms: u64) {
        const MOST_JITTER_MS: u64 = 3_600_000;
        self.flush();
        let now = self.state.clock.now();
        if self.state.advance(Life::Draining) && self.state.drain_began.set(now).is_ok() {
            let connections = self.state.open.load(Ordering::Acquire);
            said(
                || tracing::info!(target: "wsguard::audit", action = %"drain_begun", connections, timeout_ms, jitter_ms),
            );
        }
        let until = now.after_millis(timeout_ms);
        let jitter_ms = if jitter_ms == u64::MAX { 0 } else { jitter_ms.min(timeout_ms).min(MOST_JITTER_MS) };
        for mailbox in self.state.shards.iter() {
            mailbox.post(|commands| commands.commands.push(Command::Drain { until, jitter_ms }));
        }
    }

    /// Ends listening: nothing new comes in, and the addresses are free when this returns (called by a thread of the server
    /// itself: soon after). Connections stay, as do handshakes that have begun.
    pub fn stop_listening(&self) {
        self.state.ears.deafen();
        if !shard::is_here() {
            self.state.ears.wait();
        }
    }

    /// Stops at once: every connection is dropped, once what this thread said before is carried out and written.
    pub fn stop(&self) {
        self.flush();
        self.state.advance(Life::Draining);
        for mailbox in self.state.shards.iter() {
            mailbox.post(|commands| commands.commands.push(Command::Stop));
        }
    }

    /// The counters now.
    pub fn stats(&self) -> Stats {
        self.state.stats()
    }

    /// The numbers of the server as OpenMetrics text, as `/metrics` of `admin_listen` serves it.
    pub fn metrics(&self) -> String {
        self.state.metrics()
    }

    pub(super) fn check_running(&self) -> Result<(), Error> {
        if self.state.is_over() { Err(Error::Stopped) } else { Ok(()) }
    }

    /// For what is said to whoever is there. Nobody is when the server has stopped, but whoever handles its last events may still
    /// say it: that the last connection of a room has closed, to the room.
    pub(super) fn check_end_not_told(&self) -> Result<(), Error> {
        if self.state.is_ending() { Ok(()) } else { self.check_running() }
    }
}

/// What is larger than an outbox may ever be would close the connection that it is for.
pub(super) const NEVER_FITS: Error =
    Error::InvalidArgument("the message is larger than max_outbox_bytes: it can never be sent");

/// Bytes that the application keeps of its inbox; dropping this gives them back.
#[must_use = "dropping it gives the bytes back"]
pub struct KeptInbox {
    inbox: Arc<Inbox>,
    bytes: usize,
}

impl core::fmt::Debug for KeptInbox {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("KeptInbox").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Drop for KeptInbox {
    fn drop(&mut self) {
        self.inbox.shrank(self.bytes);
    }
}

/// Whether what is sent now waits.
pub(super) fn how_sent(slot: &Slot) -> Sent {
    if slot.has_unsent() && slot.watch() { Sent::Queued } else { Sent::Sent }
}

/// What a close frame of ours may say.
pub(super) fn check_close(code: u16, reason: &str) -> Result<(), Error> {
    if !codec::is_sendable(code) {
        return Err(Error::InvalidArgument("close code must be 1000 to 1003, 1007 to 1014 or 3000 to 4999"));
    }
    if reason.len() > 123 {
        return Err(Error::InvalidArgument("close reason must be at most 123 bytes"));
    }
    Ok(())
}
