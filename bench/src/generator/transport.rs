//! The bytes below the frames: a socket, or TLS on one.
//!
//! TLS is fixed to 1.3, X25519 and AES-128-GCM, without resumption, so that every server does the same cryptography. The
//! certificate is taken as it comes: the client's checks are no cost of the server's.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use anyhow::Result;
use mio::net::TcpStream;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, version};

/// How to make transports of sockets.
#[derive(Clone)]
pub(super) enum Security {
    Plain,
    Tls(Arc<ClientConfig>),
}

impl Security {
    pub(super) fn new(tls: bool) -> Result<Self> {
        Ok(if tls { Self::Tls(Arc::new(client_config()?)) } else { Self::Plain })
    }
}

/// What a connection reads from and writes to.
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

/// TLS over a socket that does not block.
pub(super) struct TlsStream {
    socket: TcpStream,
    session: ClientConnection,
    /// What was read from the socket and not yet decrypted.
    ciphertext: Vec<u8>,
    taken: usize,
}

/// A full record and its overhead come in one read.
const CIPHERTEXT_BYTES: usize = 17 << 10;

impl Transport {
    pub(super) fn new(socket: TcpStream, security: &Security) -> Result<Self> {
        let Security::Tls(config) = security else { return Ok(Self::Plain(socket)) };
        let mut session = ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost")?)?;
        session.set_buffer_limit(None);
        Ok(Self::Tls(Box::new(TlsStream { socket, session, ciphertext: Vec::new(), taken: 0 })))
    }

    /// Whether a read of `read` bytes, of `asked`, says that there is nothing more for now.
    pub(super) fn is_drained(&self, read: usize, asked: usize) -> bool {
        matches!(self, Self::Plain(_)) && read < asked
    }

    /// Writes what waits in the TLS session, as far as the socket takes it.
    pub(super) fn flush_session(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(stream) => stream.flush_session(),
        }
    }
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => {
                let written = stream.session.writer().write(bytes)?;
                // What the socket does not take now goes with the next event: it is accepted all the same.
                match stream.flush_session() {
                    Err(error) if !is_not_yet(error.kind()) => Err(error),
                    _ => Ok(written),
                }
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            if self.taken == self.ciphertext.len() && self.refill()? == 0 {
                return Ok(0);
            }
            let mut rest = &self.ciphertext[self.taken..];
            self.taken += self.session.read_tls(&mut rest)?;
            self.session.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            if self.session.wants_write() {
                self.flush_session()?;
            }
        }
    }

    fn refill(&mut self) -> io::Result<usize> {
        self.ciphertext.resize(CIPHERTEXT_BYTES, 0);
        let outcome = self.socket.read(&mut self.ciphertext);
        self.ciphertext.truncate(*outcome.as_ref().unwrap_or(&0));
        self.taken = 0;
        outcome
    }

    fn flush_session(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}

/// Whether it is no failure, but too early.
pub(super) fn is_not_yet(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::NotConnected)
}

fn client_config() -> Result<ClientConfig> {
    let provider = Arc::new(CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![kx_group::X25519],
        ..default_provider()
    });
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&version::TLS13])?;
    let mut config =
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate)).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Takes any certificate, see the top of this file.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread::{JoinHandle, spawn};

    use mio::{Events, Interest, Poll, Token};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    use super::*;

    /// Echoes `bytes` bytes over TLS, on a thread of its own.
    fn echo_server(listener: TcpListener, bytes: usize) -> JoinHandle<()> {
        let folder = tempfile::tempdir().unwrap();
        let certs = wsguard_test_support::certs::Certs::create(folder.path()).unwrap();
        let cert = certs.certificate("server").unwrap();
        let key = PrivateKeyDer::from_pem_file(certs.path("server.key")).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = Arc::new(builder.with_single_cert(vec![cert], key).unwrap());
        spawn(move || {
            let (socket, _) = listener.accept().unwrap();
            let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), socket);
            let mut received = vec![0; bytes];
            stream.read_exact(&mut received).unwrap();
            stream.write_all(&received).unwrap();
            stream.flush().unwrap();
        })
    }

    #[test]
    fn many_records_go_through_tls_both_ways() {
        let sent: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = echo_server(listener, sent.len());

        let mut poll = Poll::new().unwrap();
        let mut socket = TcpStream::connect(address).unwrap();
        poll.registry().register(&mut socket, Token(0), Interest::READABLE | Interest::WRITABLE).unwrap();
        let mut transport = Transport::new(socket, &Security::new(true).unwrap()).unwrap();
        let (mut written, mut received, mut piece) = (0, Vec::new(), [0; 10_000]);
        let mut events = Events::with_capacity(8);
        while received.len() < sent.len() {
            poll.poll(&mut events, None).unwrap();
            if let Err(error) = transport.flush_session() {
                assert!(is_not_yet(error.kind()), "{error}");
            }
            if written < sent.len() {
                written += transport.write(&sent[written..]).unwrap();
            }
            loop {
                match transport.read(&mut piece) {
                    Ok(read) => received.extend_from_slice(&piece[..read]),
                    Err(error) if is_not_yet(error.kind()) => break,
                    Err(error) => panic!("{error}"),
                }
                if received.len() == sent.len() {
                    break;
                }
            }
        }
        assert!(received == sent);
        server.join().unwrap();
    }
}
