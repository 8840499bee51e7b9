//! Connections that another server accepted: what is told of them, and the ways that their bytes come.

use std::net::{SocketAddr, TcpStream};
#[cfg(unix)]
use std::os::unix::net::UnixStream;

use std::sync::Arc;

use super::accepted::{Accepted, UnregisteredSocket};
use super::adopted::{Adopted, Tag};
use super::balance;
use super::handle::ServerHandle;
use super::level::HeldOne;
use super::pipe::{self, Pipe};
use super::state::ServerState;
use crate::error::Error;

/// What is told of a connection that another server accepted.
///
/// Bytes alone are one, too: `handle.adopt(stream, received)`.
#[derive(Clone, Default)]
pub struct Adoption {
    /// The peer. `None`: the socket's own, where it has one.
    pub peer: Option<SocketAddr>,
    /// The address that it came in on. `None`: the socket's own, where it has one.
    pub local: Option<SocketAddr>,
    /// What was read of it: the whole request head, and what came behind.
    pub received: Vec<u8>,
    /// Comes back once: as `adopted` of the connection's [`Open`](super::Open), or in
    /// [`Event::AdoptionEnded`](super::Event::AdoptionEnded) when there will be none. Of an adoption that is an error nothing comes.
    pub tag: Option<u64>,
    /// Whether TLS was ended before it came here, so that it is not plain text wherever it came in.
    pub is_secure: bool,
}

impl From<Vec<u8>> for Adoption {
    fn from(received: Vec<u8>) -> Self {
        Self { received, ..Self::default() }
    }
}

/// Without the bytes: they hold credentials.
impl core::fmt::Debug for Adoption {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Adoption")
            .field("peer", &self.peer)
            .field("local", &self.local)
            .field("received_bytes", &self.received.len())
            .field("tag", &self.tag)
            .field("is_secure", &self.is_secure)
            .finish()
    }
}

impl ServerHandle {
    /// Takes over a plain TCP connection that another server (an HTTP server that shares its port) has accepted.
    /// What was read from it is the whole request head, and whatever came behind it.
    ///
    /// It gets the verdicts of any other handshake; a refusal is answered on the connection. What the other server has
    /// already done is not done again: its limits apply to the head, and its timeouts to how long that took.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] where the policy cannot be kept on such a connection: it asks for `tls` or a PROXY
    /// header, or does not allow plain text on the connection's address; [`Error::ConnectionClosed`] where the peer has
    /// left, or there is none; [`Error::Stopped`].
    pub fn adopt(&self, stream: TcpStream, adoption: impl Into<Adoption>) -> Result<(), Error> {
        let mut adoption = adoption.into();
        self.check_adoptable()?;
        // First: the address of a socket without a peer says nothing.
        if adoption.peer.is_none() {
            adoption.peer = Some(stream.peer_addr().map_err(|_| Error::ConnectionClosed)?);
        }
        let own = stream.local_addr().map_err(|_| Error::ConnectionClosed)?;
        let local = *adoption.local.get_or_insert(own);
        let is_public = self.check_plain_text(adoption.is_secure, Some(local))?;
        let place = balance::least_loaded(&self.state);
        let taken = self.take_over(place, adoption, is_public, UnregisteredSocket::Tcp(stream));
        taken.map_err(|_| Error::Stopped)
    }

    /// As [`adopt`](Self::adopt), of a connection of a Unix stream socket.
    ///
    /// # Errors
    ///
    /// As of [`adopt`](Self::adopt).
    #[cfg(unix)]
    pub fn adopt_unix(&self, stream: UnixStream, adoption: impl Into<Adoption>) -> Result<(), Error> {
        let adoption = adoption.into();
        self.check_adoptable()?;
        // One that listens, or was never connected, would be kept until its handshake is too late.
        stream.peer_addr().map_err(|_| Error::ConnectionClosed)?;
        let is_public = self.check_plain_text(adoption.is_secure, adoption.local)?;
        let place = balance::least_loaded(&self.state);
        let taken = self.take_over(place, adoption, is_public, UnregisteredSocket::Unix(stream));
        taken.map_err(|_| Error::Stopped)
    }

    /// As [`adopt`](Self::adopt), of a connection that has no socket, or none for us: the application brings the peer's bytes and
    /// takes those for the peer, by the end of a pipe that this returns.
    ///
    /// An application whose events are taken by another thread than this one may be told of the pipe before it knows of it: it looks
    /// with [`Pipe::take`] once when it does.
    ///
    /// # Errors
    ///
    /// As of [`adopt`](Self::adopt). Without `is_secure` the bytes are plain text on the address that the adoption names as
    /// `local`, else on the peer's.
    pub fn adopt_pipe(&self, adoption: impl Into<Adoption>) -> Result<Pipe, Error> {
        let adoption = adoption.into();
        self.check_adoptable()?;
        let is_public = self.check_plain_text(adoption.is_secure, adoption.local.or(adoption.peer))?;
        let (shard, load) = balance::least_loaded(&self.state);
        let (pipe, end) = pipe::pipe(Arc::<ServerState>::clone(&self.state), shard, &self.state.pipe_bytes);
        if let Err(left) = self.take_over((shard, load), adoption, is_public, UnregisteredSocket::Pipe(end)) {
            // Nobody is told of a pipe that nobody has.
            pipe.abort();
            drop(left);
            return Err(Error::Stopped);
        }
        Ok(pipe)
    }

    fn check_adoptable(&self) -> Result<(), Error> {
        self.check_running()?;
        let policy = &self.state.set().top;
        if policy.tls.is_some() || policy.proxy_protocol {
            return Err(Error::InvalidArgument(
                "tls and proxy_protocol belong to the server that accepts: they cannot be on for adopted connections",
            ));
        }
        Ok(())
    }

    /// Whether the connection is plain text on an address that is not loopback, which the policy has to allow.
    fn check_plain_text(&self, is_secure: bool, local: Option<SocketAddr>) -> Result<bool, Error> {
        let is_public = !is_secure && local.is_some_and(|local| !local.ip().to_canonical().is_loopback());
        if is_public && !self.state.set().top.plaintext_allowed {
            return Err(Error::InvalidArgument(
                "the connection is plain text on an address that is not loopback: give trusted_proxies when a proxy \
                 ends TLS, or dangerously_allow_plaintext: true",
            ));
        }
        Ok(is_public)
    }

    /// Hands a connection to its shard.
    ///
    /// # Errors
    ///
    /// The shard has stopped since the server was found running. The tag does not come back: the application keeps it.
    fn take_over(
        &self,
        place: (usize, HeldOne),
        adoption: Adoption,
        is_public: bool,
        socket: UnregisteredSocket,
    ) -> Result<(), Box<Accepted>> {
        let ((shard, load), server) = (place, &self.state);
        let Adoption { peer, local, received, tag, is_secure: _ } = adoption;
        let tag = tag.map(|number| Tag::new(number, Arc::<ServerState>::clone(server), shard));
        let adopted = Some(Box::new(Adopted { received, local, is_public, tag }));
        balance::post(server, shard, Accepted { socket, peer, at: server.clock.now(), adopted, load }).map_err(
            |mut left| {
                if let Some(tag) = left.adopted.as_mut().and_then(|adopted| adopted.tag.take()) {
                    tag.unused();
                }
                left
            },
        )
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::super::events::EventBatch;
    use super::super::shard_events::Look;
    use super::super::state::idle;
    use super::*;

    /// Of a server whose shard ends just now: it was running when it was asked, and nobody takes an event any more.
    #[test]
    fn an_adoption_that_meets_the_end_is_an_error_and_tells_nothing() {
        let state = idle(r#""threads": 1"#);
        let handle = ServerHandle { state: Arc::clone(&state) };
        state.shards[0].close();
        let adoption = || Adoption { tag: Some(7), ..Adoption::default() };
        let (socket, _peer) = UnixStream::pair().unwrap();
        assert_eq!(handle.adopt_pipe(adoption()).unwrap_err().code(), "stopped");
        assert_eq!(handle.adopt_unix(socket, adoption()).unwrap_err().code(), "stopped");
        assert_eq!(state.take_events(0, &mut EventBatch::new()), Look::Nothing, "an end of what never began");
        assert_eq!((state.shards[0].load.get(), state.pipe_bytes.get()), (0, 0));
    }

    /// The other server goes on with it: it answers on it, or hands it to somebody else.
    #[test]
    fn a_socket_that_is_refused_stays_as_it_was() {
        let state = idle(r#""threads": 1"#);
        let handle = ServerHandle { state: Arc::clone(&state) };
        state.shards[0].close();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (tcp, (unix, _peer)) = (listener.accept().unwrap().0, UnixStream::pair().unwrap());
        let (kept_tcp, kept_unix) = (tcp.try_clone().unwrap(), unix.try_clone().unwrap());
        assert_eq!(handle.adopt(tcp, Vec::new()).unwrap_err().code(), "stopped");
        assert_eq!(handle.adopt_unix(unix, Vec::new()).unwrap_err().code(), "stopped");
        let does_not_block = |socket: socket2::SockRef<'_>| socket.nonblocking().unwrap();
        assert!(!does_not_block((&kept_tcp).into()) && !does_not_block((&kept_unix).into()));
        assert!(!kept_tcp.nodelay().unwrap());
    }
}
