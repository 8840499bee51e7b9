//! An issuer on loopback, for tests: over TLS or not, it answers what it is told to, when it is told to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection};
use wsguard_proto::lock::lock;

/// An authority with which issuers can be started.
pub(super) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(super) fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

#[derive(Default)]
struct Script {
    answer: Vec<u8>,
    /// Requests are read, and answered when this is over.
    is_held: bool,
    /// What was asked, as request lines.
    asked: Vec<String>,
    is_over: bool,
}

pub(super) struct Issuer {
    pub(super) address: SocketAddr,
    is_https: bool,
    script: Arc<(Mutex<Script>, Condvar)>,
    accepts: Option<JoinHandle<()>>,
}

impl Issuer {
    /// One with a certificate of `authority` for 127.0.0.1.
    pub(super) fn https(authority: &Authority) -> Self {
        Self::with_certificate(authority, |_| {}, "127.0.0.1")
    }

    pub(super) fn with_certificate(authority: &Authority, change: impl Fn(&mut CertificateParams), name: &str) -> Self {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, authority).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
        Self::start(Some(Arc::new(config)))
    }

    pub(super) fn http() -> Self {
        Self::start(None)
    }

    fn start(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, is_https) = (listener.local_addr().unwrap(), tls.is_some());
        let script = Arc::new((Mutex::new(Script::default()), Condvar::new()));
        let own = Arc::clone(&script);
        let accepts = std::thread::spawn(move || {
            for socket in listener.incoming() {
                if lock(&own.0).is_over {
                    return;
                }
                let (own, tls) = (Arc::clone(&own), tls.clone());
                std::thread::spawn(move || serve(socket.unwrap(), tls, &own));
            }
        });
        Self { address, is_https, script, accepts: Some(accepts) }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", if self.is_https { "https" } else { "http" }, self.address)
    }

    /// What it answers from now on, byte for byte.
    pub(super) fn answers(&self, bytes: impl Into<Vec<u8>>) {
        lock(&self.script.0).answer = bytes.into();
    }

    /// The same, as a document.
    pub(super) fn publishes(&self, document: &str) {
        self.answers(response("200 OK", "Content-Type: application/json\r\n", document));
    }

    /// Whether it keeps whoever asks waiting.
    pub(super) fn holds(&self, is_held: bool) {
        lock(&self.script.0).is_held = is_held;
        self.script.1.notify_all();
    }

    /// The requests so far.
    pub(super) fn asked(&self) -> Vec<String> {
        lock(&self.script.0).asked.clone()
    }

    /// Waits for so many.
    pub(super) fn wait_for(&self, requests: usize) {
        let mut script = lock(&self.script.0);
        while script.asked.len() < requests {
            script = self.script.1.wait(script).unwrap();
        }
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        lock(&self.script.0).is_over = true;
        self.script.1.notify_all();
        let _ = TcpStream::connect(self.address);
        let _ = self.accepts.take().unwrap().join();
    }
}

pub(super) fn response(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

fn serve(mut socket: TcpStream, tls: Option<Arc<ServerConfig>>, script: &(Mutex<Script>, Condvar)) {
    let Some(tls) = tls else { return answer(&mut socket, script) };
    let mut session = ServerConnection::new(tls).unwrap();
    let mut stream = rustls::Stream::new(&mut session, &mut socket);
    answer(&mut stream, script);
    stream.conn.send_close_notify();
    let _ = stream.flush();
}

fn answer(stream: &mut (impl Read + Write), script: &(Mutex<Script>, Condvar)) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let mut state = lock(&script.0);
    state.asked.push(head.lines().next().unwrap().to_owned());
    script.1.notify_all();
    while state.is_held && !state.is_over {
        state = script.1.wait(state).unwrap();
    }
    let bytes = state.answer.clone();
    drop(state);
    let _ = stream.write_all(&bytes).and_then(|()| stream.flush());
}
