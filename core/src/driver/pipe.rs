//! A connection without a socket: a pair of byte buffers, one end of which is the application's.
//!
//! For bytes that somebody else has to bring and to take: TLS that another library ended, a stream of HTTP/2, a pair in memory.
//! There is no thread and no descriptor behind it. The shard sees a socket: it reads what was pushed, and writes until the buffer
//! for the peer is full, which then holds as much as the send buffer of a small socket. An idle pipe holds no memory but its state.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::caught::said;
use super::level::{Held, Level};
use super::pipe_id::PipeId;
use super::telling::{Tell, Told};
use wsguard_proto::lock::lock;

/// Bytes on their way in one direction before whoever brings them is to wait.
const MARK_BYTES: usize = 64 * 1024;
/// Bytes of a peer that wait although the application was told to push no more; beyond it the pipe breaks. An application that
/// does not listen costs itself its connection, and not the server its memory.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// Bytes that are put in behind and taken in front.
#[derive(Debug, Default)]
struct Bytes {
    bytes: Vec<u8>,
    taken: usize,
}

impl Bytes {
    fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    fn put(&mut self, more: &[u8]) {
        // What was taken is moved away before there is more of it than of the rest: each byte moves once at most.
        if self.taken > self.len() {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        self.bytes.extend_from_slice(more);
    }

    /// Hands the next bytes out, `most` at most; returns how many.
    fn take(&mut self, most: usize, hand_out: impl FnOnce(&[u8])) -> usize {
        let len = most.min(self.len());
        hand_out(&self.bytes[self.taken..self.taken + len]);
        self.taken += len;
        if self.taken == self.bytes.len() {
            *self = Self::default();
        }
        len
    }
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about two directions")]
struct State {
    /// From the peer.
    incoming: Bytes,
    /// For the peer.
    outgoing: Bytes,
    /// What the two hold, as the server counts it.
    charge: Held,
    /// The peer has ended its side.
    peer_ended: bool,
    /// Nothing for the peer follows what is in `outgoing`.
    server_ended: bool,
    /// The transport broke, or the application has let go of it.
    is_broken: bool,
    /// The server's end is gone: nobody reads what is pushed.
    is_over: bool,
    /// `push` has answered that there is no room: the application waits to be told.
    wants_room: bool,
    /// The application was told that it can take, and has not taken all.
    ready_was_told: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl State {
    fn count(&mut self) {
        self.charge.set(self.incoming.len() + self.outgoing.len());
    }

    /// Whether the application is to be told that it can take.
    fn tells_ready(&mut self) -> bool {
        !core::mem::replace(&mut self.ready_was_told, true)
    }

    fn break_off(&mut self) -> [Option<Waker>; 2] {
        self.is_broken = true;
        // Nobody takes it any more.
        self.outgoing = Bytes::default();
        self.count();
        [self.reader.take(), self.writer.take()]
    }
}

#[derive(Debug)]
struct Shared {
    id: PipeId,
    state: Mutex<State>,
}

impl Shared {
    fn abort(&self) {
        let mut state = lock(&self.state);
        let wakers = state.break_off();
        // Whoever calls knows that it is over.
        state.ready_was_told = true;
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

/// What [`Pipe::take`] has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the end of the connection is told here"]
pub struct Taken {
    /// Nothing follows what was taken, now and before: end your side of the transport.
    pub is_ended: bool,
    /// There is more to take at once: no [`Event::PipeReady`](super::Event::PipeReady) tells of it.
    pub more: bool,
}

/// The application's end of a connection that has no socket. Cheap to clone, for any thread; no call blocks. Dropping the last
/// clone is an [`abort`](Self::abort).
#[derive(Clone, Debug)]
pub struct Pipe(Arc<ApplicationEnd>);

#[derive(Debug)]
struct ApplicationEnd(Arc<Shared>);

impl Drop for ApplicationEnd {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Pipe {
    /// The id that events name it by.
    pub fn id(&self) -> PipeId {
        self.0.0.id
    }

    /// Hands over bytes of the peer. They are always taken. `false`: 64 KiB wait by now; push no more until
    /// [`Event::PipeRoom`](super::Event::PipeRoom). A pipe on which somebody goes on to push beyond 16 MiB is broken off.
    ///
    /// What comes when the connection is over is dropped.
    pub fn push(&self, bytes: &[u8]) -> bool {
        let mut state = lock(&self.0.0.state);
        if state.is_over || state.is_broken || state.peer_ended || bytes.is_empty() {
            return true;
        }
        let waits = state.incoming.len();
        if waits > MARK_BYTES && waits + bytes.len() > MOST_BYTES {
            let wakers = state.break_off();
            drop(state);
            said(|| {
                tracing::warn!(
                    target: "wsguard",
                    "a pipe is broken off: 16 MiB were pushed before Event::PipeRoom told that there is room"
                );
            });
            wakers.into_iter().flatten().for_each(Waker::wake);
            return true;
        }
        state.incoming.put(bytes);
        state.count();
        let has_room = state.incoming.len() <= MARK_BYTES;
        state.wants_room |= !has_room;
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        has_room
    }

    /// The peer has ended its side: nothing more is pushed.
    pub fn end(&self) {
        let mut state = lock(&self.0.0.state);
        state.peer_ended = true;
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
    }

    /// The transport broke: the connection ends behind what was pushed, and what is said to the peer is dropped.
    pub fn abort(&self) {
        self.0.0.abort();
    }

    /// Appends bytes for the peer to `into`, `most` at most.
    ///
    /// [`Event::PipeReady`](super::Event::PipeReady) tells once that there is something; it is told again when all of that was
    /// taken and more has come.
    pub fn take(&self, into: &mut Vec<u8>, most: usize) -> Taken {
        let mut state = lock(&self.0.0.state);
        state.outgoing.take(most, |bytes| into.extend_from_slice(bytes));
        state.count();
        let left = state.outgoing.len();
        let is_ended = left == 0 && (state.server_ended || state.is_broken);
        if left == 0 {
            state.ready_was_told = false;
        }
        // Not for every byte that was taken: a writer that is woken has room for a piece worth the turn.
        let writer = if left <= MARK_BYTES / 2 { state.writer.take() } else { None };
        drop(state);
        writer.into_iter().for_each(Waker::wake);
        Taken { is_ended, more: left > 0 }
    }
}

/// The server's end. Dropping it ends the connection behind what was written.
#[derive(Debug)]
pub(super) struct PipeEnd {
    shared: Arc<Shared>,
    server: Arc<dyn Tell>,
    shard: usize,
}

/// Both ends of a pipe, of a connection that lives on `shard`. What it holds counts in `level`.
pub(super) fn pipe(server: Arc<dyn Tell>, shard: usize, level: &Level) -> (Pipe, PipeEnd) {
    let state = State {
        incoming: Bytes::default(),
        outgoing: Bytes::default(),
        charge: level.hold(0),
        peer_ended: false,
        server_ended: false,
        is_broken: false,
        is_over: false,
        wants_room: false,
        ready_was_told: false,
        reader: None,
        writer: None,
    };
    let shared = Arc::new(Shared { id: PipeId::fresh(), state: Mutex::new(state) });
    let application = Pipe(Arc::new(ApplicationEnd(Arc::clone(&shared))));
    (application, PipeEnd { shared, server, shard })
}

/// Notes whom to wake.
fn keep(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(known) => known.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

impl PipeEnd {
    fn tell_ready(&self) {
        self.server.tell_from_anywhere(self.shard, Told::PipeReady(self.shared.id));
    }

    /// Whether the transport broke. What came before that may still be read.
    pub(super) fn is_broken(&self) -> bool {
        lock(&self.shared.state).is_broken
    }

    /// Whether the peer has ended its side, or the transport broke.
    pub(super) fn has_left(&self) -> bool {
        let state = lock(&self.shared.state);
        state.peer_ended || state.is_broken
    }

    /// Waits for bytes or the end.
    pub(super) fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = lock(&self.shared.state);
        if state.incoming.len() > 0 || state.peer_ended || state.is_broken {
            return Poll::Ready(());
        }
        keep(&mut state.reader, cx);
        Poll::Pending
    }

    /// Writes all of a last answer, however little room there is for it, and ends: answers of ours are bounded.
    pub(super) fn end_with(self, answer: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.shared.state);
        if state.is_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        state.outgoing.put(answer);
        Ok(())
    }

    fn write(&self, cx: &Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.shared.state);
        if state.server_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if state.is_broken {
            // Nobody takes it. An error would end the connection before the last that the peer has said is read: the read tells it.
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let mut written = 0;
        for slice in slices {
            let room = MARK_BYTES.saturating_sub(state.outgoing.len());
            let piece = &slice[..slice.len().min(room)];
            state.outgoing.put(piece);
            written += piece.len();
            if piece.len() < slice.len() {
                break;
            }
        }
        if written == 0 && slices.iter().any(|slice| !slice.is_empty()) {
            keep(&mut state.writer, cx);
            return Poll::Pending;
        }
        state.count();
        let tells = written > 0 && state.tells_ready();
        drop(state);
        if tells {
            self.tell_ready();
        }
        Poll::Ready(Ok(written))
    }

    /// Nothing follows for the peer.
    fn end_writing(&self, is_over: bool) {
        let mut state = lock(&self.shared.state);
        let was_ended = core::mem::replace(&mut state.server_ended, true);
        if is_over {
            state.is_over = true;
            state.incoming = Bytes::default();
            (state.reader, state.writer, state.wants_room) = (None, None, false);
        }
        state.count();
        let tells = !was_ended && state.tells_ready();
        drop(state);
        if tells {
            self.tell_ready();
        }
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        self.end_writing(true);
    }
}

impl AsyncRead for PipeEnd {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.shared.state);
        if state.incoming.len() == 0 {
            // As of a socket: what came before it broke was read.
            if state.is_broken {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if state.peer_ended {
                return Poll::Ready(Ok(()));
            }
            keep(&mut state.reader, cx);
            return Poll::Pending;
        }
        state.incoming.take(buf.remaining(), |bytes| buf.put_slice(bytes));
        state.count();
        let has_room = state.wants_room && state.incoming.len() <= MARK_BYTES / 2;
        if has_room {
            state.wants_room = false;
        }
        drop(state);
        if has_room {
            self.server.tell_from_anywhere(self.shard, Told::PipeRoom(self.shared.id));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for PipeEnd {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.write(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end_writing(false);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
#[path = "pipe_tests.rs"]
mod tests;
