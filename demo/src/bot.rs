//! Bots that chat, in both rooms alike, as any client would: they sign in, and their messages pass the policy.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{interval, sleep};

use crate::wire::{Claim, Handshake, Seen, Socket, connect};

/// Until a bot connects again.
const PAUSE: Duration = Duration::from_millis(500);

/// What a bot says, and how often.
pub(crate) struct Part {
    event: &'static str,
    lines: &'static [&'static str],
    pace: Duration,
}

/// Talks with itself.
pub(crate) const CHATTER: Part = Part {
    event: "say",
    lines: &[
        "Tea or coffee?",
        "Tea. Always tea.",
        "Has anybody seen the build today?",
        "Green since breakfast.",
        "Then I take the lift.",
        "It is slow. I count the floors.",
        "Rain again.",
        "The plants like it.",
    ],
    pace: Duration::from_millis(1200),
};

/// Announces, which only moderators may.
pub(crate) const MODERATOR: Part = Part {
    event: "announce",
    lines: &["Welcome, everybody. Be kind.", "Only moderators announce. I am one.", "Tea at four."],
    pace: Duration::from_secs(12),
};

/// Chats until the program ends. The guarded server knows who speaks; the plain one believes the name that is in `claimed`.
/// Who is refused by the policy stays away until there is another one.
pub(crate) async fn chat(
    server: SocketAddr,
    claim: Claim,
    part: &Part,
    claimed: &str,
    mut policy: watch::Receiver<u64>,
) {
    let mut lines = part.lines.iter().cycle();
    loop {
        policy.mark_unchanged();
        match connect(server, &claim).await {
            Handshake { socket: Some(socket), .. } => talk(socket, part, &mut lines, claimed).await,
            Handshake { status: Some(401 | 403 | 404), .. } => {
                // An error here: the program ends.
                let _ = policy.changed().await;
            }
            Handshake { .. } => {}
        }
        sleep(PAUSE).await;
    }
}

async fn talk(socket: Socket, part: &Part, lines: &mut impl Iterator<Item = &'static &'static str>, claimed: &str) {
    let Socket { mut sender, mut receiver, .. } = socket;
    let speak = async {
        let mut beat = interval(part.pace);
        for line in lines {
            beat.tick().await;
            let text = format!(r#"{{"event":"{}","data":{{{claimed}"text":"{line}"}}}}"#, part.event);
            if sender.text(&text).await.is_err() {
                return;
            }
        }
    };
    let listen = async { while !matches!(receiver.next().await, Seen::Close(..) | Seen::Dropped) {} };
    tokio::select! { () = speak => {}, () = listen => {} }
}
