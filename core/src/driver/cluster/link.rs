//! One connection to a server of Redis: bytes out, values in, both while neither waits for the other.

use std::borrow::Cow;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::ServerName;
use socket2::{SockRef, Socket};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, UnboundedSender, channel, unbounded_channel};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use wsguard_proto::cluster::resp::{Decoder, Received, encode};
use wsguard_proto::cluster::store::Value;
use wsguard_proto::cluster::url::Host;

use super::refusal::{Refusal, network};

/// Bytes that are read at a time.
const READ_BYTES: usize = 32 * 1024;
/// Values that were read and not looked at; then Redis waits.
const MAX_UNSEEN: usize = 1024;
/// For so long an address of a name that has others is tried alone.
const ALONE: Duration = Duration::from_millis(150);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection. It is closed when this is dropped.
pub(super) struct Link {
    out: UnboundedSender<Vec<u8>>,
    received: Receiver<Result<Received, String>>,
    _reader: Task,
    _writer: Task,
    _end: End,
}

/// Ends the connection with its handle, also where a child of `fork` has the descriptor, too: Redis would go on counting it among
/// those that hear a channel, and keep for it what it does not read.
struct End(Socket);

impl Drop for End {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Ends with its handle.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Link {
    /// Connects. Nothing is said yet.
    pub(super) async fn open(host: &Host, tls: Option<&TlsConnector>) -> Result<Self, Refusal> {
        let away = |error: io::Error| Refusal::Away(network(&error));
        let found = lookup_host((host.name.as_str(), host.port)).await;
        let addresses: Vec<_> = found.map_err(|_| Refusal::away("the host's name does not resolve"))?.collect();
        let socket = connect(addresses).await.map_err(away)?;
        socket.set_nodelay(true).map_err(away)?;
        let end = End(SockRef::from(&socket).try_clone().map_err(away)?);
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(socket),
            Some(connector) => {
                let name = ServerName::try_from(host.name.clone())
                    .map_err(|_| Refusal::away("the host has no name that a certificate could be for"))?;
                Box::new(connector.connect(name, socket).await.map_err(away)?)
            }
        };
        let (reader, writer) = split(stream);
        let (out, chunks) = unbounded_channel();
        let (values, received) = channel(MAX_UNSEEN);
        let (reader, writer) = (tokio::spawn(read(reader, values)), tokio::spawn(write(writer, chunks)));
        Ok(Self { out, received, _reader: Task(reader), _writer: Task(writer), _end: end })
    }

    /// Sends bytes when the socket takes them. What was sent and not answered is bounded by who sends.
    pub(super) fn send(&self, bytes: Vec<u8>) {
        // Where the writer has ended, the reader says why.
        let _ = self.out.send(bytes);
    }

    /// The next value, or why there will be none.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, String>> {
        self.received.poll_recv(cx).map(|received| received.unwrap_or_else(|| Err("the connection is gone".to_owned())))
    }

    /// Asks something and waits for the answer, while nothing else is asked.
    ///
    /// # Errors
    /// Redis answered an error, or the connection broke.
    pub(super) async fn ask(&mut self, words: &[&[u8]]) -> Result<Value, Refusal> {
        let mut bytes = Vec::new();
        encode(words.iter().map(|word| Cow::Borrowed(*word)), &mut bytes);
        self.send(bytes);
        loop {
            let received = core::future::poll_fn(|cx| self.poll_receive(cx)).await.map_err(Refusal::Away)?;
            match received {
                Received::Push(_) => {}
                Received::Answer(Value::Error(error)) => return Err(Refusal::answered(&error)),
                Received::Answer(value) => return Ok(value),
            }
        }
    }
}

/// Connects to whichever address answers first. One that swallows all that is sent keeps none behind it waiting for long (a
/// name with IPv6 that leads nowhere): in the time of a whole attempt it would be the only one, each time.
async fn connect(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut addresses = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        let address = addresses.next();
        let is_another = address.map(|address| attempts.spawn(TcpStream::connect(address))).is_some();
        let ended = if is_another && addresses.len() > 0 {
            let Ok(ended) = timeout(ALONE, attempts.join_next()).await else { continue };
            ended
        } else {
            attempts.join_next().await
        };
        match ended {
            Some(Ok(Ok(socket))) => return Ok(socket),
            Some(Ok(Err(error))) => last = error,
            Some(Err(_)) => {}
            None => return Err(last),
        }
    }
}

async fn read(mut stream: ReadHalf<Box<dyn Stream>>, values: Sender<Result<Received, String>>) {
    let mut decoder = Decoder::default();
    let mut bytes = vec![0; READ_BYTES];
    let why = loop {
        match stream.read(&mut bytes).await {
            Ok(0) => break "the connection was closed by the server".to_owned(),
            Ok(len) => decoder.push(&bytes[..len]),
            Err(error) => break network(&error),
        }
        let end = loop {
            match decoder.take() {
                Ok(None) => break None,
                Ok(Some(received)) => {
                    if values.send(Ok(received)).await.is_err() {
                        return;
                    }
                }
                Err(_) => break Some("the server does not speak RESP3, or sends too much at once".to_owned()),
            }
        };
        if let Some(why) = end {
            break why;
        }
    };
    let _ = values.send(Err(why)).await;
}

async fn write(mut stream: WriteHalf<Box<dyn Stream>>, mut chunks: UnboundedReceiver<Vec<u8>>) {
    while let Some(chunk) = chunks.recv().await {
        if stream.write_all(&chunk).await.is_err() || chunks.is_empty() && stream.flush().await.is_err() {
            return;
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpSocket};

    const PATIENCE: Duration = Duration::from_secs(1);

    fn any() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[tokio::test]
    async fn an_address_that_answers_nothing_keeps_none_behind_it() {
        let silent = TcpSocket::new_v4().unwrap();
        silent.bind(any()).unwrap();
        let silent = silent.listen(0).unwrap();
        let nowhere = silent.local_addr().unwrap();
        // Nobody accepts: once its queue is full, the kernel swallows what comes.
        let mut held = Vec::new();
        while let Ok(queued) = timeout(PATIENCE / 4, TcpStream::connect(nowhere)).await {
            held.push(queued.unwrap());
            assert!(held.len() < 64, "the queue of a listener never fills");
        }
        let there = TcpListener::bind(any()).await.unwrap();
        let here = there.local_addr().unwrap();
        let closed = TcpListener::bind(any()).await.unwrap().local_addr().unwrap();
        for addresses in
            [vec![nowhere, here], vec![nowhere, nowhere, closed, here], vec![closed, here], vec![here, nowhere]]
        {
            let socket = timeout(PATIENCE, connect(addresses.clone())).await;
            let socket = socket.unwrap_or_else(|_| panic!("none of {addresses:?} within {} ms", PATIENCE.as_millis()));
            assert_eq!(socket.unwrap().peer_addr().unwrap(), here);
        }
        assert_eq!(connect(vec![closed, closed]).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert!(connect(Vec::new()).await.is_err());
    }
}
