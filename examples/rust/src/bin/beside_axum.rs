//! HTTP by axum and `WebSocket` connections by wsguard, in one process and on one port.
//!
//! Every connection is accepted here. The path of its first request decides: `/chat` goes to wsguard, with what was read of
//! it, anything else to axum. Who has signed in by HTTP may connect: the application itself answers each handshake.
//!
//! ```js
//! const token = await (await fetch("/sign-in/alice", { method: "POST" })).text();
//! new WebSocket(`ws://${location.host}/chat`, ["bearer", token]);
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::future::pending;
use std::io::Cursor;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, Chain, Join};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use wsguard::options::{Auth, EventOptions, Options};
use wsguard::{Builder, Decision, Event, Handle, Server};

/// How long the first request of a connection may take, and how large its head may be.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_HEAD_BYTES: usize = 16 << 10;

/// The tokens that were given out, and whose they are.
#[derive(Clone, Default)]
struct Sessions(Arc<Mutex<HashMap<String, String>>>);

impl Sessions {
    fn begin(&self, user: String) -> Result<String, getrandom::Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)?;
        let token = format!("{:032x}", u128::from_be_bytes(random));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(token.clone(), user);
        Ok(token)
    }

    fn user(&self, token: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }
}

/// Whoever asks is believed here; a real application looks at a password.
async fn sign_in(Path(user): Path<String>, State(sessions): State<Sessions>) -> Result<String, String> {
    sessions.begin(user).map_err(|error| error.to_string())
}

/// The WebSocket side of the application.
async fn chat(mut server: Server, sessions: Sessions) -> Result<(), wsguard::Error> {
    let handle = server.handle();
    while let Some(event) = server.recv().await {
        match event {
            Event::Upgrade(upgrade) => {
                let user = upgrade.request.token.as_deref().and_then(|token| sessions.user(token));
                handle.answer(upgrade.ticket, user.map_or_else(Decision::unauthorized, Decision::accept))?;
            }
            Event::Message(message) => _ = handle.everyone().emit("said", &message.data)?,
            _ => {}
        }
    }
    Ok(())
}

/// A connection of axum's: what was read of it already, then the rest.
type HttpStream = Join<Chain<Cursor<Vec<u8>>, OwnedReadHalf>, OwnedWriteHalf>;

/// The connections that stay with HTTP, as axum accepts them.
struct HttpConnections {
    streams: mpsc::Receiver<(HttpStream, SocketAddr)>,
    address: SocketAddr,
}

impl axum::serve::Listener for HttpConnections {
    type Io = HttpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (HttpStream, SocketAddr) {
        match self.streams.recv().await {
            Some(accepted) => accepted,
            None => pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// Reads the head of the first request, and what came behind it.
async fn head(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut received = Vec::new();
    while !received.windows(4).any(|end| end == b"\r\n\r\n") && received.len() < MAX_HEAD_BYTES {
        if stream.read_buf(&mut received).await? == 0 {
            break;
        }
    }
    Ok(received)
}

/// Gives a connection to the server that it asks for.
async fn route(
    mut stream: TcpStream,
    peer: SocketAddr,
    websockets: Handle,
    http: mpsc::Sender<(HttpStream, SocketAddr)>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let received = tokio::time::timeout(HEAD_TIMEOUT, head(&mut stream)).await??;
    if received.starts_with(b"GET /chat ") || received.starts_with(b"GET /chat?") {
        websockets.adopt(stream.into_std()?, received)?;
    } else {
        let (read, write) = stream.into_split();
        http.send((tokio::io::join(Cursor::new(received).chain(read), write), peer)).await?;
    }
    Ok(())
}

async fn accept(listener: TcpListener, websockets: Handle, http: mpsc::Sender<(HttpStream, SocketAddr)>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (websockets, http) = (websockets.clone(), http.clone());
                // An error here is this connection's: it was too slow, or it has left.
                tokio::spawn(async move { route(stream, peer, websockets, http).await.is_ok() });
            }
            // Out of descriptors: others have to close first.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    wsguard::log_to_stderr();
    let listener = TcpListener::bind(wsguard_examples::listen()).await?;
    let address = listener.local_addr()?;

    let mut options = Options::new([format!("http://{address}")], Auth::Callback);
    options.token_sources = Some(vec!["subprotocol".into()]);
    let schema = json!({ "type": "string", "maxLength": 200 });
    options.events.insert("say".into(), EventOptions { schema: Some(schema), ..EventOptions::default() });
    let server = Builder::new().without_listener().start(options)?;
    wsguard_examples::drain_on_signal(server.handle())?;

    let sessions = Sessions::default();
    let app = Router::new()
        .route("/", get(|| async { "POST /sign-in/NAME, then connect to /chat" }))
        .route("/sign-in/{user}", post(sign_in))
        .with_state(sessions.clone());
    let (http, streams) = mpsc::channel(64);
    tokio::spawn(accept(listener, server.handle(), http));
    tokio::spawn(async move { axum::serve(HttpConnections { streams, address }, app).await });

    println!("listening on {address}");
    chat(server, sessions).await?;
    Ok(())
}
