//! Commands on their way from the application: encoded on its thread, carried out by the connection's shard, in order.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::events::kept_bytes;
use super::ids::ConnectionId;
use super::listener::{self, Accepted};
use super::shared::{Life, Remote, Shared};
use super::stats::Stats;
use super::tickets::{Decision, TicketId};
use super::tls;
use crate::error::Error;
use wsguard_proto::auth::check_user;
use wsguard_proto::codec::{self, Opcode};
use wsguard_proto::outgoing;
use wsguard_proto::rooms::MAX_ROOMS_PER_CONNECTION;
use wsguard_proto::time::Moment;

/// A range of a buffer's bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    start: usize,
    len: usize,
}

#[derive(Debug)]
pub(super) enum Command {
    /// Whole frames for one connection.
    Frames {
        conn: ConnectionId,
        frames: Span,
    },
    Close {
        conn: ConnectionId,
        code: u16,
        reason: Span,
    },
    /// The application's handler failed for this connection.
    Fail {
        conn: ConnectionId,
    },
    /// The application's own check of a message found it broken.
    Refuse {
        conn: ConnectionId,
        event: Span,
    },
    /// Stops or goes on reading from one connection.
    Pause {
        conn: ConnectionId,
        paused: bool,
    },
    Join {
        conn: ConnectionId,
        room: Span,
    },
    Leave {
        conn: ConnectionId,
        room: Span,
    },
    /// One frame for a room, or for every connection, but for those whose ids the span has.
    Broadcast {
        room: Option<Span>,
        frame: Arc<[u8]>,
        except: Span,
    },
    /// Closes what was granted to a user before this revocation.
    DisconnectUser {
        user: Span,
        number: u64,
    },
    Adopt(Box<Accepted>),
    Resume,
    Drain {
        until: Moment,
        jitter_ms: u64,
    },
    Stop,
    /// A fault of ours while a connection has its turn.
    #[cfg(test)]
    Fault {
        conn: ConnectionId,
    },
    /// A mistake of ours: something is said in a turn that ends without a write.
    #[cfg(test)]
    Mutter {
        conn: ConnectionId,
    },
}

/// Commands for one shard, with the bytes they speak of.
#[derive(Debug, Default)]
pub(super) struct CommandBuffer {
    pub(super) commands: Vec<Command>,
    bytes: Vec<u8>,
    /// The shard has ended: nobody will carry these out.
    pub(super) is_closed: bool,
}

impl CommandBuffer {
    pub(super) fn bytes(&self, span: Span) -> &[u8] {
        &self.bytes[span.start..span.start + span.len]
    }

    pub(super) fn text(&self, span: Span) -> &str {
        core::str::from_utf8(self.bytes(span)).unwrap_or_default()
    }

    /// Ids as [`keep_ids`](Self::keep_ids) has kept them.
    pub(super) fn ids(&self, span: Span) -> &[[u8; 8]] {
        self.bytes(span).as_chunks().0
    }

    /// Keeps ids in ascending order, so that one is found soon among many.
    fn keep_ids(&mut self, ids: impl Iterator<Item = ConnectionId>) -> Span {
        let span = self.write(|out| ids.for_each(|id| out.extend(id.to_u64().to_be_bytes())));
        self.bytes[span.start..].as_chunks_mut::<8>().0.sort_unstable();
        span
    }

    pub(super) fn clear(&mut self) {
        let kept = kept_bytes(self.bytes.len());
        self.commands.clear();
        self.bytes.clear();
        self.bytes.shrink_to(kept);
        self.commands.shrink_to(1 << 14);
    }

    /// Lets its buffers go.
    pub(super) fn shrink(&mut self) {
        (self.commands, self.bytes) = (Vec::new(), Vec::new());
    }

    fn keep(&mut self, bytes: &[u8]) -> Span {
        self.write(|out| out.extend_from_slice(bytes))
    }

    fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Span {
        let start = self.bytes.len();
        write(&mut self.bytes);
        Span { start, len: self.bytes.len() - start }
    }

    /// Adds what `write` encodes to the frames of `conn`; neighbours become one command.
    /// Returns how many bytes that are; `None`: more than `most`, and nothing was added.
    fn frames(&mut self, conn: ConnectionId, most: usize, write: impl FnOnce(&mut Vec<u8>)) -> Option<usize> {
        let span = self.write(write);
        if span.len > most {
            self.bytes.truncate(span.start);
            return None;
        }
        if let Some(Command::Frames { conn: last, frames }) = self.commands.last_mut()
            && *last == conn
        {
            frames.len += span.len;
        } else {
            self.commands.push(Command::Frames { conn, frames: span });
        }
        Some(span.len)
    }

    pub(super) fn resume(&mut self) {
        self.commands.push(Command::Resume);
    }

    fn append(&mut self, other: &mut CommandBuffer) {
        if self.commands.is_empty() {
            return core::mem::swap(self, other);
        }
        let base = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.commands.extend(other.commands.drain(..).map(|mut command| {
            match &mut command {
                Command::Frames { frames: span, .. }
                | Command::Close { reason: span, .. }
                | Command::Refuse { event: span, .. }
                | Command::Join { room: span, .. }
                | Command::Leave { room: span, .. }
                | Command::DisconnectUser { user: span, .. } => span.start += base,
                Command::Broadcast { room, except, .. } => {
                    room.iter_mut().chain([except]).for_each(|span| span.start += base);
                }
                _ => {}
            }
            command
        }));
        other.clear();
    }
}

/// What became of a message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way.
    Sent,
    /// The peer has not read what was sent before, or the shard has not come to it: it waits. `Event::Drained` tells when
    /// nothing does any more.
    Queued,
}

/// The commands of this thread that were corked, per shard. The buffers stay for the next cork.
struct Corked {
    /// Null: no cork.
    server: *const Shared,
    depth: usize,
    buffers: Vec<CommandBuffer>,
}

impl Corked {
    fn hand_over(&mut self, server: &Shared) {
        for (remote, buffer) in server.shards.iter().zip(&mut self.buffers) {
            if !buffer.commands.is_empty() {
                remote.post(|commands| commands.append(buffer));
            }
        }
    }
}

thread_local! {
    static CORKED: RefCell<Corked> =
        const { RefCell::new(Corked { server: core::ptr::null(), depth: 0, buffers: Vec::new() }) };
}

/// Lets `act` see to this thread's cork; `None`: the thread is at its end, where values that it kept may still speak, and has
/// none any more.
fn with_corked<R>(act: impl FnOnce(&mut Corked) -> R) -> Option<R> {
    CORKED.try_with(|corked| act(&mut corked.borrow_mut())).ok()
}

/// A server from any thread: cheap to clone, never blocks, safe to use after the server has stopped.
#[derive(Clone)]
pub struct ServerHandle {
    pub(super) shared: Arc<Shared>,
}

impl core::fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ServerHandle").field("life", &self.shared.life()).finish_non_exhaustive()
    }
}

/// Holds this thread's commands together until it is dropped: one hand-over per shard instead of one per command.
#[derive(Debug)]
pub struct Cork<'h> {
    handle: &'h ServerHandle,
    active: bool,
    /// Belongs to the thread that made it.
    not_send: PhantomData<*const ()>,
}

impl Drop for Cork<'_> {
    fn drop(&mut self) {
        if !self.active {
            return;
        }
        with_corked(|corked| {
            corked.depth -= 1;
            if corked.depth > 0 {
                return;
            }
            corked.server = core::ptr::null();
            corked.hand_over(&self.handle.shared);
        });
    }
}

impl ServerHandle {
    /// Collects this thread's commands until the cork is dropped.
    pub fn cork(&self) -> Cork<'_> {
        let server = Arc::as_ptr(&self.shared);
        let active = with_corked(|corked| {
            let free = corked.depth == 0;
            if free {
                corked.server = server;
                corked.buffers.resize_with(self.shared.shards.len(), CommandBuffer::default);
            }
            let ours = corked.server == server;
            corked.depth += usize::from(ours);
            ours
        });
        let active = active.unwrap_or(false);
        Cork { handle: self, active, not_send: PhantomData }
    }

    /// Hands over what this thread's cork holds back. What comes next may still be corked.
    pub fn flush(&self) {
        let server = Arc::as_ptr(&self.shared);
        with_corked(|corked| {
            if corked.server == server {
                corked.hand_over(&self.shared);
            }
        });
    }

    /// Writes commands for a shard, into this thread's cork or straight into the shard's inbox.
    fn post(&self, shard: usize, write: impl FnOnce(&mut CommandBuffer)) {
        let server = Arc::as_ptr(&self.shared);
        let mut write = Some(write);
        with_corked(|corked| {
            if corked.server == server
                && let Some(write) = write.take()
            {
                write(&mut corked.buffers[shard]);
            }
        });
        if let Some(write) = write {
            self.shared.shards[shard].post(write);
        }
    }

    /// Posts a command that speaks of a text.
    fn post_text(&self, shard: usize, text: &str, command: impl FnOnce(Span) -> Command) {
        self.post(shard, |commands| {
            let text = commands.keep(text.as_bytes());
            commands.commands.push(command(text));
        });
    }

    fn remote(&self, conn: ConnectionId) -> Result<&Remote, Error> {
        self.shared.remote(conn).ok_or(Error::ConnectionClosed)
    }

    /// Sends what `write` encodes: a frame with at least `least_bytes` in it.
    fn send(&self, conn: ConnectionId, least_bytes: usize, write: impl FnOnce(&mut Vec<u8>)) -> Result<Sent, Error> {
        let max_outbox_bytes = self.shared.policy.max_outbox_bytes;
        let slot = self.remote(conn)?.slots.get(conn.slot()).ok_or(Error::ConnectionClosed)?;
        if least_bytes > max_outbox_bytes {
            return Err(NEVER_FITS);
        }
        let mut fits = true;
        self.post(conn.shard(), |commands| match commands.frames(conn, max_outbox_bytes, write) {
            Some(bytes) => slot.post(bytes),
            None => fits = false,
        });
        if !fits {
            return Err(NEVER_FITS);
        }
        let most_posted = self.most_posted();
        let queued = slot.has_unsent(most_posted) && slot.watch(most_posted);
        Ok(if queued { Sent::Queued } else { Sent::Sent })
    }

    /// Bytes handed over for a connection that its shard may not have come to before a send is `Queued`: an application that
    /// never waits would hand over more than an outbox holds.
    fn most_posted(&self) -> usize {
        self.shared.policy.max_outbox_bytes / 4
    }

    /// Whether `conn` is open.
    pub fn is_open(&self, conn: ConnectionId) -> bool {
        self.shared.remote(conn).is_some()
    }

    /// Whether [`Sent::Queued`] was answered for `conn` and its `Event::Drained` is still to come: an event that was told
    /// before speaks of what was sent before.
    pub fn is_queued(&self, conn: ConnectionId) -> bool {
        let slot = self.shared.remote(conn).and_then(|remote| remote.slots.get(conn.slot()));
        // A mark alone is not enough: it stays behind where nothing waited after all, and then no other event comes.
        slot.is_some_and(|slot| slot.is_watched() && slot.has_unsent(self.most_posted()))
    }

    /// Sends a text message. One that is larger than `max_outbox_bytes` could never be sent and is
    /// [`Error::InvalidArgument`]; so it is with every way to send.
    pub fn send_text(&self, conn: ConnectionId, text: &str) -> Result<Sent, Error> {
        self.send(conn, text.len(), |out| codec::data_frame(out, Opcode::Text, text.as_bytes()))
    }

    /// Sends a binary message.
    pub fn send_binary(&self, conn: ConnectionId, payload: &[u8]) -> Result<Sent, Error> {
        self.send(conn, payload.len(), |out| codec::data_frame(out, Opcode::Binary, payload))
    }

    /// Emits an event: `data` is JSON text, trusted to be (bindings serialise it themselves).
    pub fn emit(&self, conn: ConnectionId, event: &str, data: &str) -> Result<Sent, Error> {
        self.send(conn, data.len(), |out| outgoing::push_frame(out, event, data, None))
    }

    /// Emits an event in reply to the message that carried `id` (JSON text); without an id it is a plain event.
    pub fn reply(&self, conn: ConnectionId, id: Option<&str>, event: &str, data: &str) -> Result<Sent, Error> {
        self.send(conn, data.len(), |out| outgoing::push_frame(out, event, data, id))
    }

    /// Starts the closing handshake. `code` must be one an endpoint may send (RFC 6455 section 7.4), the reason at most
    /// 123 bytes.
    pub fn close(&self, conn: ConnectionId, code: u16, reason: &str) -> Result<(), Error> {
        if !codec::is_sendable(code) {
            return Err(Error::InvalidArgument("close code must be 1000 to 1003, 1007 to 1014 or 3000 to 4999"));
        }
        if reason.len() > 123 {
            return Err(Error::InvalidArgument("close reason must be at most 123 bytes"));
        }
        self.remote(conn)?;
        self.post_text(conn.shard(), reason, |reason| Command::Close { conn, code, reason });
        Ok(())
    }

    /// Closes a connection with 1011, `internal`, because the application's handler failed (THREATS S5).
    pub fn fail(&self, conn: ConnectionId) -> Result<(), Error> {
        self.remote(conn)?;
        self.post(conn.shard(), |commands| commands.commands.push(Command::Fail { conn }));
        Ok(())
    }

    /// Refuses a message of `event` that the schema let pass and the application's own validation did not: the verdict
    /// is `schema_mismatch`, counted, logged and acted upon as `on_violation` says.
    pub fn refuse(&self, conn: ConnectionId, event: &str) -> Result<(), Error> {
        self.remote(conn)?;
        self.post_text(conn.shard(), event, |event| Command::Refuse { conn, event });
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
        self.remote(conn)?;
        self.post(conn.shard(), |commands| commands.commands.push(Command::Pause { conn, paused }));
        Ok(())
    }

    /// Counts `bytes` of messages that the application keeps beyond their batch towards `max_inbox_bytes`, for as long as
    /// the guard lives.
    pub fn hold_inbox(&self, bytes: usize) -> KeptInbox {
        self.shared.inbox_grew(bytes);
        KeptInbox { shared: Arc::clone(&self.shared), bytes }
    }

    /// As [`hold_inbox`](Self::hold_inbox) without a guard, until [`release_inbox`](Self::release_inbox) is called.
    pub fn keep_inbox(&self, bytes: usize) {
        self.shared.inbox_grew(bytes);
    }

    /// The end of what [`keep_inbox`](Self::keep_inbox) began, for the same number of bytes.
    pub fn release_inbox(&self, bytes: usize) {
        self.shared.inbox_shrank(bytes);
    }

    /// Says which of the events that ask for no answer the application listens to; all of them at first.
    ///
    /// Those it does not listen to do not wake it: opens and closes come with the next event that does, or after 20 ms,
    /// and violations are only counted and logged. So peers that are let in and thrown out cost it next to nothing.
    pub fn heed(&self, opens: bool, closes: bool, violations: bool) {
        self.shared.heed(opens, closes, violations);
    }

    /// Puts a connection into a room; a connection leaves its rooms when it closes.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] at 1024 rooms, those included that were asked for and are not entered yet. A leave counts
    /// when it was carried out.
    pub fn join(&self, conn: ConnectionId, room: &str) -> Result<(), Error> {
        let slot = self.remote(conn)?.slots.get(conn.slot()).ok_or(Error::ConnectionClosed)?;
        check_room(room)?;
        if !slot.take_room(MAX_ROOMS_PER_CONNECTION as u32) {
            return Err(Error::InvalidArgument("a connection can be in at most 1024 rooms: leave one first"));
        }
        self.post_text(conn.shard(), room, |room| Command::Join { conn, room });
        Ok(())
    }

    /// Takes a connection out of a room.
    pub fn leave(&self, conn: ConnectionId, room: &str) -> Result<(), Error> {
        self.remote(conn)?;
        check_room(room)?;
        self.post_text(conn.shard(), room, |room| Command::Leave { conn, room });
        Ok(())
    }

    /// Emits an event to a room, or to every connection; encoded once. `except` are left out: an `Option`, or any number.
    pub fn broadcast(
        &self,
        room: Option<&str>,
        event: &str,
        data: &str,
        except: impl IntoIterator<Item = ConnectionId>,
    ) -> Result<(), Error> {
        self.broadcast_frame(room, except, |out| outgoing::push_frame(out, event, data, None))
    }

    /// Sends a text message to a room, or to every connection (`raw`).
    pub fn broadcast_text(
        &self,
        room: Option<&str>,
        text: &str,
        except: impl IntoIterator<Item = ConnectionId>,
    ) -> Result<(), Error> {
        self.broadcast_frame(room, except, |out| codec::data_frame(out, Opcode::Text, text.as_bytes()))
    }

    /// Sends a binary message to a room, or to every connection (`raw`).
    pub fn broadcast_binary(
        &self,
        room: Option<&str>,
        payload: &[u8],
        except: impl IntoIterator<Item = ConnectionId>,
    ) -> Result<(), Error> {
        self.broadcast_frame(room, except, |out| codec::data_frame(out, Opcode::Binary, payload))
    }

    fn broadcast_frame(
        &self,
        room: Option<&str>,
        except: impl IntoIterator<Item = ConnectionId>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Error> {
        self.check_running()?;
        room.map_or(Ok(()), check_room)?;
        // The caller's code runs before anything is locked or counted: it may call us, and it may panic.
        let except: Vec<ConnectionId> = except.into_iter().collect();
        let mut frame = Vec::new();
        write(&mut frame);
        if frame.len() > self.shared.policy.max_outbox_bytes {
            return Err(NEVER_FITS);
        }
        let frame: Arc<[u8]> = frame.into();
        for shard in 0..self.shared.shards.len() {
            self.shared.shards[shard].broadcast_bytes.fetch_add(frame.len(), Ordering::Relaxed);
            self.post(shard, |commands| {
                let room = room.map(|room| commands.keep(room.as_bytes()));
                let except = commands.keep_ids(except.iter().copied().filter(|id| id.shard() == shard));
                commands.commands.push(Command::Broadcast { room, frame: Arc::clone(&frame), except });
            });
        }
        Ok(())
    }

    /// Whether broadcasts come faster than they are carried out: a shard has more than `max_outbox_bytes` of them before it.
    /// They wait in memory; an application that goes on at this pace has no bound to it. A peer that is slow by itself is
    /// none of this, but closed.
    pub fn broadcasts_wait(&self) -> bool {
        let most = self.shared.policy.max_outbox_bytes;
        self.shared.shards.iter().any(|remote| remote.broadcast_bytes.load(Ordering::Relaxed) > most)
    }

    /// Closes every connection of a user that was let in before this call: `session_revoked`, or `auth_failed` for one
    /// whose 101 is not sent yet (THREATS A7). One that is let in after it stays.
    pub fn disconnect_user(&self, user: &str) -> Result<(), Error> {
        self.check_running()?;
        let number = self.shared.revocations.revoke(user);
        for shard in 0..self.shared.shards.len() {
            self.post_text(shard, user, |user| Command::DisconnectUser { user, number });
        }
        // Not held by a cork: the handler that calls may go on for long, and until then the user would be served.
        self.flush();
        Ok(())
    }

    /// How often [`disconnect_user`](Self::disconnect_user) was called. A connection of the user whose
    /// [`granted`](super::Open::granted) is less than what this was behind the call is one that it closes, even where the
    /// application hears of it only later.
    pub fn last_revocation(&self) -> u64 {
        self.shared.revocations.last()
    }

    /// Whether a ticket still waits for its answer: what the application does for one that does not is in vain.
    pub fn is_waiting(&self, ticket: TicketId) -> bool {
        self.shared.tickets.is_waiting(ticket)
    }

    /// Answers a ticket. A second or late answer is an error (THREATS A4).
    pub fn answer(&self, ticket: TicketId, decision: Decision) -> Result<(), Error> {
        let grant = self.shared.revocations.grant();
        match &decision {
            Decision::Accept(accept) if accept.user.as_deref().is_some_and(|user| check_user(user).is_err()) => {
                return Err(Error::InvalidArgument("user must be 1 to 256 bytes without control characters"));
            }
            Decision::Reject(status) if !(300..=599).contains(status) => {
                return Err(Error::InvalidArgument("status of a rejection must be 300 to 599"));
            }
            _ => {}
        }
        if self.shared.tickets.answer(ticket, decision, grant) { Ok(()) } else { Err(Error::TicketSettled) }
    }

    /// Takes over a plain TCP connection that another server (an HTTP server that shares its port) has accepted.
    /// `received` is what was read from it: the whole request head, and whatever came behind it.
    ///
    /// It gets the verdicts of any other handshake; a refusal is answered on the connection. What the other server has
    /// already done is not done again: its limits apply to the head, and its timeouts to how long that took.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] where the policy cannot be kept on such a connection: it asks for `tls` or a PROXY
    /// header, or does not allow plain text on the connection's address; [`Error::ConnectionClosed`] where the peer has
    /// left; [`Error::Stopped`].
    pub fn adopt(&self, stream: TcpStream, received: Vec<u8>) -> Result<(), Error> {
        self.check_running()?;
        let policy = &self.shared.policy;
        if policy.tls.is_some() || policy.proxy_protocol {
            return Err(Error::InvalidArgument(
                "tls and proxy_protocol belong to the server that accepts: they cannot be on for adopted connections",
            ));
        }
        let local = stream.local_addr().map_err(|_| Error::ConnectionClosed)?.ip().to_canonical();
        if !local.is_loopback() && !policy.plaintext_allowed {
            return Err(Error::InvalidArgument(
                "the connection is plain text on an address that is not loopback: give trusted_proxies when a proxy \
                 ends TLS, or dangerously_allow_plaintext: true",
            ));
        }
        listener::adopt(&self.shared, stream, received).map_err(|_| Error::ConnectionClosed)
    }

    /// Reads certificate and key again; a bad pair keeps the old one and is an error that says so (THREATS T2).
    pub fn reload_tls(&self) -> Result<(), Error> {
        let (Some(slot), Some(options)) = (&self.shared.tls, &self.shared.policy.tls) else {
            return Err(Error::InvalidArgument("reload_tls needs the option tls"));
        };
        let fresh = tls::server_config(options)?;
        *slot.write().unwrap_or_else(std::sync::PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Shuts down gently: new handshakes answer 503, open connections close with 1012 spread over `jitter_ms` (an hour at
    /// most; never beyond the timeout), what is left after `timeout_ms` is dropped (THREATS S10). The events end when all is
    /// over.
    ///
    /// `u64::MAX`: no end to the waiting, no jitter. A second drain may shorten the first. What this thread said before is
    /// carried out before.
    pub fn drain(&self, timeout_ms: u64, jitter_ms: u64) {
        const MOST_JITTER_MS: u64 = 3_600_000;
        self.flush();
        self.shared.advance(Life::Draining);
        let until = self.shared.clock.now().after_millis(timeout_ms);
        let jitter_ms = if jitter_ms == u64::MAX { 0 } else { jitter_ms.min(timeout_ms).min(MOST_JITTER_MS) };
        for remote in &self.shared.shards {
            remote.post(|commands| commands.commands.push(Command::Drain { until, jitter_ms }));
        }
    }

    /// Stops at once: every connection is dropped, once what this thread said before is carried out and written.
    pub fn stop(&self) {
        self.flush();
        self.shared.advance(Life::Draining);
        for remote in &self.shared.shards {
            remote.post(|commands| commands.commands.push(Command::Stop));
        }
    }

    /// The counters now.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    fn check_running(&self) -> Result<(), Error> {
        if self.shared.is_over() { Err(Error::Stopped) } else { Ok(()) }
    }
}

/// What is larger than an outbox may ever be would close the connection that it is for.
const NEVER_FITS: Error = Error::InvalidArgument("the message is larger than max_outbox_bytes: it can never be sent");

/// Bytes that the application keeps of its inbox; dropping this gives them back.
#[must_use = "dropping it gives the bytes back"]
pub struct KeptInbox {
    shared: Arc<Shared>,
    bytes: usize,
}

impl core::fmt::Debug for KeptInbox {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("KeptInbox").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Drop for KeptInbox {
    fn drop(&mut self) {
        self.shared.inbox_shrank(self.bytes);
    }
}

fn check_room(room: &str) -> Result<(), Error> {
    if (1..=256).contains(&room.len()) {
        return Ok(());
    }
    Err(Error::InvalidArgument("room must be 1 to 256 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_still_speaks_of_its_own_bytes() {
        let ids = |numbers: [u64; 3]| numbers.into_iter().map(ConnectionId::from_u64);
        let mut buffers = ["first", "second"].map(|name| {
            let mut buffer = CommandBuffer::default();
            let room = Some(buffer.keep(name.as_bytes()));
            let except = buffer.keep_ids(ids([300, name.len() as u64, 1 << 40]));
            buffer.commands.push(Command::Broadcast { room, frame: Arc::default(), except });
            buffer
        });
        let [first, second] = &mut buffers;
        first.append(second);
        for (command, name) in first.commands.iter().zip(["first", "second"]) {
            let Command::Broadcast { room: Some(room), except, .. } = command else { panic!("no broadcast") };
            let except: Vec<u64> = first.ids(*except).iter().map(|id| u64::from_be_bytes(*id)).collect();
            assert_eq!((first.text(*room), &except[..]), (name, &[name.len() as u64, 300, 1 << 40][..]));
        }
    }
}
