#![expect(clippy::unwrap_used, reason = "a test")]
//! How connections end on a running server: alike over plain TCP and over TLS, and TLS in order.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use wsguard::binding::{Builder, Event, Options, Server};
use wsguard_test_support::dice::Dice;

const PATIENCE: Duration = Duration::from_secs(20);
const HEAD: &str = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: https://a.example\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// A certificate, and a server that has it.
fn start_tls(cert: &str, key: &str) -> Server {
    start(serde_json::json!({ "tls": {"cert": cert, "key": key} }))
}

fn start(mut options: serde_json::Value) -> Server {
    let more = serde_json::json!({
        "listen": "127.0.0.1:0", "origins": ["https://a.example"], "auth": "none", "protocol": "raw",
        "handshakes_per_ip": null, "rate_limit": null, "control_rate_limit": null, "max_message_bytes": 1000,
        "max_fragments": 8
    });
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Builder::new().start(Options::from_json(&options.to_string()).unwrap()).unwrap()
}

enum Client {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Client {
    /// A client that is open, of a server that has this certificate, or none.
    fn open(address: &str, cert: Option<&str>) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        let mut client = match cert {
            None => Client::Plain(socket),
            Some(cert) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()).unwrap();
                let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
                let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
                let config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
                let tls = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
                Client::Tls(Box::new(StreamOwned::new(tls, socket)))
            }
        };
        client.send(HEAD.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match &mut client {
                Client::Plain(socket) => socket.read_exact(&mut byte).unwrap(),
                Client::Tls(tls) => tls.read_exact(&mut byte).unwrap(),
            }
            head.push(byte[0]);
        }
        client
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Client::Plain(socket) => socket.write_all(bytes),
            Client::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        }
    }

    /// Ends its side: with TLS's own goodbye, or without.
    fn end_its_side(&mut self, in_order: bool) {
        let socket = match self {
            Client::Plain(socket) => socket,
            Client::Tls(tls) => {
                if in_order {
                    tls.conn.send_close_notify();
                    let _ = tls.flush();
                }
                tls.get_mut()
            }
        };
        let _ = socket.shutdown(Shutdown::Write);
    }

    /// Everything up to the server's end, which over TLS must be one in order.
    fn hear_out(&mut self) -> Vec<u8> {
        let mut heard = Vec::new();
        match self {
            Client::Plain(socket) => {
                socket.read_to_end(&mut heard).unwrap();
            }
            Client::Tls(tls) => loop {
                // Not by the stream's own way, which would first send what it cannot send any more.
                let StreamOwned { conn, sock } = &mut **tls;
                match conn.reader().read_to_end(&mut heard) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        conn.read_tls(sock).unwrap();
                        conn.process_new_packets().unwrap();
                    }
                    end => {
                        end.unwrap();
                        break;
                    }
                }
            },
        }
        heard
    }
}

/// RFC 8446 section 6.1: without `close_notify` a client has to take the end for an attacker's.
#[test]
fn a_server_that_stops_ends_tls_in_order() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let cert = made.cert.pem();
    let server = start_tls(&cert, &made.signing_key.serialize_pem());
    let mut client = Client::open(server.address(), Some(&cert));
    server.handle().stop();
    let heard = client.hear_out();
    assert_eq!(heard[..4], [0x88, heard.len() as u8 - 2, 0x03, 0xf4], "1012, and then the end");
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u16;
    let mut out = if len < 126 { vec![first, 0x80 | len as u8] } else { vec![first, 0xfe] };
    if len >= 126 {
        out.extend(len.to_be_bytes());
    }
    out.extend([0; 4]);
    out.extend(payload);
    out
}

/// What a peer says, in pieces, and whether its end is one in order.
fn conversation(dice: &mut Dice) -> (Vec<Vec<u8>>, bool) {
    let mut said = Vec::new();
    let mut in_message = 0;
    for _ in 0..dice.roll(8) {
        let data = vec![b'd'; dice.roll(400) as usize];
        said.extend(match dice.roll(9) {
            0..=3 => frame(0x81 - std::mem::take(&mut in_message), &data),
            4 | 5 => frame(0x01 - std::mem::replace(&mut in_message, 1), &data),
            6 | 7 => frame(0x89, b"ping"),
            _ => frame(0xc1, &data),
        });
    }
    // Nothing follows that ends a connection: the socket of who still sends would be reset.
    said.extend(match dice.roll(6) {
        0 | 1 => frame(0x88, b"\x03\xe8bye"),
        2 => frame(0x88, b""),
        3 => frame(0x88, b"\x03"),
        4 => vec![0x82, 0xfe, 0x7f],
        _ => Vec::new(),
    });
    let mut pieces = Vec::new();
    while !said.is_empty() {
        let rest = said.split_off(said.len().min(1 + dice.roll(300) as usize));
        pieces.push(std::mem::replace(&mut said, rest));
    }
    (pieces, dice.roll(2) == 0)
}

/// Servers whose application answers nothing, and tells how connections ended.
fn run(server: Server) -> (mpsc::Receiver<(u16, bool)>, std::thread::JoinHandle<()>) {
    let (tell, told) = mpsc::channel();
    let run = std::thread::spawn(move || {
        server.run(|event, _| {
            if let Event::Close(close) = event {
                let _ = tell.send((close.code, close.clean));
            }
        });
    });
    (told, run)
}

#[test]
fn conversations_end_alike_over_plain_tcp_and_tls() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let cert = made.cert.pem();
    let servers = [start(serde_json::json!({})), start_tls(&cert, &made.signing_key.serialize_pem())];
    let certs = [None, Some(&*cert)];
    let addresses = servers.each_ref().map(|server| server.address().to_owned());
    let handles = servers.each_ref().map(Server::handle);
    let runs = servers.map(run);
    let mut dice = Dice::new(11);
    for _ in 0..60 {
        let (pieces, in_order) = conversation(&mut dice);
        let ended = [0, 1].map(|index| {
            let mut client = Client::open(&addresses[index], certs[index]);
            for piece in &pieces {
                // The server may have ended the connection already.
                let _ = client.send(piece);
            }
            client.end_its_side(in_order);
            (client.hear_out(), runs[index].0.recv_timeout(PATIENCE).unwrap())
        });
        assert_eq!(ended[0], ended[1], "{pieces:x?} and an end in order: {in_order}");
    }
    handles.iter().for_each(wsguard::binding::ServerHandle::stop);
    for (_, run) in runs {
        run.join().unwrap();
    }
}
