//! A chat: join a room, say something, and the others in it hear it.
//!
//! Nothing here looks at a size, a rate, an origin or the form of a message: what arrives has passed the policy.
//!
//! ```js
//! const ws = new WebSocket("ws://127.0.0.1:8080/", ["bearer", "secret-of-alice"]);     // on http://localhost:3000
//! ws.onmessage = (message) => console.log(message.data);
//! ws.onopen = () => ws.send(JSON.stringify({ event: "join", data: { room: "kitchen" }, id: 1 }));
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wsguard::{ConnectionId, Event, Handle, HandlerResult, JsonMessage, Options, Server};

const POLICY: &str = r#"{
    "origins": ["http://localhost:3000"],
    "auth": {"tokens": [
        {"token": "secret-of-alice", "user": "alice"},
        {"token": "secret-of-bob", "user": "bob"}
    ]},
    "token_sources": ["subprotocol"],
    "events": {
        "join": {"schema": {
            "type": "object", "required": ["room"], "additionalProperties": false,
            "properties": {"room": {"type": "string", "pattern": "^[a-z]{1,32}$"}}
        }},
        "say": {"schema": {
            "type": "object", "required": ["text"], "additionalProperties": false,
            "properties": {"text": {"type": "string", "maxLength": 500}}
        }}
    },
    "rate_limit": {"per_second": 5, "burst": 10}
}"#;

#[derive(Deserialize, Serialize)]
struct Join {
    room: String,
}

#[derive(Deserialize)]
struct Say {
    text: String,
}

#[derive(Serialize)]
struct Said<'s> {
    user: &'s str,
    text: &'s str,
}

/// Who is connected, and the room they are in.
struct Member {
    user: Arc<str>,
    room: Option<String>,
}

#[derive(Default)]
struct Chat {
    members: HashMap<ConnectionId, Member>,
}

impl Chat {
    fn handle(&mut self, event: &Event<'_>, server: &Handle) -> HandlerResult {
        match event {
            Event::Open(open) => {
                let user = open.user.clone().unwrap_or_default();
                self.members.insert(open.conn, Member { user, room: None });
            }
            Event::Close(close) => {
                self.members.remove(&close.conn);
            }
            Event::Message(message) if message.event == "join" => self.join(message, server)?,
            Event::Message(message) if message.event == "say" => self.say(message, server)?,
            _ => {}
        }
        Ok(())
    }

    fn join(&mut self, message: &JsonMessage<'_>, server: &Handle) -> HandlerResult {
        let Some(member) = self.members.get_mut(&message.conn) else { return Ok(()) };
        let (conn, join) = (server.conn(message.conn), message.data::<Join>()?);
        if let Some(before) = member.room.take() {
            conn.leave(&before)?;
        }
        conn.join(&join.room)?;
        server.reply(message, "joined", &join)?;
        member.room = Some(join.room);
        Ok(())
    }

    fn say(&self, message: &JsonMessage<'_>, server: &Handle) -> HandlerResult {
        let Some(member) = self.members.get(&message.conn) else { return Ok(()) };
        let Some(room) = &member.room else {
            server.reply(message, "refused", "join a room first")?;
            return Ok(());
        };
        let say = message.data::<Say>()?;
        server.room(room).except(message.conn).emit("said", &Said { user: &member.user, text: &say.text })?;
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    wsguard::log_to_stderr();
    let server = Server::start(Options { listen: wsguard_examples::listen(), ..Options::from_json(POLICY)? })?;
    println!("listening on {}", server.address());
    wsguard_examples::drain_on_signal(server.handle())?;
    let mut chat = Chat::default();
    server.run(|event, server| chat.handle(&event, server));
    Ok(())
}
