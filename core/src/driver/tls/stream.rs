//! TLS records between a socket and a connection: rustls decides, over buffers that all connections of a thread share.
//!
//! A connection keeps only what was cut off: a record that has not come whole, plaintext that the reader had no room
//! for, ciphertext that the socket refused. An idle one keeps nothing.

use core::fmt;
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus};
use rustls::{ProtocolVersion, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::server_name::take_server_name;
use crate::driver::socket::Socket;
use wsguard_proto::handshake::TlsFacts;

/// Ciphertext read at a time: four records, so that a large message takes few calls.
const READ_BYTES: usize = 72 * 1024;
/// Plaintext sealed at a time.
const WRITE_BYTES: usize = 64 * 1024;
/// Ciphertext and records of one turn; then neighbours have theirs. Records without plain text, or with a byte of it, cost
/// what full ones do, and a count of plaintext does not see them.
const TURN_BYTES: usize = 4 * READ_BYTES;
const TURN_RECORDS: usize = 1024;
/// What a peer may send after our `close_notify` before the connection is dropped.
const MAX_DISCARDED_BYTES: usize = 256 * 1024;
/// A handshake message (a client's certificates) may fill several records; beyond this it is refused.
const MAX_PARTIAL_BYTES: usize = 64 * 1024;

/// Ciphertext on its way through this thread; both are scratch, as long as they have ever been.
struct Wire {
    incoming: Box<[u8]>,
    outgoing: Vec<u8>,
}

thread_local! {
    static WIRE: RefCell<Wire> =
        RefCell::new(Wire { incoming: vec![0; READ_BYTES].into(), outgoing: Vec::new() });
}

/// The server's end of a TLS connection.
pub(in crate::driver) struct TlsStream {
    socket: Socket,
    /// What the client has asked for, until that is told.
    server_name: Option<Box<str>>,
    tls: UnbufferedServerConnection,
    received: Received,
    /// Ciphertext that the socket has not taken.
    unsent: Vec<u8>,
    sent_close_notify: bool,
    /// Bytes of ciphertext received after our `close_notify`.
    discarded: usize,
    turn: Turn,
}

/// What this turn has taken in.
#[derive(Clone, Copy, Default)]
struct Turn {
    bytes: usize,
    records: usize,
}

/// What was received and could not be passed on.
#[derive(Default)]
struct Received {
    /// Ciphertext: the beginning of a record, or of a handshake message.
    partial: Vec<u8>,
    /// Plaintext that the reader had no room for.
    plain: Vec<u8>,
    /// How much of `plain` was read.
    read: usize,
    /// The peer has sent its `close_notify`.
    ended: bool,
}

impl Received {
    /// Takes plaintext: into `out` while there is room, and in order.
    fn keep(&mut self, plaintext: &[u8], out: &mut ReadBuf<'_>) {
        let fits = if self.plain.is_empty() { plaintext.len().min(out.remaining()) } else { 0 };
        out.put_slice(&plaintext[..fits]);
        self.plain.extend_from_slice(&plaintext[fits..]);
    }

    /// Hands out plaintext that was kept; whether there was any.
    fn hand_out(&mut self, out: &mut ReadBuf<'_>) -> bool {
        let kept = &self.plain[self.read..];
        let len = kept.len().min(out.remaining());
        out.put_slice(&kept[..len]);
        self.read += len;
        if self.read == self.plain.len() {
            (self.plain, self.read) = (Vec::new(), 0);
        }
        len > 0
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("socket", &self.socket).finish_non_exhaustive()
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl TlsStream {
    /// The TLS handshake. Before each read it waits for `turn`, and it calls `worked` when a read led to expensive work: a
    /// signature of ours, or the check of a client's certificate. Nothing else runs on the thread between the two.
    ///
    /// # Errors
    ///
    /// `InvalidData` where TLS refuses the peer (which is told so by an alert); `UnexpectedEof` where the peer left.
    pub(in crate::driver) async fn accept(
        config: Arc<ServerConfig>,
        socket: Socket,
        turn: impl AsyncFn(),
        worked: impl Fn(),
    ) -> io::Result<Self> {
        let tls = UnbufferedServerConnection::new(config).map_err(invalid)?;
        let mut stream = TlsStream {
            socket,
            server_name: None,
            tls,
            received: Received::default(),
            unsent: Vec::new(),
            sent_close_notify: false,
            discarded: 0,
            turn: Turn::default(),
        };
        loop {
            std::future::poll_fn(|cx| stream.poll_send(cx)).await?;
            if !stream.tls.is_handshaking() {
                return Ok(stream);
            }
            stream.socket.readable().await?;
            turn().await;
            let received =
                std::future::poll_fn(|cx| Poll::Ready(stream.poll_receive(cx, &mut ReadBuf::new(&mut [])))).await;
            // The resolver has run in this very call, where it has run.
            if let Some(name) = take_server_name() {
                stream.server_name = Some(name);
            }
            if stream.has_worked(&received) {
                worked();
            }
            match received {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => tokio::task::yield_now().await,
            }
        }
    }

    /// Whether a read in the handshake led to expensive work: it made our flight, which carries a signature, or brought the
    /// client's certificate, or failed, which may be found out late.
    fn has_worked(&self, received: &Poll<io::Result<usize>>) -> bool {
        match received {
            Poll::Pending | Poll::Ready(Ok(0)) => false,
            Poll::Ready(Err(_)) => true,
            Poll::Ready(Ok(_)) if self.tls.is_handshaking() => !self.unsent.is_empty(),
            Poll::Ready(Ok(_)) => self.tls.peer_certificates().is_some(),
        }
    }

    /// Whether plaintext waits in it that came while the reader had no room.
    pub(in crate::driver) fn has_plaintext(&self) -> bool {
        !self.received.plain.is_empty()
    }

    pub(in crate::driver) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// What is told of it; the name only once.
    pub(in crate::driver) fn facts(&mut self) -> Option<TlsFacts> {
        let version = match self.tls.protocol_version()? {
            ProtocolVersion::TLSv1_2 => "TLSv1.2",
            _ => "TLSv1.3",
        };
        // rustls names the suites of TLS 1.3 by its own names, which differ from IANA's.
        let cipher = format!("{:?}", self.tls.negotiated_cipher_suite()?.suite()).replace("TLS13_", "TLS_");
        let certificate = self.tls.peer_certificates().and_then(|chain| chain.first());
        let name = self.server_name.take();
        Some(TlsFacts::new(version, &cipher, name.as_deref(), certificate.map(|leaf| &**leaf)))
    }

    /// The leaf of the client's certificate chain.
    pub(in crate::driver) fn peer_certificate(&self) -> Option<Vec<u8>> {
        Some(self.tls.peer_certificates()?.first()?.to_vec())
    }

    /// Reads ciphertext once and takes it in; 0: the socket has ended. When the turn has had its share it waits for the
    /// next one, which comes at once.
    fn poll_receive(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        if self.turn.bytes >= TURN_BYTES || self.turn.records >= TURN_RECORDS {
            self.turn = Turn::default();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        WIRE.with_borrow_mut(|wire| {
            let mut buffer = ReadBuf::new(&mut wire.incoming);
            match Pin::new(&mut self.socket).poll_read(cx, &mut buffer) {
                Poll::Pending => {
                    self.turn = Turn::default();
                    return Poll::Pending;
                }
                Poll::Ready(outcome) => outcome?,
            }
            let len = buffer.filled().len();
            self.turn.bytes += len;
            let taken = self.take_in(&mut wire.incoming[..len], out);
            if taken.is_err() {
                // The alert that says why, as far as the socket takes it.
                let _ = self.poll_send(cx);
            }
            Poll::Ready(taken.map(|()| len))
        })
    }

    /// Takes in ciphertext behind what was kept of it, and keeps what is not yet whole.
    fn take_in(&mut self, ciphertext: &mut [u8], out: &mut ReadBuf<'_>) -> io::Result<()> {
        if self.sent_close_notify {
            // Nothing of it counts any more; and what TLS cannot read it would answer with an alert, behind its last word.
            self.discarded += ciphertext.len();
            return if self.discarded > MAX_DISCARDED_BYTES { Err(io::ErrorKind::InvalidData.into()) } else { Ok(()) };
        }
        let mut partial = core::mem::take(&mut self.received.partial);
        if partial.is_empty() {
            let done = self.settle(ciphertext, out).map_err(invalid)?;
            partial.extend_from_slice(&ciphertext[done..]);
        } else {
            partial.extend_from_slice(ciphertext);
            let done = self.settle(&mut partial, out).map_err(invalid)?;
            partial.drain(..done);
            partial.shrink_to(READ_BYTES.min(2 * partial.len()));
        }
        if partial.len() > MAX_PARTIAL_BYTES {
            return Err(invalid("a TLS handshake message is over 65536 bytes"));
        }
        if !self.received.ended {
            self.received.partial = partial;
        }
        Ok(())
    }

    /// Lets TLS work until it wants more ciphertext; returns how much of `ciphertext` it is done with.
    fn settle(&mut self, ciphertext: &mut [u8], out: &mut ReadBuf<'_>) -> Result<usize, rustls::Error> {
        let mut done = 0;
        loop {
            let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(&mut ciphertext[done..]);
            let state = match state {
                Ok(state) => state,
                Err(error) => {
                    self.keep_alert(&mut ciphertext[done + discard..]);
                    return Err(error);
                }
            };
            let more = match state {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        self.turn.records += 1;
                        discard += record.discard;
                        self.received.keep(record.payload, out);
                    }
                    true
                }
                ConnectionState::EncodeTlsData(handshake) => {
                    encode(handshake, &mut self.unsent);
                    true
                }
                ConnectionState::TransmitTlsData(encoded) => {
                    encoded.done();
                    true
                }
                ConnectionState::PeerClosed => {
                    self.received.ended = true;
                    true
                }
                // `WriteTraffic` and `BlockedHandshake`: it wants more; `Closed`: there is no more. Early data is off.
                _ => false,
            };
            done += discard;
            if !more {
                return Ok(done);
            }
        }
    }

    /// After an error: what TLS has to say of it.
    fn keep_alert(&mut self, ciphertext: &mut [u8]) {
        if let Ok(ConnectionState::EncodeTlsData(alert)) = self.tls.process_tls_records(ciphertext).state {
            encode(alert, &mut self.unsent);
        }
    }

    /// Seals `plaintext` into `sealed`, which grows to the room that takes; returns how long it is.
    fn seal(&mut self, plaintext: Plaintext<'_>, sealed: &mut Vec<u8>) -> io::Result<usize> {
        let UnbufferedStatus { state, .. } = self.tls.process_tls_records(&mut self.received.partial);
        let ConnectionState::WriteTraffic(mut traffic) = state.map_err(invalid)? else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        loop {
            let result = match plaintext {
                Plaintext::Bytes(bytes) => traffic.encrypt(bytes, sealed),
                Plaintext::CloseNotify => traffic.queue_close_notify(sealed),
            };
            match result {
                Ok(len) => return Ok(len),
                Err(EncryptError::InsufficientSize(size)) if size.required_size > sealed.len() => {
                    sealed.resize(size.required_size, 0);
                }
                Err(error) => return Err(invalid(error)),
            }
        }
    }

    /// Queues `close_notify`, once. A connection that TLS has given up sends none.
    fn keep_close_notify(&mut self) {
        if !core::mem::replace(&mut self.sent_close_notify, true) {
            let mut goodbye = Vec::new();
            let len = self.seal(Plaintext::CloseNotify, &mut goodbye).unwrap_or(0);
            self.unsent.extend_from_slice(&goodbye[..len]);
        }
    }

    /// Writes what the socket refused before.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = poll_write_all(&mut self.socket, cx, &self.unsent)?;
        if sent == self.unsent.len() {
            self.unsent = Vec::new();
            return Poll::Ready(Ok(()));
        }
        self.unsent.drain(..sent);
        Poll::Pending
    }
}

#[derive(Clone, Copy)]
enum Plaintext<'p> {
    Bytes(&'p [u8]),
    CloseNotify,
}

/// Appends what TLS itself says.
fn encode<Data>(mut handshake: EncodeTlsData<'_, Data>, out: &mut Vec<u8>) {
    let start = out.len();
    // The first call tells how much room it takes.
    if let Err(EncodeError::InsufficientSize(size)) = handshake.encode(&mut []) {
        out.resize(start + size.required_size, 0);
        let len = handshake.encode(&mut out[start..]).unwrap_or(0);
        out.truncate(start + len);
    }
}

/// Writes until the socket takes no more; how much it took.
fn poll_write_all(socket: &mut Socket, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match Pin::new(&mut *socket).poll_write(cx, &bytes[sent..]) {
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(len)) => sent += len,
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => break,
        }
    }
    Ok(sent)
}

impl AsyncRead for TlsStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if out.remaining() == 0 || this.received.hand_out(out) {
            return Poll::Ready(Ok(()));
        }
        let before = out.filled().len();
        while !this.received.ended {
            if !this.unsent.is_empty() {
                // What TLS itself answered; reading goes on whether or not the socket takes it.
                if let Poll::Ready(Err(error)) = this.poll_send(cx) {
                    return Poll::Ready(Err(error));
                }
            }
            if ready!(this.poll_receive(cx, out))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            if out.filled().len() > before {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        let plaintext = &bytes[..bytes.len().min(WRITE_BYTES)];
        WIRE.with_borrow_mut(|wire| {
            let len = this.seal(Plaintext::Bytes(plaintext), &mut wire.outgoing)?;
            let sealed = &wire.outgoing[..len];
            let sent = poll_write_all(&mut this.socket, cx, sealed)?;
            this.unsent.extend_from_slice(&sealed[sent..]);
            Poll::Ready(Ok(plaintext.len()))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.keep_close_notify();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

/// RFC 8446 section 6.1: whoever ends its side says so first, also where it waits for nothing more (the server stops, a
/// peer took too long). As far as the socket takes it at once.
impl Drop for TlsStream {
    fn drop(&mut self) {
        if !self.tls.is_handshaking() {
            self.keep_close_notify();
            let _ = self.poll_send(&mut Context::from_waker(Waker::noop()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use wsguard_proto::config::{TlsOptions, TlsVersion};

    /// A socket that passes on at most so many bytes at a time.
    struct Cut(TcpStream, usize);

    impl Read for Cut {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = buffer.len().min(self.1);
            self.0.read(&mut buffer[..len])
        }
    }

    impl Write for Cut {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(&bytes[..bytes.len().min(self.1)])
        }

        fn flush(&mut self) -> io::Result<()> {
            self.0.flush()
        }
    }

    /// How often a handshake leads to expensive work, when the client's bytes come in cuts of `cut`.
    fn expensive_steps(cut: usize, has_client_certificate: bool) -> usize {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let certificate = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
        let private_key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let client_ca = has_client_certificate.then(|| cert.clone());
        let options = TlsOptions { cert, key, client_ca, min_version: TlsVersion::V1_2 };
        let config = super::super::server_config(&options).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], private_key)
            .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let peer = std::thread::spawn(move || {
            let mut tls = ClientConnection::new(Arc::new(client), "localhost".try_into().unwrap()).unwrap();
            let mut socket = Cut(TcpStream::connect(address).unwrap(), cut);
            while tls.is_handshaking() || tls.wants_write() {
                tls.complete_io(&mut socket).unwrap();
            }
            // Until the server leaves.
            let _ = socket.0.read(&mut [0; 1]);
            let _ = socket.0.read_to_end(&mut Vec::new());
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (turns, steps) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        runtime.block_on(async {
            let (socket, _) = listener.accept().unwrap();
            socket.set_nonblocking(true).unwrap();
            let socket = Socket::Tcp(tokio::net::TcpStream::from_std(socket).unwrap());
            let turn = async || turns.set(turns.get() + 1);
            TlsStream::accept(config, socket, turn, || steps.set(steps.get() + 1)).await.unwrap();
        });
        peer.join().unwrap();
        assert!(turns.get() >= steps.get());
        steps.get()
    }

    /// Certificates of clients are signatures to check, and bytes that drip in are no work.
    #[test]
    fn expensive_work_of_a_handshake_is_counted_whatever_comes_how() {
        for cut in [usize::MAX, 7] {
            assert_eq!((expensive_steps(cut, false), expensive_steps(cut, true)), (1, 2), "in cuts of {cut}");
        }
    }

    /// Lets `client` talk to `serve`, which has the server's end once the handshake is over. Returns what that came to.
    fn meet<R>(
        client: impl FnOnce(TcpStream, ClientConnection) + Send + 'static,
        serve: impl AsyncFnOnce(TlsStream) -> io::Result<R>,
    ) -> io::Result<R> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()).unwrap();
        let options = TlsOptions { cert, key, client_ca: None, min_version: TlsVersion::V1_2 };
        let config = super::super::server_config(&options).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let peer = std::thread::spawn(move || {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let tls = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
            client(TcpStream::connect(address).unwrap(), tls);
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(tokio::task::unconstrained(async {
            let (socket, _) = listener.accept().unwrap();
            socket.set_nonblocking(true).unwrap();
            let socket = Socket::Tcp(tokio::net::TcpStream::from_std(socket).unwrap());
            serve(TlsStream::accept(config, socket, async || {}, || {}).await?).await
        }));
        peer.join().unwrap();
        outcome
    }

    /// Runs `client` against a server that reads with room for `room` bytes and echoes until the peer's goodbye.
    /// Returns what the server's end came to.
    fn echo(room: usize, client: impl FnOnce(TcpStream, ClientConnection) + Send + 'static) -> io::Result<usize> {
        meet(client, async |mut stream| {
            let mut buffer = vec![0; room];
            let mut total = 0;
            loop {
                let len = stream.read(&mut buffer).await?;
                if len == 0 {
                    stream.shutdown().await?;
                    return Ok(total);
                }
                total += len;
                stream.write_all(&buffer[..len]).await?;
                stream.flush().await?;
            }
        })
    }

    fn shake_hands(socket: &mut TcpStream, tls: &mut ClientConnection) {
        while tls.is_handshaking() {
            tls.complete_io(socket).unwrap();
        }
    }

    /// Sends `payload` in cuts of `cut` bytes and expects it back, and an orderly end.
    fn there_and_back(len: usize, cut: usize, room: usize) {
        let payload: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        let total = echo(room, move |socket, tls| {
            let mut reader = StreamOwned::new(tls, Cut(socket, cut));
            for part in payload.chunks(20_000) {
                reader.write_all(part).unwrap();
                reader.flush().unwrap();
                let mut back = vec![0; part.len()];
                reader.read_exact(&mut back).unwrap();
                assert!(back == part, "the echo differs");
            }
            reader.conn.send_close_notify();
            reader.flush().unwrap();
            assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0, "the server says goodbye as well");
        });
        assert_eq!(total.unwrap(), len);
    }

    #[test]
    fn messages_of_many_records_pass() {
        there_and_back(1_000_000, usize::MAX, 256 * 1024);
    }

    #[test]
    fn records_that_arrive_byte_by_byte_are_put_together() {
        there_and_back(20_000, 1, 4096);
    }

    #[test]
    fn plaintext_that_the_reader_has_no_room_for_is_kept() {
        there_and_back(50_000, usize::MAX, 7);
    }

    /// Records of one byte cost what full ones do: they end a turn by their number, and full ones by their bytes.
    #[test]
    fn a_turn_ends_however_little_plaintext_the_records_hold() {
        const RECORDS: usize = 20_000;
        let most_of_a_read = READ_BYTES / 22;
        for (record, most) in [(1, TURN_RECORDS + most_of_a_read), (16_384, TURN_BYTES + READ_BYTES)] {
            let (turns, total) = turns_of(record, RECORDS.min(4_000_000 / record));
            assert_eq!(total, record * RECORDS.min(4_000_000 / record));
            let longest = turns.iter().copied().max().unwrap();
            assert!(longest <= most, "{longest} bytes of plaintext in one turn, at most {most}");
            assert!(turns.len() > 2, "neighbours had {} turns", turns.len());
        }
    }

    /// Plaintext by turns, as a connection reads it that never stops by itself, and all of it.
    fn turns_of(record: usize, records: usize) -> (Vec<usize>, usize) {
        let client = move |mut socket: TcpStream, mut tls: ClientConnection| {
            shake_hands(&mut socket, &mut tls);
            tls.set_buffer_limit(None);
            for _ in 0..records {
                tls.writer().write_all(&vec![7; record]).unwrap();
            }
            tls.send_close_notify();
            while tls.wants_write() {
                tls.write_tls(&mut socket).unwrap();
            }
            let _ = socket.read_to_end(&mut Vec::new());
        };
        let (mut turns, mut total, mut buffer) = (Vec::new(), 0, vec![0; 256 * 1024]);
        let outcome = meet(client, async |mut stream| {
            std::future::poll_fn(|cx| {
                let mut turn = 0;
                loop {
                    let mut out = ReadBuf::new(&mut buffer);
                    let outcome = Pin::new(&mut stream).poll_read(cx, &mut out);
                    let len = out.filled().len();
                    (turn, total) = (turn + len, total + len);
                    match outcome {
                        Poll::Ready(outcome) if len > 0 => outcome.unwrap(),
                        end => {
                            turns.push(turn);
                            return end;
                        }
                    }
                }
            })
            .await
        });
        outcome.unwrap();
        (turns, total)
    }

    #[test]
    fn whoever_is_dropped_is_told_goodbye() {
        let client = |mut socket: TcpStream, mut tls: ClientConnection| {
            shake_hands(&mut socket, &mut tls);
            let mut reader = StreamOwned::new(tls, socket);
            let mut said = Vec::new();
            // Without `close_notify` this is an error: the end may be an attacker's.
            reader.read_to_end(&mut said).unwrap();
            assert_eq!(said, b"last words");
        };
        meet(client, async |mut stream| stream.write_all(b"last words").await).unwrap();
    }

    #[test]
    fn a_stream_tells_of_its_tls_and_keeps_the_name_no_longer() {
        let client = |mut socket: TcpStream, mut tls: ClientConnection| shake_hands(&mut socket, &mut tls);
        let facts = meet(client, async |mut stream| Ok((stream.facts(), stream.facts()))).unwrap();
        let facts = (facts.0.unwrap(), facts.1.unwrap());
        assert_eq!((&*facts.0.version, facts.0.server_name.as_deref()), ("TLSv1.3", Some("localhost")));
        assert!(facts.0.cipher.starts_with("TLS_"), "{}", facts.0.cipher);
        assert_eq!((facts.0.client_certificate_sha256, facts.1.server_name), (None, None));
    }

    #[test]
    fn a_peer_that_leaves_without_a_goodbye_is_an_error() {
        let outcome = echo(64, |mut socket, mut tls| {
            shake_hands(&mut socket, &mut tls);
            socket.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = socket.read_to_end(&mut Vec::new());
        });
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_not_tls_is_refused_with_an_alert() {
        let outcome = echo(64, |mut socket, _| {
            socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut answer = Vec::new();
            let _ = socket.read_to_end(&mut answer);
            // RFC 8446 section 6: an alert record, fatal.
            assert_eq!((answer.first(), answer.get(5)), (Some(&21), Some(&2)), "{answer:?}");
        });
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_record_that_was_tampered_with_ends_the_connection() {
        let outcome = echo(64, |mut socket, mut tls| {
            shake_hands(&mut socket, &mut tls);
            // An application data record that no key made.
            socket.write_all(&[&[23, 3, 3, 0, 40][..], &[7; 40]].concat()).unwrap();
            let _ = socket.read_to_end(&mut Vec::new());
        });
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
