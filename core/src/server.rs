//! Starting a server, and reading its events: in `run`, in an event loop of the application, or in a task.

use core::error::Error as StdError;
use core::future::poll_fn;
use core::task::{Context, Poll};
use std::time::Duration;

use crate::driver::{self, ConnectionId, Decision, Event, EventBatch, Inline, Next as Batched, Wake};
use crate::error::Error;
use crate::handle::Handle;
use crate::options::Options;

/// What a handler of [`Server::run`] returns: `?` takes any error.
pub type HandlerResult = Result<(), Box<dyn StdError + Send + Sync>>;

/// Events that a task is given in a row before others have their turn.
const EVENTS_PER_TURN: u32 = 128;

/// A running server. Dropping it stops it at once; [`Handle::drain`] is the gentle way.
///
/// There are three ways to read its events: [`run`](Self::run) calls a handler, a task of any runtime awaits
/// [`recv`](Self::recv), and [`next`](Self::next) waits with a timeout.
#[derive(Debug)]
pub struct Server {
    inner: driver::Server,
    batch: EventBatch,
    /// Which event of the batch is next.
    index: usize,
    /// Events that a task was given since it last waited.
    in_a_row: u32,
}

/// The result of [`Server::next`].
#[derive(Debug)]
pub enum Next<'s> {
    /// An event. Asking for the next one releases its room in `max_inbox_bytes`.
    Event(Event<'s>),
    /// No event arrived in time.
    TimedOut,
    /// The server has stopped, and every event was taken.
    Stopped,
}

impl Server {
    /// Checks the options, binds, and starts the threads: `Builder::new().start(options)`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] and [`Error::Tls`] name the option; [`Error::Listen`] and [`Error::AdminListen`] name the address.
    pub fn start(options: Options) -> Result<Self, Error> {
        Builder::new().start(options)
    }

    /// The address of the listener, with the real port; empty without a listener. The first of [`addresses`](Self::addresses).
    pub fn address(&self) -> &str {
        self.inner.address()
    }

    /// The addresses of all listeners: a name in `listen` may resolve to several, IPv4 first.
    pub fn addresses(&self) -> &[String] {
        self.inner.addresses()
    }

    /// The address of `admin_listen`, with the real port; `None` without that option.
    pub fn admin_address(&self) -> Option<&str> {
        self.inner.admin_address()
    }

    /// A handle for any thread.
    pub fn handle(&self) -> Handle {
        Handle::new(self.inner.handle())
    }

    /// Calls `handler` for every event until the server has stopped.
    ///
    /// Commands that the handler gives during one batch of events are handed over together. If the handler returns an error or
    /// panics, the connection of the event is closed with 1011, or a waiting handshake is answered 503; the server goes on. The
    /// error is logged with the target `wsguard::handler`.
    pub fn run(self, mut handler: impl FnMut(Event<'_>, &Handle) -> HandlerResult) {
        let handle = self.handle();
        // What `next` or `recv` has taken and not given out comes first.
        let (batch, taken) = (self.batch, self.index);
        let mut handled = |event: Event<'_>, server: &driver::ServerHandle| {
            let conn = event.conn();
            let ticket = if let Event::Upgrade(upgrade) = &event { Some(upgrade.ticket) } else { None };
            let Err(error) = handler(event, &handle) else { return };
            // Errors here: the connection is closed, the handshake is over.
            let _ = conn.map(|conn| server.fail(conn));
            let _ = ticket.map(|ticket| server.answer(ticket, Decision::Unavailable));
            log(conn, &error.to_string());
        };
        self.inner.run_from(batch, taken, &mut handled);
    }

    /// Waits for the next event, at most `timeout`. `None` waits for ever; [`Duration::ZERO`] does not wait.
    pub fn next(&mut self, timeout: Option<Duration>) -> Next<'_> {
        if self.index >= self.batch.len() {
            self.index = 0;
            match self.inner.events().next(&mut self.batch, timeout) {
                Batched::Events => {}
                Batched::Nothing => return Next::TimedOut,
                Batched::Stopped => return Next::Stopped,
            }
        }
        self.take().map_or(Next::TimedOut, Next::Event)
    }

    /// Awaits the next event, in a task of any runtime; `None`: the server has stopped. No event is lost if the future is dropped
    /// before it is ready, so it can be a branch of a `select!`.
    ///
    /// The server's own threads do the I/O. The runtime only runs the application. A server with [`Builder::wake`] wakes no task.
    ///
    /// ```
    /// # use wsguard::options::Auth;
    /// use wsguard::{Drain, Event, Options, Server};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), wsguard::Error> {
    /// # let options = Options { listen: "127.0.0.1:0".into(), ..Options::new(["https://a.example"], Auth::None) };
    /// let mut server = Server::start(options)?;
    /// let handle = server.handle();
    /// # handle.drain(Drain::default());
    /// while let Some(event) = server.recv().await {
    ///     if let Event::Message(message) = event {
    ///         handle.reply(&message, "heard", &message.data)?;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn recv(&mut self) -> Option<Event<'_>> {
        if poll_fn(|context| self.poll_ready(context)).await { self.take() } else { None }
    }

    /// Whether an event is there; `false`: none will ever be.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        if self.in_a_row >= EVENTS_PER_TURN {
            self.in_a_row = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.index >= self.batch.len() {
            self.index = 0;
            match self.inner.events().poll_next(&mut self.batch, context) {
                Poll::Ready(Batched::Events) => {}
                Poll::Ready(_) => return Poll::Ready(false),
                Poll::Pending => {
                    self.in_a_row = 0;
                    return Poll::Pending;
                }
            }
        }
        self.in_a_row += 1;
        Poll::Ready(true)
    }

    fn take(&mut self) -> Option<Event<'_>> {
        self.index += 1;
        self.batch.get(self.index - 1)
    }
}

/// Writes an error of a handler on one line. It may carry what a peer has sent, which must not look like a record of a verdict.
fn log(conn: Option<ConnectionId>, error: &str) {
    let error: String = error.replace("wsguard::", "wsguard:\\:").chars().take(256).collect();
    let conn = conn.map_or_else(|| "-".to_owned(), |conn| conn.to_string());
    tracing::error!(target: "wsguard::handler", %conn, ?error, "a handler failed");
}

/// Starts a server with more than its options.
#[derive(Default)]
pub struct Builder {
    inner: driver::Builder,
}

impl core::fmt::Debug for Builder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Builder").finish_non_exhaustive()
    }
}

impl Builder {
    /// A builder without additions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handler that answers on the server's own threads: the fastest way to answer, for work of a few microseconds.
    #[must_use]
    pub fn inline(self, handler: impl Inline) -> Self {
        Self { inner: self.inner.inline(handler) }
    }

    /// Wakes an event loop of the application (`mio`, a window system), which then calls [`Server::next`] with [`Duration::ZERO`]
    /// until no event is left. [`Server::run`] and [`Server::recv`] are not woken then.
    #[must_use]
    pub fn wake(self, wake: impl Wake) -> Self {
        Self { inner: self.inner.wake(wake) }
    }

    /// Does not listen, whatever `listen` says: every connection comes from [`Handle::adopt`] and its like.
    #[must_use]
    pub fn without_listener(self) -> Self {
        Self { inner: self.inner.without_listener() }
    }

    /// Chooses whether the server answers the pings of its peers (the default), or leaves them to the application:
    /// [`Handle::heed_control`], [`Conn::send_pong`](crate::Conn::send_pong).
    #[must_use]
    pub fn auto_pong(self, answers: bool) -> Self {
        Self { inner: self.inner.auto_pong(answers) }
    }

    /// Asks the application of each handshake that has passed every check of the server's, whatever `auth` says, by
    /// [`Event::Upgrade`], which [`Handle::answer`] answers. [`Upgrade::identity`](crate::Upgrade::identity) says who it is, where
    /// the server itself has found that out; the answer leaves it so, and names neither user nor roles. Its time is
    /// `auth_timeout_ms`.
    ///
    /// ```
    /// # use wsguard::options::Auth;
    /// use wsguard::{Builder, Decision, Event, Options};
    ///
    /// # fn main() -> Result<(), wsguard::Error> {
    /// # let options = Options { listen: "127.0.0.1:0".into(), ..Options::new(["https://a.example"], Auth::None) };
    /// let server = Builder::new().consult().start(options)?;
    /// # server.handle().stop();
    /// server.run(|event, server| {
    ///     if let Event::Upgrade(upgrade) = event {
    ///         let is_open = upgrade.request.path.starts_with("/open/");
    ///         server.answer(upgrade.ticket, if is_open { Decision::pass() } else { Decision::reject(404) })?;
    ///     }
    ///     Ok(())
    /// });
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn consult(self) -> Self {
        Self { inner: self.inner.consult() }
    }

    /// As [`consult`](Self::consult), and the application decides as long as it likes while the peer stays: neither
    /// `auth_timeout_ms` nor `handshake_timeout_ms` ends that. `max_pending_auth` bounds how many wait.
    #[must_use]
    pub fn consult_without_deadline(self) -> Self {
        Self { inner: self.inner.consult_without_deadline() }
    }

    /// Checks the options, binds, and starts the threads. The policy in force is logged as one line.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub fn start(self, options: Options) -> Result<Server, Error> {
        let inner = self.inner.start(options)?;
        Ok(Server { inner, batch: EventBatch::new(), index: 0, in_a_row: 0 })
    }
}
