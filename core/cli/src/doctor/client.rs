//! A WebSocket client that says exactly what it is told to, and reads what comes: bounded in bytes and in time.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::audit::head::{ACCEPT, KEY};
use crate::outcome::Failure;
use crate::reach::Target;
use crate::terminal::harmless;
use crate::wire::{End, Got, Wire};

/// The longest head of an answer, and the longest frame that is read.
const MAX_HEAD: usize = 32_768;
const MAX_FRAME: usize = 1 << 20;

/// How long anything may take that is no silence.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;

/// Whom TLS believes, and what it shows.
#[derive(clap::Args, Debug, Default)]
pub(super) struct TlsOptions {
    /// The authorities to believe, as a PEM file, in place of the system's.
    #[arg(long, value_name = "FILE", requires = "url")]
    ca: Option<PathBuf>,

    /// A certificate to show to whoever asks for one, as a PEM file: where the policy has `tls.client_ca`.
    #[arg(long, value_name = "FILE", requires_all = ["url", "client_key"])]
    client_certificate: Option<PathBuf>,

    /// The key of that certificate, as a PEM file.
    #[arg(long, value_name = "FILE", requires_all = ["url", "client_certificate"])]
    client_key: Option<PathBuf>,
}

/// A connection.
pub(super) struct Client {
    wire: Wire,
    /// What was read and not taken yet.
    buffer: Vec<u8>,
    /// The fragments of a message that has begun, and its opcode: proxies may fragment (RFC 6455, section 5.4).
    begun: Option<(u8, Vec<u8>)>,
    pub(super) local: SocketAddr,
}

/// The answer to a handshake.
pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        let mut pairs = lines.filter_map(|line| line.split_once(':'));
        pairs.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// Whether it answers this client's key: browsers fail a connection otherwise.
    pub(super) fn accepts(&self) -> bool {
        self.header("Sec-WebSocket-Accept") == Some(ACCEPT)
    }
}

impl Client {
    /// Connects, by TLS where the URL says so.
    ///
    /// # Errors
    /// Nobody listens, or the certificate is not one that the system, or the file of authorities, stands for.
    pub(super) fn connect(
        target: &Target,
        addresses: &[SocketAddr],
        options: &TlsOptions,
        within: Duration,
    ) -> Result<Self, Failure> {
        let tls = if target.is_tls {
            let name = ServerName::try_from(target.host.clone());
            let name =
                name.map_err(|_| Failure::new(format!("{target}: the host is no name that a certificate could have")))?;
            Some((tls(options)?, name))
        } else {
            None
        };
        let mut last = "there is no address".to_owned();
        for address in addresses {
            match Wire::dial(*address, tls.as_ref().map(|(config, name)| (config, name)), within) {
                Ok(wire) => return Ok(Self { local: wire.local()?, wire, buffer: Vec::new(), begun: None }),
                Err(why) => last = why,
            }
        }
        Err(Failure::new(format!("{target}: {last}")))
    }

    /// Sends an opening handshake with these headers besides the necessary ones.
    pub(super) fn upgrade(
        &mut self,
        target: &Target,
        path: &str,
        headers: &[(&str, &str)],
        within: Duration,
    ) -> io::Result<Answer> {
        let mut head = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: {KEY}\r\n",
            target.authority(),
        );
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        self.wire.write(head.as_bytes(), within).map_err(ended)?;
        let (deadline, mut interim) = (Instant::now() + within, 0);
        loop {
            let head = self.head(deadline, MAX_HEAD - interim)?;
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
            let status =
                status.ok_or_else(|| io::Error::other(format!("no HTTP came back, but {:?}", harmless(&head, 40))))?;
            // A proxy may say something before the answer, e.g. 103 (RFC 9110, section 15.2).
            if matches!(status, 101 | 200..) || status < 100 {
                return Ok(Answer { status, head });
            }
            interim = (interim + head.len()).min(MAX_HEAD);
        }
    }

    /// Takes a head of so many bytes at most.
    fn head(&mut self, deadline: Instant, most: usize) -> io::Result<String> {
        let end = loop {
            match self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                Some(at) if at <= most => break at + 4,
                None if self.buffer.len() <= most => self.fill(deadline)?,
                _ => return Err(io::Error::other("the answer's head does not end")),
            }
        };
        Ok(String::from_utf8_lossy(&self.buffer.drain(..end).collect::<Vec<_>>()).into_owned())
    }

    /// Sends a frame, masked.
    pub(super) fn send(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        let mut mask = [0; 4];
        rand::fill(&mut mask).map_err(|_| io::Error::other("this machine gives no random bytes"))?;
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            len @ 0..126 => frame.push(0x80 | len as u8),
            len @ 126..=0xffff => {
                frame.push(0x80 | 0x7e);
                frame.extend((len as u16).to_be_bytes());
            }
            len => {
                frame.push(0x80 | 0x7f);
                frame.extend((len as u64).to_be_bytes());
            }
        }
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.wire.write(&frame, PATIENCE).map_err(ended)
    }

    /// The next message or frame of control that is no ping; pings are answered on the way, and counted.
    pub(super) fn frame(&mut self, pings: &mut u32, within: Duration) -> io::Result<(u8, Vec<u8>)> {
        let deadline = Instant::now() + within;
        loop {
            let Some(frame) = take(&mut self.buffer)? else {
                self.fill(deadline)?;
                continue;
            };
            if frame.opcode == PING {
                *pings += 1;
                self.send(PONG, &frame.payload)?;
            } else if let Some(whole) = join(&mut self.begun, frame)? {
                return Ok(whole);
            }
        }
    }

    fn fill(&mut self, deadline: Instant) -> io::Result<()> {
        let mut bytes = [0; 16_384];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match self.wire.read(&mut bytes, left) {
                Got::Bytes(read) => {
                    self.buffer.extend(&bytes[..read]);
                    return Ok(());
                }
                Got::Nothing => {}
                Got::End(end) => return Err(ended(end)),
            }
        }
    }
}

fn ended(end: End) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, end.shown())
}

#[derive(Debug, PartialEq, Eq)]
struct Frame {
    is_last: bool,
    opcode: u8,
    payload: Vec<u8>,
}

/// The first frame in the buffer, once it is whole. Nobody here compresses.
fn take(buffer: &mut Vec<u8>) -> io::Result<Option<Frame>> {
    let [first, second, ..] = buffer[..] else { return Ok(None) };
    let (len, head) = match (second & 0x7f, &buffer[2..]) {
        (126, [a, b, ..]) => (usize::from(u16::from_be_bytes([*a, *b])), 4),
        (127, rest) if rest.len() >= 8 => {
            let len = rest[..8].iter().fold(0_u64, |len, byte| len << 8 | u64::from(*byte));
            (usize::try_from(len).unwrap_or(usize::MAX), 10)
        }
        (126 | 127, _) => return Ok(None),
        (len, _) => (usize::from(len), 2),
    };
    if len > MAX_FRAME || second & 0x80 != 0 || first & 0x70 != 0 {
        return Err(strange());
    }
    if buffer.len() < head + len {
        return Ok(None);
    }
    let payload = buffer[head..head + len].to_vec();
    buffer.drain(..head + len);
    Ok(Some(Frame { is_last: first & 0x80 != 0, opcode: first & 0x0f, payload }))
}

/// A whole message, or a frame of control between its fragments.
fn join(begun: &mut Option<(u8, Vec<u8>)>, frame: Frame) -> io::Result<Option<(u8, Vec<u8>)>> {
    if frame.opcode >= CLOSE {
        return if frame.is_last { Ok(Some((frame.opcode, frame.payload))) } else { Err(strange()) };
    }
    let (opcode, mut message) = match (begun.take(), frame.opcode) {
        (Some(begun), 0) => begun,
        (None, opcode @ 1..) => (opcode, Vec::new()),
        _ => return Err(strange()),
    };
    if message.len() + frame.payload.len() > MAX_FRAME {
        return Err(strange());
    }
    message.extend(frame.payload);
    if frame.is_last {
        return Ok(Some((opcode, message)));
    }
    *begun = Some((opcode, message));
    Ok(None)
}

fn strange() -> io::Error {
    io::Error::other("a frame came that the server did not send")
}

fn tls(options: &TlsOptions) -> Result<Arc<ClientConfig>, Failure> {
    let mut roots = RootCertStore::empty();
    match &options.ca {
        Some(path) => {
            for certificate in certificates("--ca", path)? {
                roots
                    .add(certificate)
                    .map_err(|_| Failure::new("--ca: holds a certificate that cannot be used".to_owned()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| Failure::new(error.to_string()))?.with_root_certificates(roots);
    let (Some(certificate), Some(key)) = (&options.client_certificate, &options.client_key) else {
        return Ok(Arc::new(config.with_no_client_auth()));
    };
    let bytes = crate::token::read("--client-key", key)?;
    let key = PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| Failure::new("--client-key: is no key as PEM text".to_owned()))?;
    let config = config.with_client_auth_cert(certificates("--client-certificate", certificate)?, key);
    Ok(Arc::new(config.map_err(|error| Failure::new(format!("--client-certificate and --client-key: {error}")))?))
}

/// All certificates of a file, and one at least.
fn certificates(option: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let bytes = crate::token::read(option, path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|_| Failure::new(format!("{option}: is no PEM text")))?;
    if all.is_empty() {
        return Err(Failure::new(format!("{option}: holds no certificate")));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, payload: &[u8]) -> Frame {
        Frame { is_last: true, opcode, payload: payload.to_vec() }
    }

    /// The answer to a handshake with a server that says this.
    fn answered(said: String) -> io::Result<Answer> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let target = Target::parse(&format!("ws://{address}/")).unwrap();
        let server = std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(said.as_bytes());
            // What the client has not read is lost where a socket is dropped with something unread.
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let mut client = Client::connect(&target, &[address], &TlsOptions::default(), PATIENCE).unwrap();
        let answer = client.upgrade(&target, "/", &[], PATIENCE);
        drop(client);
        server.join().unwrap();
        answer
    }

    #[test]
    fn what_is_said_before_the_answer_is_none() {
        let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
        let upgrade = "HTTP/1.1 101 Switching Protocols\r\nServer: it\r\n\r\n\x0a";
        let answer = answered(format!("{early}{upgrade}")).unwrap();
        assert_eq!((answer.status, answer.header("Server"), answer.header("Link")), (101, Some("it"), None));
        assert_eq!(answered("HTTP/1.1 204 No Content\r\n\r\n".to_owned()).unwrap().status, 204);
        // It is bounded, however short each of them is.
        let endless = answered(early.repeat(MAX_HEAD / early.len() + 1));
        assert_eq!(endless.err().unwrap().to_string(), "the answer's head does not end");
    }

    #[test]
    fn frames_are_taken_when_they_are_whole() {
        let mut buffer = vec![0x81, 2, b'h'];
        assert_eq!(take(&mut buffer).unwrap(), None);
        buffer.extend([b'i', 0x82, 126, 0]);
        assert_eq!(take(&mut buffer).unwrap(), Some(frame(TEXT, b"hi")));
        assert_eq!(take(&mut buffer).unwrap(), None);
        buffer.extend([1, 7]);
        assert_eq!(take(&mut buffer).unwrap(), Some(frame(BINARY, &[7])));
        for wrong in [vec![0x81, 0x80, 0, 0, 0, 0], vec![0xc1, 0], vec![0x82, 127, 255, 0, 0, 0, 0, 0, 0, 0]] {
            assert!(take(&mut wrong.clone()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn fragments_of_a_proxy_are_one_message() {
        let open = |opcode, payload: &[u8]| Frame { is_last: false, ..frame(opcode, payload) };
        let mut begun = None;
        assert_eq!(join(&mut begun, open(TEXT, b"h")).unwrap(), None);
        assert_eq!(join(&mut begun, open(0, b"")).unwrap(), None);
        assert_eq!(join(&mut begun, frame(PONG, b"x")).unwrap(), Some((PONG, b"x".to_vec())));
        assert_eq!(join(&mut begun, frame(0, b"i")).unwrap(), Some((TEXT, b"hi".to_vec())));
        assert_eq!(begun, None);
        for wrong in [frame(0, b"x"), open(CLOSE, b"")] {
            assert!(join(&mut None, wrong).is_err());
        }
        assert!(join(&mut Some((TEXT, Vec::new())), frame(TEXT, b"x")).is_err());
        // However many there are, what is kept is bounded.
        assert!(join(&mut Some((TEXT, vec![0; MAX_FRAME])), frame(0, b"x")).is_err());
    }
}
