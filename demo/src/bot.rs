//! A bot that chats, in both rooms alike, as any client would: it signs in, and its messages pass the policy.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{interval, sleep};

use crate::wire::{Claim, Seen, Socket, connect};

/// Between two of its messages.
const PACE: Duration = Duration::from_millis(1200);
/// Until it connects again.
const PAUSE: Duration = Duration::from_millis(500);

const LINES: &[&str] = &[
    "Tea or coffee?",
    "Tea. Always tea.",
    "Has anybody seen the build today?",
    "Green since breakfast.",
    "Then I take the lift.",
    "It is slow. I count the floors.",
    "Rain again.",
    "The plants like it.",
];

/// Chats until the program ends. The guarded server knows who speaks; the plain one believes the name that is in `claimed`.
pub(crate) async fn chat(server: SocketAddr, claim: Claim, claimed: &str) {
    let mut lines = LINES.iter().cycle();
    loop {
        if let Some(socket) = connect(server, &claim).await.socket {
            talk(socket, &mut lines, claimed).await;
        }
        sleep(PAUSE).await;
    }
}

async fn talk(socket: Socket, lines: &mut impl Iterator<Item = &'static &'static str>, claimed: &str) {
    let Socket { mut sender, mut receiver, .. } = socket;
    let speak = async {
        let mut beat = interval(PACE);
        for line in lines {
            beat.tick().await;
            let text = format!(r#"{{"event":"say","data":{{{claimed}"text":"{line}"}}}}"#);
            if sender.text(&text).await.is_err() {
                return;
            }
        }
    };
    let listen = async { while !matches!(receiver.next().await, Seen::Close(..) | Seen::Dropped) {} };
    tokio::select! { () = speak => {}, () = listen => {} }
}
