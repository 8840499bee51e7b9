//! A running server: what every thread of the application can do with it.

use std::net::TcpStream;
#[cfg(unix)]
use std::os::unix::net::UnixStream;

use serde::Serialize;

use crate::audience::Audience;
use crate::conn::Conn;
use crate::driver::{
    Adoption, BanInfo, ConnectionId, Decision, JsonMessage, Pipe, ServerHandle, Stats, TicketId, To, Whom,
};
use crate::error::Error;
use crate::options::Options;
use crate::sent::Sent;

/// A running server. It is cheap to clone, and for any thread. No call blocks, and every call is safe after the server has stopped.
#[derive(Clone, Debug)]
pub struct Handle {
    inner: ServerHandle,
}

/// The times of a gentle end: [`Handle::drain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// The time to wait for closing handshakes; then the remaining connections are dropped. Default 10000.
    pub timeout_ms: u64,
    /// The time over which the close frames are spread, so that clients do not all return at once: an hour at most, and never
    /// beyond the timeout. Default 0.
    pub jitter_ms: u64,
}

impl Default for Drain {
    fn default() -> Self {
        Self { timeout_ms: 10_000, jitter_ms: 0 }
    }
}

impl Handle {
    pub(crate) fn new(inner: ServerHandle) -> Self {
        Self { inner }
    }

    /// One connection. Any id is safe: the id of a closed connection never names another one.
    pub fn conn(&self, id: ConnectionId) -> Conn<'_> {
        Conn::new(&self.inner, id)
    }

    /// The members of a room.
    pub fn room<'h>(&'h self, name: &'h str) -> Audience<'h> {
        Audience::new(&self.inner, To::Room(name))
    }

    /// The members of at least one of these rooms.
    pub fn rooms<'h>(&'h self, names: &'h [&'h str]) -> Audience<'h> {
        Audience::new(&self.inner, To::Rooms(names))
    }

    /// The connections of a user.
    pub fn to_user<'h>(&'h self, user: &'h str) -> Audience<'h> {
        Audience::new(&self.inner, To::User(user))
    }

    /// The ids of a user's open connections, now.
    pub fn connections_of(&self, user: &str) -> Vec<ConnectionId> {
        self.inner.connections_of(user)
    }

    /// The ids of all open connections, now. It looks at each of them: not for every message.
    pub fn connections(&self) -> Vec<ConnectionId> {
        self.inner.connections()
    }

    /// Every open connection of the server.
    pub fn everyone(&self) -> Audience<'_> {
        Audience::new(&self.inner, To::Everyone)
    }

    /// Emits an event in reply to a message: with its id, if it has one.
    ///
    /// # Errors
    ///
    /// As [`Conn::emit`].
    pub fn reply(
        &self,
        message: &JsonMessage<'_>,
        event: &str,
        data: &(impl Serialize + ?Sized),
    ) -> Result<Sent, Error> {
        self.conn(message.conn).reply(message.id, event, data)
    }

    /// As [`Conn::report_invalid_data`], of a message that is at hand: an error reply (`on_mismatch`) has its id.
    ///
    /// # Errors
    ///
    /// None yet.
    pub fn report_invalid(&self, message: &JsonMessage<'_>) -> Result<Sent, Error> {
        Sent::of_command(self.inner.refuse_message(message.conn, message.event, message.id))
    }

    /// Answers a handshake that waits for the application ([`Event::Upgrade`](crate::Event::Upgrade)), now or later. Returns
    /// false if it was answered already, its time is over, or its peer has left.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if the user is not 1 to 256 bytes without control characters, a role is none, or the status is
    /// not 300 to 599: another answer may follow. [`Error::InvalidAnswer`] if a header or the subprotocol may not be in the
    /// answer, or it is too large: the peer is answered 503 (`auth_unavailable`).
    pub fn answer(&self, ticket: TicketId, decision: Decision) -> Result<bool, Error> {
        match self.inner.answer(ticket, decision) {
            Ok(()) => Ok(true),
            Err(Error::TicketSettled | Error::Stopped) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Closes every connection of a user that was accepted before this call: `session_revoked`, or `auth_failed` if its 101 is
    /// not sent yet. A connection that is accepted after the call stays.
    pub fn disconnect_user(&self, user: &str) {
        // An error here: the server has stopped, and has no connection any more.
        let _ = self.inner.disconnect_user(user);
    }

    /// Takes over a plain TCP connection that another server has accepted, to share its port. `received` holds the bytes that
    /// were read from it: the whole request head, and anything after it.
    ///
    /// The connection gets the verdicts of any other handshake; a refusal is answered on it. The limits and timeouts of the
    /// other server apply to the head.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if such a connection cannot keep the policy: `tls` or `proxy_protocol` is on, or plain text is
    /// not allowed on the connection's address. [`Error::ConnectionClosed`] if the peer has left. [`Error::Stopped`].
    pub fn adopt(&self, stream: TcpStream, received: Vec<u8>) -> Result<(), Error> {
        self.inner.adopt(stream, received)
    }

    /// As [`adopt`](Self::adopt), and tells more of the connection than its bytes: see [`Adoption`].
    ///
    /// # Errors
    ///
    /// As [`adopt`](Self::adopt).
    pub fn adopt_with(&self, stream: TcpStream, adoption: Adoption) -> Result<(), Error> {
        self.inner.adopt(stream, adoption)
    }

    /// As [`adopt_with`](Self::adopt_with), of a connection of a Unix stream socket.
    ///
    /// # Errors
    ///
    /// As [`adopt`](Self::adopt).
    #[cfg(unix)]
    pub fn adopt_unix(&self, stream: UnixStream, adoption: Adoption) -> Result<(), Error> {
        self.inner.adopt_unix(stream, adoption)
    }

    /// As [`adopt_with`](Self::adopt_with), of a connection that has no socket, or none that can be handed over: TLS that your
    /// application ends, a stream of HTTP/2, a pair in memory. You bring the peer's bytes and take those for the peer by the end
    /// of a pipe. Limits, timeouts and verdicts are those of a socket. Where another thread takes the events, one may come before
    /// you know of the pipe: take once when you do.
    ///
    /// ```
    /// use wsguard::options::{Auth, Protocol};
    /// use wsguard::{Adoption, Builder, Event, Next, Options};
    ///
    /// # fn main() -> Result<(), wsguard::Error> {
    /// let options = Options { protocol: Protocol::Raw, ..Options::new(["https://app.example"], Auth::None) };
    /// let mut server = Builder::new().without_listener().start(options)?;
    /// let handle = server.handle();
    ///
    /// let head = b"GET / HTTP/1.1\r\nHost: app.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    ///     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nOrigin: https://app.example\r\n\r\n";
    /// let pipe = handle.adopt_pipe(Adoption { received: head.to_vec(), is_secure: true, ..Adoption::default() })?;
    /// let mut for_the_peer = Vec::new();
    /// while let Next::Event(event) = server.next(None) {
    ///     match event {
    ///         Event::PipeReady(id) if id == pipe.id() => {
    ///             let taken = pipe.take(&mut for_the_peer, usize::MAX);
    ///             if for_the_peer.ends_with(b"\x81\x05hello") || taken.is_ended {
    ///                 break;
    ///             }
    ///             // What the peer has sent: "hello" in a text frame, masked with the key 0.
    ///             pipe.push(b"\x81\x85\0\0\0\0hello");
    ///         }
    ///         Event::Text(conn, text) => drop(handle.conn(conn).send(text)?),
    ///         _ => {}
    ///     }
    /// }
    /// assert!(for_the_peer.starts_with(b"HTTP/1.1 101 "));
    /// # assert!(for_the_peer.ends_with(b"hello"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`adopt`](Self::adopt). Without `is_secure` the bytes are plain text on the address that the adoption names as `local`,
    /// else on the peer's.
    pub fn adopt_pipe(&self, adoption: Adoption) -> Result<Pipe, Error> {
        self.inner.adopt_pipe(adoption)
    }

    /// Reads certificate and key again; open connections stay.
    ///
    /// # Errors
    ///
    /// [`Error::Tls`] for a bad pair; the old one stays in use. [`Error::InvalidArgument`] without the option `tls`.
    pub fn reload_tls(&self) -> Result<(), Error> {
        self.inner.reload_tls()
    }

    /// Runs by other options from now on, all or nothing: what comes is judged by them, and so is what is open. Returns the
    /// generation of the policy, which is 1 at the start.
    ///
    /// An open connection is closed with `session_revoked` where its static token is gone, or the key that has signed its JSON
    /// Web Token, or where its path is not served any more.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] and [`Error::Tls`] name the option that is not accepted, or that cannot change while the server runs
    /// (`not_reloadable`); then nothing has changed. [`Error::Stopped`].
    pub fn reload(&self, options: Options) -> Result<u64, Error> {
        self.inner.reload(options)
    }

    /// Keeps an address, a network or a user out for `for_ms`, or until [`unban`](Self::unban): handshakes are refused with 403
    /// `banned`, and what is open is closed with 1008 `banned`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for what is no address or user, a time of 0, a reason of more than 256 bytes, and where 65536
    /// bans are in force; [`Error::Stopped`].
    pub fn ban(&self, whom: Whom<'_>, for_ms: Option<u64>, reason: &str) -> Result<(), Error> {
        self.inner.ban(whom, for_ms, reason)
    }

    /// Lifts a ban of exactly this address, network or user; `false`: there was none.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for what is no address or user.
    pub fn unban(&self, whom: Whom<'_>) -> Result<bool, Error> {
        self.inner.unban(whom)
    }

    /// The bans in force, in the order of their ends: those of the application, and those of `auto_ban`.
    pub fn bans(&self) -> Vec<BanInfo> {
        self.inner.bans()
    }

    /// Chooses the events that wake the application; at first all of them. See [`Interest`].
    pub fn set_interest(&self, interest: Interest) {
        self.inner.heed(interest.opens, interest.closes, interest.violations);
    }

    /// Chooses whether every ping and pong of a peer is told ([`Event::PingFrame`](crate::Event::PingFrame),
    /// [`Event::PongFrame`](crate::Event::PongFrame)); at first none is. Those beyond `control_rate_limit` close the connection
    /// and are not told.
    pub fn heed_control(&self, heeds: bool) {
        self.inner.heed_control(heeds);
    }

    /// Chooses whether it is told that a connection has begun to close ([`Event::Closing`](crate::Event::Closing)), ahead of its
    /// close; at first it is not.
    pub fn heed_closing(&self, heeds: bool) {
        self.inner.heed_closing(heeds);
    }

    /// Shuts down gently: new handshakes are answered 503, open connections are closed with 1012 (`drain_close_code`). The events
    /// end when the server has stopped. A second drain may shorten the first.
    pub fn drain(&self, drain: Drain) {
        self.inner.drain(drain.timeout_ms, drain.jitter_ms);
    }

    /// Stops at once: the server writes what this thread sent before, and drops every connection.
    pub fn stop(&self) {
        self.inner.stop();
    }

    /// The counters at this moment.
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    /// The numbers of the server as OpenMetrics text, as `/metrics` of `admin_listen` serves it: for an HTTP server of the
    /// application's own. Its media type is `application/openmetrics-text; version=1.0.0; charset=utf-8`.
    pub fn metrics(&self) -> String {
        self.inner.metrics()
    }
}

/// The events that wake the application: [`Handle::set_interest`].
///
/// Other opens and closes come with the next event that wakes it, or after 20 ms; other violations are only counted and logged. So
/// peers that connect and are closed at once cost the application next to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// [`Event::Open`](crate::Event::Open). Default true.
    pub opens: bool,
    /// [`Event::Close`](crate::Event::Close). Default true.
    pub closes: bool,
    /// [`Event::Violation`](crate::Event::Violation). Default true.
    pub violations: bool,
}

impl Default for Interest {
    fn default() -> Self {
        Self { opens: true, closes: true, violations: true }
    }
}
