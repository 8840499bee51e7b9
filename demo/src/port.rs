//! The page's port, shared: a WebSocket request for the chat goes to wsguard, which adopts the connection; all else goes to
//! axum. This is how wsguard stands beside a framework on one port. Its own listener is open as well: there the attacks
//! come in.

use std::future::pending;
use std::io::{self, Cursor};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, Chain, Join, join};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use wsguard::Handle;

/// Where the chat is: for everybody, and for moderators, who have a route of the policy.
pub(crate) const CHAT_PATH: &str = "/chat";
pub(crate) const MODERATOR_PATH: &str = "/moderator";
/// Connections whose first request is still on its way.
const MAX_HEADS: usize = 64;
const MAX_HEAD_BYTES: usize = 8192;
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// What was read of a connection, and the rest of it.
type Io = Join<Chain<Cursor<Vec<u8>>, OwnedReadHalf>, OwnedWriteHalf>;

/// The connections of the port that are axum's.
pub(crate) struct Pages {
    address: SocketAddr,
    connections: mpsc::Receiver<(Io, SocketAddr)>,
}

impl Pages {
    /// Takes the connections of `listener`; those for the chat go to `server`.
    pub(crate) fn beside(server: Handle, listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (pages, connections) = mpsc::channel(MAX_HEADS);
        tokio::spawn(accept(listener, server, pages));
        Ok(Self { address, connections })
    }
}

impl axum::serve::Listener for Pages {
    type Io = Io;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Io, SocketAddr) {
        match self.connections.recv().await {
            Some(connection) => connection,
            None => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

async fn accept(listener: TcpListener, server: Handle, pages: mpsc::Sender<(Io, SocketAddr)>) {
    let heads = Arc::new(Semaphore::new(MAX_HEADS));
    loop {
        let Ok(permit) = Arc::clone(&heads).acquire_owned().await else { return };
        let Ok((mut stream, peer)) = listener.accept().await else { continue };
        let (server, pages) = (server.clone(), pages.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let Ok(Ok(received)) = timeout(HEAD_TIMEOUT, read_head(&mut stream)).await else { return };
            if !is_for_the_chat(&received) {
                let (read, write) = stream.into_split();
                let _ = pages.send((join(Cursor::new(received).chain(read), write), peer)).await;
            } else if let Ok(stream) = stream.into_std() {
                // An error here: the peer has left, or the server is at its end.
                let _ = server.adopt(stream, received);
            }
        });
    }
}

/// Reads until the end of the request head.
async fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut received = Vec::new();
    while !received.windows(4).any(|end| end == b"\r\n\r\n") {
        if received.len() >= MAX_HEAD_BYTES || stream.read_buf(&mut received).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(received)
}

/// By the path alone: whether it is a good WebSocket request is wsguard's to say.
fn is_for_the_chat(head: &[u8]) -> bool {
    let target = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    [CHAT_PATH, MODERATOR_PATH].iter().any(|of_the_chat| path == of_the_chat.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_alone_decides() {
        assert!(is_for_the_chat(b"GET /chat HTTP/1.1\r\n"));
        assert!(is_for_the_chat(b"POST /chat?x HTTP/1.1\r\n"));
        assert!(is_for_the_chat(b"GET /moderator HTTP/1.1\r\n"));
        for other in ["GET / HTTP/1.1", "GET /chatter HTTP/1.1", "GET /x/chat HTTP/1.1", "GET", ""] {
            assert!(!is_for_the_chat(other.as_bytes()), "{other}");
        }
    }
}
