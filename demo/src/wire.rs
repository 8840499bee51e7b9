//! A client that may misbehave: RFC 6455 by hand, on a socket. A well-behaved library would refuse to send most of this.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

/// A response head is not longer than this.
const MAX_HEAD_BYTES: usize = 8192;
/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(6);
/// Any mask will do (RFC 6455 section 5.3 wants it random, for the sake of proxies).
const MASK: [u8; 4] = [0x5a, 0x17, 0xc3, 0x88];

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
const PONG: u8 = 10;
/// The last message of an attack: its answer tells that all before it was worked on.
const BARRIER: &str = r#"{"event":"echo","data":0,"id":"end"}"#;

/// What a handshake says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) path: &'static str,
    pub(crate) origin: String,
    pub(crate) token: Option<String>,
}

impl Claim {
    /// The request head for `host`.
    pub(crate) fn head(&self, host: SocketAddr) -> String {
        let token = self.token.as_ref().map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
        format!(
            "GET {} HTTP/1.1\r\nHost: {host}\r\nOrigin: {}\r\n{token}Connection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.path, self.origin
        )
    }
}

/// What is sent, and how many bytes of it the peer's system took.
pub(crate) struct Sender {
    half: OwnedWriteHalf,
    pub(crate) sent: u64,
}

impl Sender {
    pub(crate) async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.half.write_all(bytes).await?;
        self.sent += bytes.len() as u64;
        Ok(())
    }

    /// A whole masked frame.
    pub(crate) async fn frame(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        let mut frame = header(opcode, payload.len());
        frame.extend(masked(payload));
        self.raw(&frame).await
    }

    pub(crate) async fn text(&mut self, text: &str) -> io::Result<()> {
        self.frame(TEXT, text.as_bytes()).await
    }

    /// Asks for an answer: [`Seen::End`] comes once everything before was worked on.
    pub(crate) async fn barrier(&mut self) -> io::Result<()> {
        self.text(BARRIER).await
    }

    /// A frame without a mask, which a client must not send.
    pub(crate) async fn unmasked(&mut self, text: &str) -> io::Result<()> {
        let mut frame = vec![0x80 | TEXT, text.len() as u8];
        frame.extend(text.as_bytes());
        self.raw(&frame).await
    }

    /// A text frame whose header declares `len` bytes, and then those bytes: `before`, filling (at least 16 KiB of it), `after`.
    /// Nothing of it is held here, so that what memory grows by is the server's.
    pub(crate) async fn long_text(&mut self, len: usize, before: &str, after: &str) -> io::Result<()> {
        const PIECE: usize = 16 * 1024; // a multiple of the mask's length
        self.raw(&header(TEXT, len)).await?;
        let filling: Vec<u8> = masked(&[b'x'; PIECE]).collect();
        let rest = len - before.len() - after.len();
        // The mask goes on where the part before has ended.
        let first = PIECE - before.len();
        let begin = [before.as_bytes(), &[b'x'; PIECE][..first.min(rest)]].concat();
        self.raw(&masked(&begin).collect::<Vec<u8>>()).await?;
        let mut left = rest.saturating_sub(first);
        while left >= PIECE {
            self.raw(&filling).await?;
            left -= PIECE;
        }
        let end = [&[b'x'; PIECE][..left], after.as_bytes()].concat();
        self.raw(&masked(&end).collect::<Vec<u8>>()).await
    }
}

/// The header of a final, masked frame.
fn header(opcode: u8, len: usize) -> Vec<u8> {
    let mut header = vec![0x80 | opcode];
    match len {
        0..=125 => header.push(0x80 | len as u8),
        126..=0xffff => {
            header.push(0x80 | 0x7e);
            header.extend((len as u16).to_be_bytes());
        }
        _ => {
            header.push(0x80 | 0x7f);
            header.extend((len as u64).to_be_bytes());
        }
    }
    header.extend(MASK);
    header
}

fn masked(payload: &[u8]) -> impl Iterator<Item = u8> {
    payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask)
}

/// What a server's frame was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Message,
    Pong,
    /// The answer to [`Sender::barrier`].
    End,
    Close(u16, String),
    /// The connection ended without a close frame.
    Dropped,
}

pub(crate) struct Receiver {
    half: BufReader<OwnedReadHalf>,
}

impl Receiver {
    pub(crate) async fn next(&mut self) -> Seen {
        self.frame().await.unwrap_or(Seen::Dropped)
    }

    async fn frame(&mut self) -> io::Result<Seen> {
        let opcode = self.half.read_u8().await? & 0x0f;
        let len = match self.half.read_u8().await? {
            126 => u64::from(self.half.read_u16().await?),
            127 => self.half.read_u64().await?,
            len => u64::from(len),
        };
        // Of a long message only the beginning is looked at.
        let mut payload = vec![0; len.min(128) as usize];
        self.half.read_exact(&mut payload).await?;
        let rest = len - payload.len() as u64;
        tokio::io::copy(&mut (&mut self.half).take(rest), &mut tokio::io::sink()).await?;
        Ok(match opcode {
            CLOSE if payload.len() < 2 => Seen::Close(1005, String::new()),
            CLOSE => {
                let reason = String::from_utf8_lossy(&payload[2..]).into_owned();
                Seen::Close(u16::from_be_bytes([payload[0], payload[1]]), reason)
            }
            PONG => Seen::Pong,
            TEXT if contains(&payload, br#""echo""#) && contains(&payload, br#""id":"end""#) => Seen::End,
            _ => Seen::Message,
        })
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// An open WebSocket.
pub(crate) struct Socket {
    pub(crate) local: SocketAddr,
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
}

/// How a handshake went.
pub(crate) struct Handshake {
    /// The HTTP status; `None`: the connection ended without an answer.
    pub(crate) status: Option<u16>,
    pub(crate) socket: Option<Socket>,
}

/// Connects and asks for the upgrade.
pub(crate) async fn connect(server: SocketAddr, claim: &Claim) -> Handshake {
    let attempt = async {
        let mut stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        stream.write_all(claim.head(server).as_bytes()).await?;
        let status = read_status(&mut stream).await;
        io::Result::Ok((stream, status))
    };
    let Ok(Ok((stream, status))) = timeout(PATIENCE, attempt).await else {
        return Handshake { status: None, socket: None };
    };
    let local = stream.local_addr();
    let (read, write) = stream.into_split();
    let socket = |local| Socket {
        local,
        sender: Sender { half: write, sent: 0 },
        receiver: Receiver { half: BufReader::new(read) },
    };
    Handshake { status, socket: local.ok().filter(|_| status == Some(101)).map(socket) }
}

/// Reads a response head; byte by byte, because frames may follow at once.
pub(crate) async fn read_status(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<u16> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_HEAD_BYTES {
        head.push(stream.read_u8().await.ok()?);
    }
    core::str::from_utf8(&head).ok()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_carry_every_length() {
        assert_eq!(header(TEXT, 5)[..2], [0x81, 0x85]);
        assert_eq!(header(BINARY, 300)[..4], [0x82, 0xfe, 0x01, 0x2c]);
        assert_eq!(header(TEXT, 1 << 20)[..10], [0x81, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0]);
    }
}
