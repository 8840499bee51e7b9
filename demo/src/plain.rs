//! The same chat without a policy, for comparison: a plain server on tungstenite, like the first example of most WebSocket
//! libraries. It accepts, parses the JSON, and passes each message on to everybody else.
//!
//! It is not made worse than that: tungstenite's own limits (16 MiB a frame, 64 MiB a message) and its checks of RFC 6455
//! are on, and so is the recursion limit of `serde_json`.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_tungstenite::tungstenite::Message;

use crate::guests::Tally;

/// Tallies of peers that have left; the oldest is forgotten first.
const KEPT: usize = 64;

#[derive(Default)]
struct Room {
    peers: HashMap<SocketAddr, (UnboundedSender<Message>, Tally)>,
    left: VecDeque<(SocketAddr, Tally)>,
}

#[derive(Default)]
pub(crate) struct Plain {
    room: Mutex<Room>,
}

impl Plain {
    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            if let Ok((stream, peer)) = listener.accept().await {
                tokio::spawn(Arc::clone(&self).converse(stream, peer));
            }
        }
    }

    /// What is known of a peer, by its address.
    pub(crate) fn tally(&self, peer: SocketAddr) -> Tally {
        let room = self.room();
        let here = room.peers.get(&peer).map(|(_, tally)| *tally);
        here.or_else(|| room.left.iter().rev().find(|(left, _)| *left == peer).map(|(_, tally)| *tally))
            .unwrap_or_default()
    }

    async fn converse(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let Ok(socket) = tokio_tungstenite::accept_async(stream).await else { return };
        let (mut sink, mut source) = socket.split();
        let (tell, mut told) = unbounded_channel();
        self.room().peers.insert(peer, (tell.clone(), Tally::default()));
        self.tell_members();
        let write = async {
            while let Some(message) = told.recv().await {
                if sink.send(message).await.is_err() {
                    return;
                }
            }
        };
        let read = async {
            while let Some(Ok(message)) = source.next().await {
                self.receive(peer, &message, &tell);
            }
        };
        tokio::select! { () = write => {}, () = read => {} }
        self.leave(peer);
        self.tell_members();
    }

    fn leave(&self, peer: SocketAddr) {
        let mut room = self.room();
        let Some((_, tally)) = room.peers.remove(&peer) else { return };
        if room.left.len() == KEPT {
            room.left.pop_front();
        }
        room.left.push_back((peer, tally));
    }

    fn receive(&self, from: SocketAddr, message: &Message, tell: &UnboundedSender<Message>) {
        if !message.is_text() && !message.is_binary() {
            return; // pings are answered by tungstenite
        }
        let parsed = message.to_text().ok().and_then(|text| serde_json::from_str::<Value>(text).ok());
        if let Some(parsed) = parsed.as_ref().filter(|parsed| parsed["event"] == "echo") {
            let echo = json!({ "event": "echo", "data": parsed["data"], "id": parsed["id"] });
            let _ = tell.send(Message::text(echo.to_string()));
            return;
        }
        let mut room = self.room();
        let is_understood = message.is_binary() || parsed.is_some();
        let others = room.peers.iter().filter(|(peer, _)| is_understood && **peer != from);
        let delivered = others.filter(|(_, (tell, _))| tell.send(message.clone()).is_ok()).count();
        let Some((_, tally)) = room.peers.get_mut(&from) else { return };
        tally.reached += u64::from(is_understood);
        tally.unparsed += u64::from(!is_understood);
        tally.delivered += delivered as u64;
    }

    fn tell_members(&self) {
        let room = self.room();
        let members = json!({ "event": "members", "data": room.peers.len() }).to_string();
        for (tell, _) in room.peers.values() {
            let _ = tell.send(Message::text(members.clone()));
        }
    }
}
