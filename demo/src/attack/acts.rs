//! Which attacks there are, and those of them that take more than one connection.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Act, Attack, Outcome, Payload};
use crate::wire::{Claim, connect, read_status};

/// Between two headers of a slow handshake.
const DRIP: Duration = Duration::from_millis(200);

pub(super) const IMPERSONATION: &str =
    r#"{"event":"say","data":{"name":"admin","text":"I am the admin. Send me your password."}}"#;
pub(super) const ANNOUNCEMENT: &str =
    r#"{"event":"announce","data":{"text":"This chat has moved. Sign in again at chat.example."}}"#;
pub(super) const SECRET: &str = r#"{"event":"say","data":{"text":"my token went by in plain text"}}"#;

fn deep() -> String {
    let deep = "[".repeat(100) + &"]".repeat(100);
    format!(r#"{{"event":"say","data":{{"text":"deep","more":{deep}}}}}"#)
}

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        id: "foreign-origin",
        title: "Foreign page",
        protection: "origin",
        why: "Another website, open in this browser, connects. The browser adds your cookie by itself; the Origin header, \
              which the page cannot forge, gives it away.",
        wire: "Origin: another one · Cookie: yours",
        act: Act::ForeignPage,
    },
    Attack {
        id: "no-credential",
        title: "No credential",
        protection: "authentication",
        why: "Someone who never signed in connects and speaks in another's name.",
        wire: IMPERSONATION,
        act: Act::NoCredential,
    },
    Attack {
        id: "moderators-path",
        title: "Moderators’ path",
        protection: "authentication",
        why: "A guest with a valid token connects where the moderators do. That path is a route of the policy, with \
              tokens of its own.",
        wire: "GET /moderator HTTP/1.1 ⏎ Authorization: Bearer … (a guest’s)",
        act: Act::GuestAsModerator,
    },
    Attack {
        id: "plaintext",
        title: "TLS stripped",
        protection: "TLS",
        why: "A client was tricked into plain text, and sends its token readable for everyone on the way. (A second server \
              has the same policy and a certificate.)",
        wire: "GET /chat HTTP/1.1 ⏎ Authorization: Bearer …",
        act: Act::Plaintext,
    },
    Attack {
        id: "slow-handshake",
        title: "Slow handshakes",
        protection: "time",
        why: "Twenty handshakes that send one header after another and never end (Slowloris): each holds a socket.",
        wire: "GET /chat HTTP/1.1 ⏎ X-Wait: 1 ⏎ … × 20",
        act: Act::SlowHandshakes(20),
    },
    Attack {
        id: "many-connections",
        title: "Many connections",
        protection: "rate",
        why: "One user, one valid token, twelve connections at once.",
        wire: "GET /chat … the same token × 12",
        act: Act::ManyConnections(12),
    },
    Attack {
        id: "oversize",
        title: "Oversize message",
        protection: "size",
        why: "A frame whose header declares 8 MiB, and then as much of it as the server will take.",
        wire: r#"81 ff 0000000000800000 {"event":"say",… xxxxx"#,
        act: Act::Send(Payload::Oversize(8 << 20)),
    },
    Attack {
        id: "flood",
        title: "Message flood",
        protection: "rate",
        why: "A signed-in user sends 1000 valid messages as fast as the socket takes them.",
        wire: r#"{"event":"say","data":{"text":"flood 1"}} × 1000"#,
        act: Act::Send(Payload::Flood(1000)),
    },
    Attack {
        id: "ping-flood",
        title: "Ping flood",
        protection: "rate",
        why: "1000 pings: each costs the sender eleven bytes and the server an answer.",
        wire: "89 85 … × 1000",
        act: Act::Send(Payload::Pings(1000)),
    },
    Attack {
        id: "unknown-event",
        title: "Unknown event",
        protection: "contract",
        why: "An event that nobody ever meant to offer.",
        wire: r#"{"event":"make_admin","data":"me"}"#,
        act: Act::Send(Payload::Text(r#"{"event":"make_admin","data":"me"}"#)),
    },
    Attack {
        id: "other-role",
        title: "Missing role",
        protection: "contract",
        why: "A guest announces, which is for moderators: the event exists, its data is right, the role is missing.",
        wire: ANNOUNCEMENT,
        act: Act::Send(Payload::Text(ANNOUNCEMENT)),
    },
    Attack {
        id: "wrong-schema",
        title: "Wrong type",
        protection: "contract",
        why: "A number where the application expects text.",
        wire: r#"{"event":"say","data":{"text":42}}"#,
        act: Act::Send(Payload::Text(r#"{"event":"say","data":{"text":42}}"#)),
    },
    Attack {
        id: "proto-key",
        title: "__proto__ key",
        protection: "contract",
        why: "A key that changes every object of a JavaScript program that copies it without care.",
        wire: r#"{"event":"say","data":{"__proto__":{"admin":true},"text":"hi"}}"#,
        act: Act::Send(Payload::Text(r#"{"event":"say","data":{"__proto__":{"admin":true},"text":"hi"}}"#)),
    },
    Attack {
        id: "deep-json",
        title: "Deep JSON",
        protection: "contract",
        why: "A hundred arrays inside each other: whatever walks through them recursively runs out of stack at some depth.",
        wire: r#"{"event":"say","data":{…[[[[[[[[…]]]]]]]]}}"#,
        act: Act::Send(Payload::Made(deep)),
    },
    Attack {
        id: "binary",
        title: "Binary frame",
        protection: "contract",
        why: "Bytes where the server speaks JSON in text.",
        wire: "82 84 … de ad be ef",
        act: Act::Send(Payload::Binary(&[0xde, 0xad, 0xbe, 0xef])),
    },
    Attack {
        id: "unmasked",
        title: "Unmasked frame",
        protection: "RFC 6455",
        why: "A frame without a mask, which RFC 6455 forbids clients. A sound library refuses this without any policy.",
        wire: r#"81 22 {"event":"say","data":{"text":""}}"#,
        act: Act::Send(Payload::Unmasked(r#"{"event":"say","data":{"text":""}}"#)),
    },
];

/// Opens `count` connections that never come to the end of their request heads, and gives up after `hold`.
pub(super) async fn slow_handshakes(server: SocketAddr, claim: &Claim, count: u32, hold: Duration) -> Outcome {
    let end = Instant::now() + hold;
    let ends = join_all((0..count).map(|_| slow_handshake(server, claim, end))).await;
    let mut outcome = Outcome { connections: count, ..Outcome::default() };
    for (sent, ended) in ends {
        outcome.sent += sent;
        match ended {
            None => outcome.held += 1,
            Some(Some(status)) => outcome.status = Some(status),
            Some(None) => outcome.dropped += 1,
        }
    }
    outcome
}

/// Bytes that were sent, and the status that ended it; `None` at the end: it was still open.
async fn slow_handshake(server: SocketAddr, claim: &Claim, end: Instant) -> (u64, Option<Option<u16>>) {
    let Ok(mut stream) = TcpStream::connect(server).await else { return (0, Some(None)) };
    let (mut read, mut write) = stream.split();
    let head = claim.head(server);
    let begin = &head[..head.len() - "\r\n".len()];
    let mut sent = 0;
    let drip = async {
        let mut piece = begin;
        while write.write_all(piece.as_bytes()).await.is_ok() {
            sent += piece.len() as u64;
            piece = "X-Wait: 1\r\n";
            sleep(DRIP).await;
        }
        core::future::pending::<()>().await;
    };
    let answer = async {
        tokio::select! { status = read_status(&mut read) => status, () = drip => None }
    };
    let ended = timeout_at(end, answer).await.ok();
    (sent, ended)
}

/// Opens `count` connections of one user and keeps them all.
pub(super) async fn many_connections(server: SocketAddr, claim: &Claim, count: u32) -> Outcome {
    let mut outcome = Outcome { connections: count, ..Outcome::default() };
    let mut kept = Vec::new();
    for _ in 0..count {
        let handshake = connect(server, claim).await;
        match handshake.socket {
            Some(socket) => kept.push(socket),
            None if handshake.status.is_none() => outcome.dropped += 1,
            None => outcome.status = handshake.status,
        }
    }
    outcome.upgraded = kept.len() as u32;
    outcome.held = kept.len() as u32;
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attack_has_a_name_of_its_own() {
        let mut ids: Vec<_> = ATTACKS.iter().map(|attack| attack.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), ATTACKS.len());
    }

    #[test]
    fn the_deep_message_is_within_every_limit_but_the_depth() {
        assert!(deep().len() < 4096);
        assert!(serde_json::from_str::<serde_json::Value>(&deep()).is_ok());
    }
}
