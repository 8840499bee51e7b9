//! The native half of `Server` (`lib/server.js`).

#![expect(clippy::needless_pass_by_value, reason = "napi hands arguments over by value")]
#![expect(clippy::too_many_arguments, reason = "buffers cross the border one by one")]

use std::sync::Arc;
use std::time::Duration;

use napi::bindgen_prelude::{BufferSlice, Function};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, JsString, Result, Status};
use napi_derive::napi;
use wsguard::binding::{
    Builder, ConnectionId, Error, Next, Policy, PolicySet, Server, ServerHandle, TicketId, To, Wake, Whom, compile,
};

use crate::authenticate::Answer;
use crate::commands::Commands;
use crate::connections::{NO_PLACE, join_u64};
use crate::counts::{Counted, Counts};
use crate::error::{refused, thrown};
use crate::inbox::Inbox;
use crate::options::Spelling;
use crate::pipes::{Adopted, Pipes, Taken};
use crate::records::{Kind, Records, TextKind};
use crate::{adopt, json, options, text};

/// The bytes of one connection's messages that may wait for an asynchronous schema, however large the inbox is.
const MAX_WAITING_BYTES: usize = 1024 * 1024;

/// Calls JavaScript once per batch. It does not keep Node's event loop alive; `lib/server.js` decides that.
#[derive(Clone)]
struct Notifier(Arc<ThreadsafeFunction<(), (), (), Status, false, true>>);

impl Wake for Notifier {
    fn wake(&self) {
        // An environment that is being torn down answers `Closing`: nobody is left to be told.
        let _ = self.0.call((), ThreadsafeFunctionCallMode::NonBlocking);
    }
}

/// A server, from its options to its end. Dropping it (garbage, end of the environment) stops it.
#[napi]
pub struct NativeServer {
    /// The options, compiled anew for a start behind one that failed: that has used up the policy.
    options: String,
    spelling: Spelling,
    policy: Option<PolicySet>,
    max_outbox_bytes: usize,
    max_waiting_bytes: usize,
    inbox: Inbox,
    pipes: Pipes,
    counts: Counts,
    /// From the start to the end.
    notifier: Option<Notifier>,
    running: Option<Server>,
    handle: Option<ServerHandle>,
    address: String,
    admin_address: Option<String>,
    /// The last counters and metrics of a server that has stopped; nothing else of it is left.
    ended: Option<(String, String)>,
    /// The bytes that JavaScript keeps: see `keep`.
    kept: usize,
}

#[napi]
impl NativeServer {
    /// Checks the options, JSON text in Node's spelling; `both`: or in the core's, as a file for several faces has it.
    #[napi(constructor)]
    pub fn new(env: Env, options: String, both: Option<bool>) -> Result<Self> {
        let spelling = Spelling { takes_snake: both == Some(true) };
        let (read, json) = options::parse_in(&options, spelling).map_err(|error| thrown(env, &error))?;
        let mut inbox = Inbox::new();
        inbox.learn(&json);
        let policy = compile(read).map_err(|error| thrown(env, &error.into()))?;
        Ok(Self {
            options,
            spelling,
            max_outbox_bytes: policy.largest_outbox(),
            max_waiting_bytes: max_waiting_bytes(&policy.top),
            policy: Some(policy),
            inbox,
            pipes: Pipes::default(),
            counts: Counts::default(),
            notifier: None,
            running: None,
            handle: None,
            address: String::new(),
            admin_address: None,
            ended: None,
            kept: 0,
        })
    }

    /// The names of the events of the top, of all routes, and of earlier policies, in the order of their numbers.
    #[napi]
    pub fn events(&self) -> Vec<String> {
        self.inbox.events().all().to_vec()
    }

    /// The option `maxOutboxBytes`.
    #[napi]
    pub fn max_outbox_bytes(&self) -> f64 {
        self.max_outbox_bytes as f64
    }

    /// The bytes of one connection's messages that may wait for an asynchronous schema before reading from its peer stops.
    #[napi]
    pub fn max_waiting_bytes(&self) -> f64 {
        self.max_waiting_bytes as f64
    }

    /// Starts. `wake` is called when there are events. `consults`: the application is asked about every handshake that has passed
    /// the core's own checks, and hears of every ping and pong of a peer, and that a connection begins to close; `leaves_pings`: it answers those pings itself.
    #[napi]
    pub fn start(
        &mut self,
        env: Env,
        listens: bool,
        wake: Function<'_, (), ()>,
        consults: Option<bool>,
        leaves_pings: Option<bool>,
    ) -> Result<String> {
        if self.handle.is_some() || self.ended.is_some() {
            return Err(refused(env, "already_started", "the server was started already; make another"));
        }
        let notifier = wake.build_threadsafe_function().weak::<true>().build()?;
        let notifier = Notifier(Arc::new(notifier));
        let builder = Builder::new().wake(notifier.clone());
        let builder = if listens { builder } else { builder.without_listener() };
        let builder = builder.auto_pong(leaves_pings != Some(true));
        let consults = consults == Some(true);
        let builder = if consults { builder.consult_without_deadline().like_ws() } else { builder };
        let policy = self.take_policy().map_err(|error| thrown(env, &error))?;
        let server = builder.start_policy(policy).map_err(|error| thrown(env, &error))?;
        server.address().clone_into(&mut self.address);
        self.admin_address = server.admin_address().map(str::to_owned);
        let handle = server.handle();
        handle.heed_control(consults);
        handle.heed_closing(consults);
        self.handle = Some(handle);
        self.running = Some(server);
        self.notifier = Some(notifier);
        Ok(self.address.clone())
    }

    /// Defers opens from now on, or no longer: then `announce` must have been called before.
    #[napi]
    pub fn defer_opens(&mut self, are_deferred: bool) {
        self.inbox.defers_opens = are_deferred;
    }

    /// Gives texts to JavaScript as bytes from now on.
    #[napi]
    pub fn texts_as_bytes(&mut self) {
        self.inbox.texts_are_bytes = true;
    }

    /// Tells which events wake JavaScript.
    #[napi]
    pub fn heed(&self, opens: bool, closes: bool, violations: bool) {
        if let Some(server) = &self.handle {
            server.heed(opens, closes, violations);
        }
    }

    /// Announces the connections whose opens were deferred: JSON, or nothing when there are none.
    #[napi]
    pub fn announce(&mut self) -> Option<String> {
        self.inbox.announce_all().map(|connections| connections.to_string())
    }

    /// Takes the next events: writes records, writes payloads into `arena` from `start`, returns the text of all. A call that
    /// finds none arms the notifier.
    #[napi]
    pub fn take<'env>(
        &mut self,
        env: &'env Env,
        mut records: BufferSlice<'_>,
        mut arena: BufferSlice<'_>,
        start: u32,
    ) -> Result<Option<JsString<'env>>> {
        let mut records = Records::new(&mut records);
        let Some(server) = &mut self.running else {
            records.finish(TextKind::None, false, start as usize, 0);
            return Ok(None);
        };
        loop {
            let mut next = Next::Events;
            if self.inbox.is_empty() {
                next = server.events().next(&mut self.inbox.batch, Some(Duration::ZERO));
                self.inbox.refilled();
            }
            if next == Next::Stopped {
                records.push(Kind::Stopped, [0; 3]);
                records.finish(TextKind::None, false, start as usize, 0);
                self.end();
                return Ok(None);
            }
            self.inbox.fill(&mut records, &mut arena, start as usize);
            // Of some batches JavaScript hears nothing.
            if next == Next::Nothing || !records.is_empty() || !self.inbox.is_empty() {
                break;
            }
        }
        if self.inbox.text.kind == TextKind::None {
            return Ok(None);
        }
        text::write(env, &self.inbox.text.written).map(Some)
    }

    /// Executes a tick's commands. Returns JSON if there is something to tell: connections that do not read, and errors.
    #[napi]
    pub fn flush(
        &mut self,
        env: Env,
        words: BufferSlice<'_>,
        word_count: u32,
        bytes: BufferSlice<'_>,
        byte_count: u32,
        text: JsString<'_>,
        large: Option<BufferSlice<'_>>,
    ) -> Result<Option<String>> {
        let Some(handle) = &self.handle else { return Ok(None) };
        let text = text::read(text)?;
        let large = large.as_deref();
        let commands = match (words.get(..word_count as usize * 4), bytes.get(..byte_count as usize)) {
            (Some(words), Some(bytes)) => Commands::new(words, bytes, large, &text),
            _ => None,
        };
        let Some(commands) = commands else {
            return Err(refused(env, "internal", "commands did not fit what came with them; none was carried out"));
        };
        Ok(commands.carry_out(handle, &self.inbox.connections).into_json())
    }

    /// Counts bytes that JavaScript keeps beyond their batch towards `maxInboxBytes`.
    #[napi]
    pub fn keep(&mut self, bytes: u32) {
        if let Some(server) = &self.handle {
            server.keep_inbox(bytes as usize);
            self.kept += bytes as usize;
        }
    }

    /// Gives back bytes that `keep` counted.
    #[napi]
    pub fn release(&mut self, bytes: u32) {
        if let Some(server) = &self.handle {
            server.release_inbox(bytes as usize);
            self.kept -= bytes as usize;
        }
    }

    /// Returns true if the peer has not read everything yet: a `drained` record may be older than the latest message.
    #[napi]
    pub fn is_queued(&self, low: u32, high: u32) -> bool {
        self.handle.as_ref().is_some_and(|server| server.is_queued(conn(low, high)))
    }

    /// Sends a ping; a record tells of its answer.
    #[napi]
    pub fn ping(&self, env: Env, low: u32, high: u32) -> Result<()> {
        self.of_open(env, |server| server.ping(conn(low, high)).map(drop))
    }

    /// Drops a connection's socket.
    #[napi]
    pub fn terminate(&self, env: Env, low: u32, high: u32) -> Result<()> {
        self.of_open(env, |server| server.terminate(conn(low, high)))
    }

    /// Ends a connection's socket behind what was sent to it, without a close frame.
    #[napi]
    pub fn hang_up(&self, env: Env, low: u32, high: u32) -> Result<()> {
        self.of_open(env, |server| server.hang_up(conn(low, high)))
    }

    /// The bytes that were sent to a connection and that its socket has not taken.
    #[napi]
    pub fn buffered_bytes(&self, low: u32, high: u32) -> f64 {
        self.handle.as_ref().map_or(0, |server| server.buffered_bytes(conn(low, high))) as f64
    }

    /// The places of a room's members.
    #[napi]
    pub fn room_members(&self, room: String) -> Vec<u32> {
        let members = self.handle.as_ref().map(|server| server.room_members(&room)).unwrap_or_default();
        members.into_iter().map(|conn| self.inbox.connections.place(conn)).filter(|place| *place != NO_PLACE).collect()
    }

    /// Counts the members of rooms, the connections of a user or, with neither, all of them, on every node; without those of `except`
    /// (the words of ids). `take_counts` has the answer once JavaScript is woken.
    #[napi]
    pub fn count_everywhere(
        &self,
        env: Env,
        ticket: u32,
        rooms: Option<Vec<String>>,
        user: Option<String>,
        except: Vec<u32>,
        timeout_ms: f64,
    ) -> Result<()> {
        let rooms: Option<Vec<&str>> = rooms.as_ref().map(|rooms| rooms.iter().map(String::as_str).collect());
        let (to, except) = (whom_to(rooms.as_deref(), user.as_deref()), conns(&except));
        let timeout = Duration::from_millis(timeout_ms.max(0.0) as u64);
        self.with(env, |server| match &self.notifier {
            Some(wake) => server.count_everywhere(to, &except, timeout, self.counts.answer(ticket, wake.clone())),
            None => Err(Error::Stopped),
        })
    }

    /// Closes the members of rooms, the connections of a user or, with neither, all, on other nodes.
    #[napi]
    pub fn close_elsewhere(
        &self,
        env: Env,
        rooms: Option<Vec<String>>,
        user: Option<String>,
        code: u32,
        reason: String,
    ) -> Result<()> {
        let rooms: Option<Vec<&str>> = rooms.as_ref().map(|rooms| rooms.iter().map(String::as_str).collect());
        let code = u16::try_from(code).unwrap_or_default();
        self.of_open(env, |server| server.close_elsewhere(whom_to(rooms.as_deref(), user.as_deref()), code, &reason))
    }

    /// Takes everybody out of rooms, on every node, without those of `except` (the words of ids).
    #[napi]
    pub fn clear_rooms(&self, env: Env, rooms: Vec<String>, except: Vec<u32>) -> Result<()> {
        let rooms: Vec<&str> = rooms.iter().map(String::as_str).collect();
        self.of_open(env, |server| server.clear_rooms(&rooms, &conns(&except)))
    }

    /// The answers to `count_everywhere` that have come.
    #[napi]
    pub fn take_counts(&self) -> Vec<Counted> {
        self.counts.take()
    }

    /// Starts a connection's closing handshake.
    #[napi]
    pub fn close(&self, env: Env, low: u32, high: u32, code: u32, reason: String) -> Result<()> {
        let code = u16::try_from(code).unwrap_or_default();
        self.of_open(env, |server| server.close(conn(low, high), code, &reason))
    }

    /// The same with a close frame that is empty.
    #[napi]
    pub fn close_without_code(&self, env: Env, low: u32, high: u32) -> Result<()> {
        self.of_open(env, |server| server.close_without_code(conn(low, high)))
    }

    /// Ends listening; connections stay.
    #[napi]
    pub fn stop_listening(&self) {
        if let Some(server) = &self.handle {
            server.stop_listening();
        }
    }

    /// Puts a connection into a room.
    #[napi]
    pub fn join(&self, env: Env, low: u32, high: u32, room: String) -> Result<()> {
        self.of_open(env, |server| server.join(conn(low, high), &room))
    }

    /// The rooms that a connection is in; nothing once it has closed.
    #[napi]
    pub fn rooms_of(&self, low: u32, high: u32) -> Option<Vec<String>> {
        let rooms = self.handle.as_ref()?.rooms_of(conn(low, high)).ok()?;
        Some(rooms.iter().map(|room| (**room).to_owned()).collect())
    }

    /// Whether it is one of several nodes, which may change what this one has not been told of.
    #[napi]
    pub fn is_node(&self) -> bool {
        self.handle.as_ref().is_some_and(|server| server.policies().top.cluster.is_some())
    }

    /// Takes a connection out of a room.
    #[napi]
    pub fn leave(&self, env: Env, low: u32, high: u32, room: String) -> Result<()> {
        self.of_open(env, |server| server.leave(conn(low, high), &room))
    }

    /// Reports a message that the application's own schema refused; `id`, as JSON, is that of the message.
    #[napi]
    pub fn refuse(&self, env: Env, low: u32, high: u32, event: String, id: Option<String>) -> Result<()> {
        self.of_open(env, |server| server.refuse_message(conn(low, high), &event, id.as_deref()))
    }

    /// Stops reading from a connection, or goes on.
    #[napi]
    pub fn pause(&self, env: Env, low: u32, high: u32, paused: bool) -> Result<()> {
        let conn = conn(low, high);
        self.of_open(env, |server| if paused { server.pause(conn) } else { server.resume(conn) })
    }

    /// Closes every connection of a user. Returns those whose opens were deferred, as `announce` does.
    #[napi]
    pub fn disconnect_user(&mut self, env: Env, user: String) -> Result<Option<String>> {
        if self.ended.is_some() {
            return Ok(None);
        }
        let number = self.with(env, |server| match server.disconnect_user(&user) {
            // What it told before its end may still be on its way to a handler.
            Err(Error::Stopped) => Ok(u64::MAX),
            result => result,
        })?;
        let announced = self.inbox.announce_user(&user).map(|connections| connections.to_string());
        self.inbox.disconnected(&user, number);
        Ok(announced)
    }

    /// Answers a handshake.
    #[napi]
    pub fn answer(&self, env: Env, low: u32, high: u32, answer: Answer) -> Result<()> {
        self.with(env, |server| server.answer(TicketId::from_u64(join_u64(low, high)), answer.decision()))
    }

    /// Runs by other options from now on, JSON text in Node's spelling. Returns the generation.
    #[napi]
    pub fn reload(&mut self, env: Env, options: String) -> Result<f64> {
        let (read, json) = options::parse(&options).map_err(|error| thrown(env, &error))?;
        // No message of the new events is taken before this call is over.
        let generation = self.with(env, |server| server.reload(read))?;
        self.inbox.learn(&json);
        let policy = self.with(env, |server| Ok(server.policies()))?;
        self.max_outbox_bytes = policy.largest_outbox();
        self.max_waiting_bytes = max_waiting_bytes(&policy.top);
        Ok(generation as f64)
    }

    /// The route that a path leads to by the policy in force, as `routes` writes it.
    #[napi]
    pub fn route_of(&self, path: String) -> Option<String> {
        let resolved = self.handle.as_ref()?.policies().resolve(&path)?;
        resolved.route.as_deref().map(str::to_owned)
    }

    /// Keeps an address or a network (or a user) out, for ever where no time is given.
    #[napi]
    pub fn ban(&self, env: Env, is_user: bool, whom: String, for_ms: Option<f64>, reason: String) -> Result<()> {
        self.with(env, |server| server.ban(whom_of(is_user, &whom), for_ms.map(|time| time as u64), &reason))
    }

    /// Whether whoever has this address or user is banned now.
    #[napi]
    pub fn is_banned(&self, ip: Option<String>, user: Option<String>) -> bool {
        let ip = ip.and_then(|ip| ip.parse().ok());
        self.handle.as_ref().is_some_and(|server| server.is_banned(ip, user.as_deref()))
    }

    /// Lifts a ban; false: there was none.
    #[napi]
    pub fn unban(&self, env: Env, is_user: bool, whom: String) -> Result<bool> {
        self.with(env, |server| server.unban(whom_of(is_user, &whom)))
    }

    /// The bans in force, as JSON.
    #[napi]
    pub fn bans(&self, env: Env) -> Result<String> {
        self.with(env, |server| Ok(json::bans(&server.bans())))
    }

    /// The numbers of the server as OpenMetrics text.
    #[napi]
    pub fn metrics(&self, env: Env) -> Result<String> {
        match &self.ended {
            Some((_, metrics)) => Ok(metrics.clone()),
            None => self.with(env, |server| Ok(server.metrics())),
        }
    }

    /// The address of `adminListen` with the real port, once the server has started.
    #[napi]
    pub fn admin_address(&self) -> Option<String> {
        self.admin_address.clone()
    }

    /// Reads certificate and key again.
    #[napi]
    pub fn reload_tls(&self, env: Env) -> Result<()> {
        self.with(env, ServerHandle::reload_tls)
    }

    /// Shuts down gently; the events end with a record that says so.
    #[napi]
    pub fn drain(&self, timeout_ms: f64, jitter_ms: f64) {
        if let Some(server) = &self.handle {
            server.drain(timeout_ms.max(0.0) as u64, jitter_ms.max(0.0) as u64);
        }
    }

    /// Drops every connection; the events end with a record that says so.
    #[napi]
    pub fn stop(&self) {
        if let Some(server) = &self.handle {
            server.stop();
        }
    }

    /// Stops and waits for the threads, without another event: the process ends.
    #[napi]
    pub fn abandon(&mut self) {
        self.running = None;
        self.notifier = None;
    }

    /// The counters and the verdicts as JSON.
    #[napi]
    pub fn stats(&self, env: Env) -> Result<String> {
        match &self.ended {
            Some((stats, _)) => Ok(stats.clone()),
            None => self.with(env, |server| Ok(json::stats(&server.stats()))),
        }
    }

    /// Takes over a TCP connection that Node's HTTP server accepted, by its descriptor, with what was read from it.
    #[napi]
    pub fn adopt(&self, env: Env, fd: i32, received: BufferSlice<'_>) -> Result<()> {
        let stream = adopt::tcp_stream(fd).map_err(|error| {
            refused(env, "not_supported", &format!("the upgrade's socket cannot be taken over: {error}"))
        })?;
        self.with(env, |server| server.adopt(stream, received.to_vec()))
    }

    /// The same of a connection that is told of: of a TCP or Unix socket.
    #[napi]
    pub fn adopt_socket(&self, env: Env, fd: i32, adopted: Adopted, received: BufferSlice<'_>) -> Result<()> {
        let stream = adopt::stream(fd).map_err(|error| {
            refused(env, "not_supported", &format!("the upgrade's socket cannot be taken over: {error}"))
        })?;
        let adoption = adopted.with(&received);
        self.with(env, |server| match stream {
            adopt::Stream::Tcp(stream) => server.adopt(stream, adoption),
            #[cfg(unix)]
            adopt::Stream::Unix(stream) => server.adopt_unix(stream, adoption),
        })
    }

    /// The same of a stream whose bytes JavaScript brings. Returns the words of the pipe's id.
    #[napi]
    pub fn adopt_pipe(&mut self, env: Env, adopted: Adopted, received: BufferSlice<'_>) -> Result<Vec<u32>> {
        let adoption = adopted.with(&received);
        let handle = self.with(env, |server| Ok(server.clone()))?;
        self.pipes.adopt(&handle, adoption).map_err(|error| thrown(env, &error))
    }

    /// Hands over bytes of a pipe's peer; false: no more until a record tells of room.
    #[napi]
    pub fn push_pipe(&self, low: u32, high: u32, bytes: BufferSlice<'_>) -> bool {
        self.pipes.get(low, high).is_none_or(|pipe| pipe.push(&bytes))
    }

    /// The peer of a pipe has ended its side.
    #[napi]
    pub fn end_pipe(&self, low: u32, high: u32) {
        if let Some(pipe) = self.pipes.get(low, high) {
            pipe.end();
        }
    }

    /// The transport of a pipe is gone.
    #[napi]
    pub fn drop_pipe(&mut self, low: u32, high: u32) {
        self.pipes.drop_one(low, high);
    }

    /// Takes bytes for the peer of a pipe.
    #[napi]
    pub fn take_pipe(&self, low: u32, high: u32, most: u32) -> Taken {
        self.pipes.take(low, high, most)
    }

    fn take_policy(&mut self) -> core::result::Result<PolicySet, Error> {
        match self.policy.take() {
            Some(policy) => Ok(policy),
            None => Ok(compile(options::parse_in(&self.options, self.spelling)?.0)?),
        }
    }

    /// The server has stopped: drops everything but the counters, the notifier included.
    fn end(&mut self) {
        self.ended = self.handle.take().map(|server| {
            // What still waits in JavaScript is given back there, and no longer counted.
            server.release_inbox(core::mem::take(&mut self.kept));
            (json::stats(&server.stats()), server.metrics())
        });
        self.running = None;
        self.notifier = None;
    }

    fn with<T>(&self, env: Env, call: impl FnOnce(&ServerHandle) -> core::result::Result<T, Error>) -> Result<T> {
        let Some(server) = &self.handle else {
            if self.ended.is_some() {
                return Err(thrown(env, &Error::Stopped));
            }
            return Err(refused(env, "not_started", "the server was not started: listen() or attach() first"));
        };
        call(server).map_err(|error| thrown(env, &error))
    }

    /// A call for a connection; that it has closed meanwhile is no error.
    fn of_open(&self, env: Env, call: impl FnOnce(&ServerHandle) -> core::result::Result<(), Error>) -> Result<()> {
        if self.ended.is_some() {
            return Ok(());
        }
        self.with(env, |server| match call(server) {
            Err(Error::ConnectionClosed) => Ok(()),
            result => result,
        })
    }
}

/// The share of one connection: all connections of one user, or of one address, fill at most a quarter of the inbox, so that
/// others do not wait for them.
fn max_waiting_bytes(policy: &Policy) -> usize {
    let theirs = policy.max_connections_per_user.max(policy.max_connections_per_ip).min(policy.max_connections);
    (policy.max_inbox_bytes / 4 / theirs.max(1)).min(MAX_WAITING_BYTES)
}

fn whom_of(is_user: bool, whom: &str) -> Whom<'_> {
    if is_user { Whom::User(whom) } else { Whom::Ip(whom) }
}

fn conn(low: u32, high: u32) -> ConnectionId {
    ConnectionId::from_u64(join_u64(low, high))
}

/// The ids of which these are the words.
fn conns(words: &[u32]) -> Vec<ConnectionId> {
    words.as_chunks::<2>().0.iter().map(|[low, high]| conn(*low, *high)).collect()
}

/// An audience: rooms, or a user, or neither.
fn whom_to<'t>(rooms: Option<&'t [&'t str]>, user: Option<&'t str>) -> To<'t> {
    match (rooms, user) {
        (Some(rooms), _) => To::Rooms(rooms),
        (None, Some(user)) => To::User(user),
        (None, None) => To::Everyone,
    }
}
