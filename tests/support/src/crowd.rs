//! Many connections at once: opened in portions, from several addresses of 127.0.0.0/8, without a thread each.

use std::net::Ipv4Addr;

use crate::client::{Client, Opening, PATIENCE};
use crate::outcome::{Outcome, ensure};
use crate::wire::{Dial, Target};

/// Handshakes that are under way together; well below the server's backlog.
const PORTION: usize = 200;

/// From the address of the n-th member: 200 members share one.
pub fn dial(member: usize) -> Dial {
    Dial::from_address(Ipv4Addr::new(127, 0, 1, (1 + member / 200) as u8))
}

/// Opens `count` WebSocket connections; every one must be accepted.
pub fn open(target: &Target, count: usize, opening: &Opening) -> Outcome<Vec<Client>> {
    let head = opening.bytes();
    let mut clients = Vec::with_capacity(count);
    while clients.len() < count {
        let portion = clients.len();
        for member in portion..count.min(portion + PORTION) {
            let mut client = Client::over(target.connect(dial(member))?);
            client.send(&head)?;
            clients.push(client);
        }
        for client in &mut clients[portion..] {
            let answer = client.answer(PATIENCE)?;
            ensure!(answer.status == 101, "expected 101, came {}", answer.status);
        }
    }
    Ok(clients)
}
