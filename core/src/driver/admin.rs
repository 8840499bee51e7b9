//! The admin listener: a thread of its own with a few connections at a time, each for a few seconds. No shard ever works for
//! it, and a client that is slow makes room for the next one.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::accepted::UnregisteredSocket;
use super::bind::{Bound, SocketFile};
use super::caught::{caught, said};
use super::listener::{BACK_OFF, Listener, Own, is_about_one_connection};
use super::log::guard_panics;
use super::state::ServerState;
use crate::error::Error;
use wsguard_proto::admin::{MAX_HEAD_BYTES, answer};
use wsguard_proto::handshake::HeadScanner;
use wsguard_proto::lock::lock;

/// Connections at a time, and how long each may take from its accept to its end.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    connections: usize,
    timeout: Duration,
}

const BOUNDS: Bounds = Bounds { connections: 16, timeout: Duration::from_secs(5) };

/// A running admin listener; it ends with its server, and when this is dropped.
#[derive(Debug)]
pub(super) struct Admin {
    address: String,
    state: Arc<ServerState>,
    thread: Option<JoinHandle<()>>,
    /// Removed when the thread has ended.
    _socket_file: Option<SocketFile>,
}

impl Admin {
    /// Starts to answer on what was bound.
    pub(super) fn start(bound: Bound, state: &Arc<ServerState>) -> Result<Self, Error> {
        Self::start_within(BOUNDS, bound, state)
    }

    fn start_within(bounds: Bounds, bound: Bound, state: &Arc<ServerState>) -> Result<Self, Error> {
        let Bound { listeners, addresses, socket_file } = bound;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(Error::Start)?;
        let watched = {
            let _inside = runtime.enter();
            listeners.into_iter().map(Listener::new).collect::<io::Result<Vec<_>>>().map_err(Error::Start)?
        };
        let shared = Arc::clone(state);
        let run = move || {
            guard_panics(true);
            let _ = caught(|| runtime.block_on(serve_until_the_end(watched, shared, bounds)));
            let _ = caught(move || drop(runtime));
        };
        let thread = thread::Builder::new().name("wsguard-admin".to_owned()).spawn(run).map_err(Error::Start)?;
        let address = addresses.into_iter().next().unwrap_or_default();
        said(|| tracing::info!(target: "wsguard", "/metrics, /healthz and /readyz on {address}"));
        Ok(Self { address, state: Arc::clone(state), thread: Some(thread), _socket_file: socket_file })
    }

    /// Where it listens, with the real port.
    pub(super) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.state.over.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve_until_the_end(listeners: Vec<Listener>, state: Arc<ServerState>, bounds: Bounds) {
    let guests = Arc::new(Guests { bounds, there: Mutex::default() });
    for listener in listeners {
        tokio::spawn(accept_from(listener, Arc::clone(&guests), Arc::clone(&state)));
    }
    state.over.notified().await;
}

/// The connections that are there.
struct Guests {
    bounds: Bounds,
    /// The oldest first.
    there: Mutex<VecDeque<AbortHandle>>,
}

impl Guests {
    /// Makes room for one more: where there is none, whoever has been there longest has had the most time. Whether somebody
    /// has to go.
    fn make_room(&self) -> bool {
        let mut there = lock(&self.there);
        there.retain(|guest| !guest.is_finished());
        let is_full = there.len() >= self.bounds.connections;
        if is_full && let Some(oldest) = there.pop_front() {
            oldest.abort();
        }
        is_full
    }

    fn enter(&self, guest: AbortHandle) {
        lock(&self.there).push_back(guest);
    }
}

async fn accept_from(listener: Listener, guests: Arc<Guests>, state: Arc<ServerState>) {
    let _own = Own(&listener);
    let mut fails = false;
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                fails = false;
                if guests.make_room() {
                    // Its socket is closed before the next one is taken on.
                    tokio::task::yield_now().await;
                }
                let serve = timeout(guests.bounds.timeout, serve(socket, Arc::clone(&state)));
                guests.enter(tokio::spawn(serve).abort_handle());
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                if !core::mem::replace(&mut fails, true) {
                    said(|| {
                        tracing::warn!(target: "wsguard", %error, "admin_listen: cannot accept; trying again every 100 ms");
                    });
                }
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// Answers one request. What still comes is thrown away, so that the answer is not lost to a reset.
async fn serve(socket: UnregisteredSocket, state: Arc<ServerState>) -> io::Result<()> {
    let mut socket = socket.register()?;
    let mut piece = [0; 1024];
    let mut received = Vec::new();
    let mut scanner = HeadScanner::default();
    let answer = loop {
        let len = socket.read(&mut piece).await?;
        if len == 0 {
            return Ok(());
        }
        received.extend_from_slice(&piece[..len.min(MAX_HEAD_BYTES - received.len())]);
        let set = state.set();
        let Some(asked) = &set.top.admin_listen else { return Ok(()) };
        if let Some(answer) = answer(&received, &mut scanner, asked, &*state) {
            break answer;
        }
    };
    drop(received);
    socket.write_all(&answer).await?;
    socket.shutdown().await?;
    while socket.read(&mut piece).await? > 0 {}
    Ok(())
}

#[cfg(test)]
#[path = "admin_tests.rs"]
mod tests;
