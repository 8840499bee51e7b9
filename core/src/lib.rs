//! WebSocket servers that are safe by default.
//!
//! You state a policy: origins, authentication, rates, sizes, the form of a message, TLS. wsguard enforces it on threads of its
//! own, before your application sees a byte. It answers each violation with a stable [verdict code](Code). Most WebSocket
//! libraries leave all of that to the application, and so most servers do without.
//!
//! There are no insecure defaults: a server without `origins` or `auth` does not start, and the names of options that allow any
//! origin or plain text begin with `dangerously_`. Your application reads [events](Event) and answers through a [handle](Handle) that any thread may
//! keep. No call blocks, and a connection that has closed meanwhile is a value ([`Sent::Closed`]), not an error.
//!
//! # A chat
//!
//! With the protocol `json` (the default) a message is `{"event": "say", "data": {…}}`. It reaches the handler only if its sender is
//! authenticated and within its rate, and if `data` matches the schema of the event.
//!
//! ```
//! use wsguard::{Event, Options, Server};
//!
//! # fn main() -> Result<(), wsguard::Error> {
//! let options = Options::from_json(r#"{
//!     "listen": "127.0.0.1:0",
//!     "origins": ["https://app.example"],
//!     "auth": {"tokens": [{"token": "change-me", "user": "alice"}]},
//!     "token_sources": ["subprotocol"],
//!     "events": {"say": {"schema": {
//!         "type": "object",
//!         "properties": {"text": {"type": "string", "maxLength": 500}},
//!         "required": ["text"],
//!         "additionalProperties": false
//!     }}}
//! }"#)?;
//! let server = Server::start(options)?;
//! # server.handle().stop();
//! server.run(|event, server| {
//!     match event {
//!         Event::Open(open) => server.conn(open.conn).join("lobby")?,
//!         Event::Message(message) => server.room("lobby").except(message.conn).emit("said", &message.data)?,
//!         _ => return Ok(()),
//!     };
//!     Ok(())
//! });
//! # Ok(())
//! # }
//! ```
//!
//! # An echo of anything
//!
//! With the protocol `raw`, text and binary messages pass as they are. Every other protection stays. This example also states its
//! options as types ([`options`]) instead of JSON.
//!
//! ```
//! use wsguard::options::{Auth, Protocol, RateLimit};
//! use wsguard::{Event, Options, Server};
//!
//! # fn main() -> Result<(), wsguard::Error> {
//! let mut options = Options::new(["https://app.example"], Auth::None);
//! options.listen = "127.0.0.1:0".into();
//! options.protocol = Protocol::Raw;
//! options.rate_limit = Some(RateLimit { per_second: 5.0, ..RateLimit::default() });
//! let server = Server::start(options)?;
//! # server.handle().stop();
//! server.run(|event, server| {
//!     match event {
//!         Event::Text(conn, text) => server.conn(conn).send(text)?,
//!         Event::Binary(conn, bytes) => server.conn(conn).send(bytes)?,
//!         _ => return Ok(()),
//!     };
//!     Ok(())
//! });
//! # Ok(())
//! # }
//! ```
//!
//! # In a task, with JSON Web Tokens and types
//!
//! A task of any runtime awaits [`Server::recv`]. [`JsonMessage::data`] reads a message as a type, and `emit` writes one.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use wsguard::options::{Auth, JwtOptions};
//! use wsguard::{Event, Options, Server};
//!
//! #[derive(Deserialize)]
//! struct Say<'m> {
//!     text: std::borrow::Cow<'m, str>,
//! }
//!
//! #[derive(Serialize)]
//! struct Said<'m> {
//!     text: &'m str,
//!     length: usize,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let secret = "0123456789abcdef0123456789abcdef";
//! let jwt = JwtOptions {
//!     algorithms: vec!["HS256".into()],
//!     key: Some(secret.into()),
//!     audience: Some("chat".into()),
//!     ..JwtOptions::default()
//! };
//! let mut options = Options::new(["https://app.example"], Auth::Jwt(Box::new(jwt)));
//! options.listen = "127.0.0.1:0".into();
//! options.events.insert("say".into(), Default::default());
//! let mut server = Server::start(options)?;
//! let handle = server.handle();
//! # handle.stop();
//! while let Some(event) = server.recv().await {
//!     if let Event::Message(message) = event {
//!         match message.data::<Say>() {
//!             Ok(say) => handle.everyone().emit("said", &Said { text: &say.text, length: say.text.len() })?,
//!             Err(_) => handle.conn(message.conn).report_invalid_data(message.event)?,
//!         };
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! `examples/rust` in the repository has a chat, a server beside `axum` on one port, and a server with JSON Web Tokens.
//!
//! # What is where
//!
//! | | |
//! |---|---|
//! | server | [`Server`], [`Builder`], [`HandlerResult`], [`Next`]; [`Inline`] answers on the server's own threads, [`Wake`] is for event loops |
//! | options | [`Options`], and [`options`] with the types of its fields |
//! | events | [`Event`] and what it holds: [`Open`], [`JsonMessage`], [`RawJson`], [`Closing`], [`Close`], [`ViolationEvent`], [`Upgrade`] |
//! | connections of another server | [`Handle::adopt_with`], [`Handle::adopt_pipe`], [`Adoption`], [`Pipe`] |
//! | handle | [`Handle`], [`Conn`], [`Audience`], [`Everywhere`], [`Payload`], [`Fragment`], [`Sent`], [`Drain`], [`Interest`], [`Stats`] |
//! | authentication by the application | [`Upgrade`], [`GrantedIdentity`], [`UpgradeRequest`], [`TicketId`], [`Decision`], [`Accept`], [`Reject`] |
//! | errors and verdicts | [`Error`], [`ConfigError`], [`ConfigErrorKind`], [`Code`], [`Severity`] |
//!
//! # Features
//!
//! | feature | |
//! |---|---|
//! | `stderr-log` (default) | `log_to_stderr`, `log_to_stderr_as`: the log on standard error, for programs without a `tracing` subscriber |
//!
//! The log is always `tracing` events: of the target `wsguard::verdict` (who was refused or closed), `wsguard::audit` (who came and
//! went, and what was done to the server), `wsguard::handler` and `wsguard`. [`log_to`] hands them to a function as [`LogRecord`]s.
//!
//! # Limits
//!
//! A message is delivered when it is complete; `max_message_bytes` bounds it (64 KiB by default). Options bound every queue but one:
//! unsent bytes of a connection, events that the application has not taken, messages that wait for their rate, handshakes
//! that wait for an answer. Broadcasts that are sent faster than the server carries them out wait without a bound, and return
//! [`Sent::Queued`]. A connection is in at most 1024 rooms. Rooms, users, bans and the limits of users are
//! those of one process, or of the nodes of a `cluster`.
//!
//! # When not to use it
//!
//! - You need a client, or messages too large for memory.
//!
//! # Rust version and platforms
//!
//! Rust 1.91 or later. Tested on Linux.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod audience;
#[doc(hidden)]
pub mod binding;
mod conn;
mod decision;
mod driver;
mod error;
mod handle;
mod message;
pub mod options;
mod payload;
mod raw_json;
mod sent;
mod server;

pub use audience::Audience;
pub use conn::Conn;
pub use driver::{
    Accept, Adoption, BanInfo, Close, Closing, ConnectionId, Decision, Event, Everywhere, GrantedIdentity, Handled,
    HandshakeId, Inline, InlineMessage, JsonMessage, LogLevel, LogRecord, LogValue, Open, Pipe, PipeId, Reject,
    Replies, Stats, Taken, TicketId, Upgrade, ViolationEvent, Wake, Whom, log_to,
};
#[cfg(feature = "stderr-log")]
pub use driver::{LogFormat, log_to_stderr, log_to_stderr_as};
pub use error::Error;
pub use handle::{Drain, Handle, Interest};
pub use options::Options;
pub use payload::Payload;
pub use raw_json::RawJson;
pub use sent::Sent;
pub use server::{Builder, HandlerResult, Next, Server};
pub use wsguard_proto::codec::FrameFault;
pub use wsguard_proto::config::Params;
pub use wsguard_proto::config_error::{ConfigError, ConfigErrorKind};
pub use wsguard_proto::connection::{DataOpcode, Fragment};
pub use wsguard_proto::contract::Status;
pub use wsguard_proto::handshake::{TlsFacts, UpgradeRequest};
pub use wsguard_proto::roles::Roles;
pub use wsguard_proto::verdict::{Code, Severity};

/// The JSON of options and messages: [`options::EventOptions::schema`] is one of its values.
pub use serde_json;

/// The Rust start of the README must compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// So must that of the crate's own README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct OwnReadme;
