//! The bytes of one connection: a plain socket, or TLS over it.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::socket::Socket;
use super::tls::TlsStream;
use wsguard_proto::handshake::TlsFacts;

macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr, $($variant:path),+) => {
        match $self.get_mut() { $($variant($stream) => $call,)+ }
    };
}

/// A socket as messages see it.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream>),
}

impl Stream {
    /// The leaf of the client's certificate chain.
    pub(super) fn peer_certificate(&self) -> Option<Vec<u8>> {
        if let Stream::Tls(tls) = self { tls.peer_certificate() } else { None }
    }

    /// What is told of its TLS, once.
    pub(super) fn tls_facts(&mut self) -> Option<TlsFacts> {
        if let Stream::Tls(tls) = self { tls.facts() } else { None }
    }

    /// The address that the connection came in on, where its socket has one.
    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Stream::Plain(socket) => socket.local_address(),
            Stream::Tls(tls) => tls.socket().local_address(),
        }
    }

    /// Whether the connection is known to be broken.
    pub(super) fn is_broken(&self) -> bool {
        match self {
            Stream::Plain(socket) => socket.is_broken(),
            Stream::Tls(tls) => tls.socket().is_broken(),
        }
    }

    /// Whether the peer is known to have ended its side or to be gone, though what came before that is not read yet.
    pub(super) fn has_left(&self) -> bool {
        match self {
            Stream::Plain(socket) => socket.has_left(),
            Stream::Tls(tls) => tls.socket().has_left(),
        }
    }

    /// Whether bytes wait inside that were received, and that a read hands out without asking the socket.
    pub(super) fn has_received(&self) -> bool {
        matches!(self, Stream::Tls(tls) if tls.has_plaintext())
    }

    /// Whether bytes that were written may still wait inside, as TLS records do.
    pub(super) fn buffers_writes(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_read(cx, buf), Stream::Plain, Stream::Tls)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, stream => Pin::new(stream).poll_write(cx, buf), Stream::Plain, Stream::Tls)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs), Stream::Plain, Stream::Tls)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_flush(cx), Stream::Plain, Stream::Tls)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_shutdown(cx), Stream::Plain, Stream::Tls)
    }
}
