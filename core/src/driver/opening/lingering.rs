//! Bytes of a socket before it is a connection: what comes early is kept up to a bound, and a refusal is not lost to a reset.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

use crate::driver::stream::Stream;

/// Bytes thrown away behind a refusal before the socket is dropped.
const MAX_LINGER_BYTES: usize = 256 * 1024;

/// Bytes of one read.
const READ_BYTES: usize = 2048;

/// How often a peer is looked for that has sent all that is kept of it before it was answered.
const LOOK: Duration = Duration::from_millis(250);

/// Returns true if a socket failed because the peer left, in order or not: there is nobody to blame.
pub(super) fn has_left(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
            | io::ErrorKind::TimedOut
    )
}

/// What one read takes at most where `kept` bytes of `most` are kept already.
pub(super) fn room(kept: usize, most: usize) -> usize {
    most.saturating_sub(kept).min(READ_BYTES)
}

/// Reads what is there, as long as fewer than `most` bytes are kept; 0: the peer is gone.
pub(super) fn read_some(stream: &mut Stream, received: &mut Vec<u8>, most: usize) -> impl Future<Output = usize> {
    std::future::poll_fn(move |cx| {
        // On the stack: as long as nothing comes, no buffer waits for it.
        let mut piece = [0; READ_BYTES];
        let mut piece = ReadBuf::new(&mut piece[..room(received.len(), most)]);
        let read = Pin::new(&mut *stream).poll_read(cx, &mut piece);
        read.map(|read| {
            received.extend_from_slice(piece.filled());
            read.map_or(0, |()| piece.filled().len())
        })
    })
}

/// Returns when the peer leaves; keeps what it sends early, up to `most` bytes.
pub(super) async fn watch_peer(stream: &mut Stream, received: &mut Vec<u8>, most: usize) {
    while received.len() < most {
        if read_some(stream, received, most).await == 0 {
            return;
        }
    }
    // Nothing more is read of it: whether it is there is asked of what the runtime was told of the socket.
    while !stream.has_left() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Writes the last bytes, ends the write side, and throws away what still comes.
pub(super) async fn end_with(stream: &mut Stream, response: &[u8]) -> io::Result<()> {
    stream.write_all(response).await?;
    stream.shutdown().await?;
    let mut left = MAX_LINGER_BYTES;
    while left > 0 {
        let mut thrown_away = Vec::new();
        match read_some(stream, &mut thrown_away, left).await {
            0 => break,
            read => left -= read,
        }
    }
    Ok(())
}
