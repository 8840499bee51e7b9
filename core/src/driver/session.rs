//! One open connection on its shard: the socket, the state machine, and what could not be sent yet.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::handshake_id::HandshakeId;
use super::ids::ConnectionId;
use super::inbox_shares::Share;
use super::log::Subject;
use super::nodes::Entered;
use super::outbox::{Outbox, Pool};
use super::slot_guard::SlotGuard;
use super::stream::Stream;
use super::tally::Tally;
use wsguard_proto::config::{Admitted, Policy};
use wsguard_proto::connection::Connection;
use wsguard_proto::limits::Seat;
use wsguard_proto::time::Moment;

/// An open connection. Kept small: there may be a hundred thousand idle ones.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one socket, one byte each")]
pub(super) struct Session {
    pub(super) id: ConnectionId,
    /// Its id in the log.
    pub(super) hs: HandshakeId,
    pub(super) conn: Connection,
    /// What it is judged by.
    pub(super) policy: Arc<Policy>,
    /// What it was let in by.
    pub(super) let_in: Rc<LetIn>,
    pub(super) stream: Stream,
    pub(super) outbox: Option<Box<Outbox>>,
    /// Gives it a turn.
    pub(super) waker: Waker,
    /// The earliest entry of this session in the shard's timers.
    pub(super) timer_at: Moment,
    /// When a draining server closes it.
    pub(super) drain_at: Moment,
    /// The batch that holds its last event that may be answered.
    pub(super) last_batch: u64,
    /// What waits in the inbox of its user or address.
    pub(super) share: Rc<Share>,
    pub(super) seat: Seat,
    /// The place of its user on all nodes of the cluster.
    pub(super) _entered: Option<Entered>,
    pub(super) tally: Tally,
    pub(super) ip: Option<IpAddr>,
    /// The revocation that was the last when it was let in.
    pub(super) granted: u64,
    /// Bytes received that no turn had the budget for.
    pub(super) unread: Option<Box<Unread>>,
    /// Its slot, its rooms, and what the shard's levels count of it.
    pub(super) slot: SlotGuard,
    /// TLS still holds bytes that it took.
    pub(super) must_flush: bool,
    /// The socket's write side is ended.
    pub(super) ended_writing: bool,
    /// Not read, because the application's inbox is full.
    pub(super) starved: bool,
    /// In the shard's list of sessions that are read again when there is room.
    pub(super) is_listed: bool,
    /// Not read, because the application asked for that.
    pub(super) paused: bool,
    /// Not read, because it is closed once the application has had what came before (the server drains).
    pub(super) is_draining: bool,
    /// In the shard's list of sessions that commands wrote to.
    pub(super) touched: bool,
}

/// By what a connection was let in, and for whom: as it was for many others.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LetIn {
    pub(super) admitted: Admitted,
    /// The peer of its socket where that is not the client: a proxy, or one without an address.
    #[expect(clippy::option_option, reason = "a peer that is not the client may have no address")]
    pub(super) proxy: Option<Option<IpAddr>>,
}

impl LetIn {
    /// The `peer` of a socket has spoken for the client at `ip`.
    pub(super) fn new(admitted: Admitted, ip: Option<IpAddr>, peer: Option<IpAddr>) -> Self {
        Self { admitted, proxy: (peer != ip).then_some(peer) }
    }

    /// The peer of the socket: the client at `ip`, or a proxy.
    pub(super) fn peer(&self, ip: Option<IpAddr>) -> Option<IpAddr> {
        self.proxy.unwrap_or(ip)
    }
}

/// Bytes that wait for a turn: what was handled is not moved away, as a large first read would be, once a turn.
#[derive(Debug)]
pub(super) struct Unread {
    bytes: Vec<u8>,
    handled: usize,
}

impl Unread {
    /// `None`: there are no bytes.
    pub(super) fn new(bytes: Vec<u8>) -> Option<Box<Self>> {
        (!bytes.is_empty()).then(|| Box::new(Self { bytes, handled: 0 }))
    }

    /// The next bytes, `most` at most.
    pub(super) fn next(&mut self, most: usize) -> &mut [u8] {
        let end = self.bytes.len().min(self.handled + most);
        &mut self.bytes[self.handled..end]
    }

    /// What is left behind `used` more bytes. Memory is given back when most of it is handled.
    pub(super) fn rest(mut self: Box<Self>, used: usize) -> Option<Box<Self>> {
        self.handled += used;
        if self.handled > self.bytes.len() / 2 {
            self.bytes.drain(..self.handled);
            self.bytes.shrink_to_fit();
            self.handled = 0;
        }
        (!self.bytes.is_empty()).then_some(self)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end();
    }
}

impl Session {
    /// Whom a record of it is about.
    pub(super) fn subject(&self) -> Subject<'_> {
        let user = self.seat.user().map(|user| &**user);
        Subject { hs: Some(self.hs), ip: self.ip, peer: self.let_in.peer(self.ip), user, conn: Some(self.id) }
    }

    /// Its id is nobody's any more, though its closing handshake may go on.
    pub(super) fn end(&mut self) {
        self.slot.end(self.seat.user().map(|user| &**user));
    }

    /// Whether it is not read for reasons of ours.
    pub(super) fn is_held_back(&self) -> bool {
        self.starved || self.paused || self.is_draining
    }

    /// Whether bytes were received that no turn has handled.
    pub(super) fn has_unhandled(&self) -> bool {
        self.unread.is_some() || self.stream.has_received()
    }

    pub(super) fn unsent_bytes(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.len()) + self.conn.bytes_behind()
    }

    /// What compression has saved of that: said, and unsent as well.
    pub(super) fn saved_bytes(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.saved()) + self.conn.saved_behind()
    }

    /// Reads into `scratch`; 0: the peer has ended its side.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(scratch);
        let poll = Pin::new(&mut self.stream).poll_read(cx, &mut buffer);
        poll.map_ok(|()| buffer.filled().len())
    }

    /// Writes what waits and then `out`, which is empty afterwards.
    ///
    /// Returns how many bytes the socket took.
    pub(super) fn write(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>, pool: &mut Pool) -> io::Result<usize> {
        let written = self.write_bytes(cx, out, pool)?;
        out.clear();
        Ok(written)
    }

    /// Writes what waits and then `out`: what the socket refuses is kept.
    pub(super) fn write_bytes(&mut self, cx: &mut Context<'_>, out: &[u8], pool: &mut Pool) -> io::Result<usize> {
        let mut written = 0;
        if let Some(outbox) = &mut self.outbox {
            let before = outbox.len();
            if let Poll::Ready(result) = outbox.poll_write(&mut self.stream, cx, pool) {
                result?;
            }
            written += before - outbox.len();
            if outbox.is_empty()
                && let Some(outbox) = self.outbox.take()
            {
                outbox.recycle(pool);
            }
        }
        let mut sent = 0;
        while self.outbox.is_none() && sent < out.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &out[sent..]) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(len)) => sent += len,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        if sent < out.len() {
            self.outbox.get_or_insert_with(|| pool.take_outbox()).push(&out[sent..], pool);
        }
        written += sent;
        if self.stream.buffers_writes() && (written > 0 || self.must_flush) {
            self.must_flush = match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(result) => {
                    result?;
                    false
                }
                Poll::Pending => true,
            };
        }
        Ok(written)
    }

    /// Offers what waits to a plain socket that is about to be dropped, also where nobody knows yet whether it has room. Returns
    /// how many bytes it took. (That of TLS has been written to: what is known of it is true.)
    pub(super) fn write_unasked(&mut self, pool: &mut Pool) -> usize {
        let (Some(outbox), Stream::Plain(socket)) = (&mut self.outbox, &self.stream) else { return 0 };
        let before = outbox.len();
        outbox.write_unasked(socket, pool);
        before - outbox.len()
    }

    /// Ends the write side once everything is sent.
    pub(super) fn end_writing(&mut self, cx: &mut Context<'_>) {
        if self.outbox.is_none() && !self.must_flush && !self.ended_writing {
            self.ended_writing = Pin::new(&mut self.stream).poll_shutdown(cx).is_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every turn handles a little of a large first read: what it leaves is moved a few times, and its memory given back.
    #[test]
    fn what_waits_for_turns_comes_in_order_and_moves_little() {
        let all: Vec<u8> = (0..1_000_000u32).map(|number| number as u8).collect();
        let (mut unread, mut seen, mut moves) = (Unread::new(all.clone()), Vec::new(), 0);
        while let Some(mut rest) = unread {
            let used = rest.next(1000).len().min(700);
            seen.extend_from_slice(&rest.next(1000)[..used]);
            let before = rest.bytes.len();
            unread = rest.rest(used);
            if let Some(rest) = unread.as_ref().filter(|rest| rest.bytes.len() < before) {
                moves += 1;
                assert!(rest.bytes.capacity() <= before / 2 + 700, "{} of {before}", rest.bytes.capacity());
            }
        }
        assert!(seen == all && moves <= 20, "{moves}");
        assert!(Unread::new(Vec::new()).is_none());
    }
}
