//! What an honest connection must receive: its own echoes, whole and in order; of its rooms every message of every
//! member, in order; and not one byte of anybody else. No socket here: events go in, findings come out.

use std::collections::HashMap;

use serde_json::{Value, json};

/// The room that the application speaks to.
pub(crate) const LOBBY: &str = "lobby";

/// Who speaks there.
pub(crate) const APPLICATION: &str = "the application";

/// What an event was that had to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An echo.
    Echo,
    /// A message in the room that this connection said itself.
    OwnSaid,
    /// A message in the room, of another member or of the application.
    Said,
    /// The answer to a `join` or a `leave`.
    Membership,
}

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// So many messages before this one did not come.
    Lost(u64),
    /// One that should have come earlier, or has come already.
    Order,
    /// Something that was not meant for this connection, or that was changed.
    Foreign,
}

/// What one connection has had, and so what must come next.
#[derive(Debug)]
pub(crate) struct Ledger {
    name: String,
    room: String,
    members: Vec<String>,
    next_echo: u64,
    next_said: HashMap<String, u64>,
}

/// The data of the `number`th message of `from`: every byte follows from these two.
pub(crate) fn data(from: &str, number: u64) -> Value {
    let word = format!("{from}/{number};");
    json!({"from": from, "n": number, "body": word.repeat(1 + (number % 41) as usize)})
}

/// The data of a message said in a room.
pub(crate) fn said(room: &str, from: &str, number: u64) -> Value {
    json!({"room": room, "text": format!("{number} of {from}")})
}

impl Ledger {
    /// For a connection of `name` in `room`, whose members say things there; its first echo will have this number.
    pub(crate) fn new(name: &str, room: &str, members: &[String], next_echo: u64) -> Self {
        let (name, room, members) = (name.to_owned(), room.to_owned(), members.to_vec());
        Self { name, room, members, next_echo, next_said: HashMap::new() }
    }

    /// Enters an event that has come.
    pub(crate) fn enter(&mut self, event: &Value) -> Result<Kind, Wrong> {
        let data = &event["data"];
        match event["event"].as_str() {
            Some("echo") => self.echo(event),
            Some("joined" | "left") if data["room"] == *self.room || data["room"] == LOBBY => Ok(Kind::Membership),
            Some("said") if data["room"] == *self.room || data["room"] == LOBBY => self.said(data),
            _ => Err(Wrong::Foreign),
        }
    }

    fn echo(&mut self, event: &Value) -> Result<Kind, Wrong> {
        let number = event["data"]["n"].as_u64().ok_or(Wrong::Foreign)?;
        if event["data"] != data(&self.name, number) || event["id"] != number || event["status"] != "ok" {
            return Err(Wrong::Foreign);
        }
        follow(&mut self.next_echo, number).map(|()| Kind::Echo)
    }

    fn said(&mut self, data: &Value) -> Result<Kind, Wrong> {
        let (number, from) = data["text"].as_str().and_then(|text| text.split_once(" of ")).ok_or(Wrong::Foreign)?;
        let number: u64 = number.parse().map_err(|_| Wrong::Foreign)?;
        let room = if from == APPLICATION { LOBBY } else { &self.room };
        if *data != said(room, from, number) || from != APPLICATION && !self.members.iter().any(|name| name == from) {
            return Err(Wrong::Foreign);
        }
        // What was said before this connection joined is not meant for it: the first that comes is the start.
        let next = self.next_said.entry(from.to_owned()).or_insert(number);
        follow(next, number)?;
        Ok(if from == self.name { Kind::OwnSaid } else { Kind::Said })
    }
}

/// `number` must be the next; afterwards the one behind it is.
fn follow(next: &mut u64, number: u64) -> Result<(), Wrong> {
    if number < *next {
        return Err(Wrong::Order);
    }
    let missing = number - *next;
    *next = number + 1;
    if missing == 0 { Ok(()) } else { Err(Wrong::Lost(missing)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        Ledger::new("anna", "red", &["anna".to_owned(), "bert".to_owned()], 5)
    }

    fn echo(from: &str, number: u64) -> Value {
        json!({"event": "echo", "status": "ok", "id": number, "data": data(from, number)})
    }

    fn in_room(room: &str, from: &str, number: u64) -> Value {
        json!({"event": "said", "status": "ok", "data": said(room, from, number)})
    }

    #[test]
    fn echoes_come_whole_and_in_order() {
        let mut ledger = ledger();
        assert_eq!(ledger.enter(&echo("anna", 5)), Ok(Kind::Echo));
        assert_eq!(ledger.enter(&echo("anna", 6)), Ok(Kind::Echo));
        assert_eq!(ledger.enter(&echo("anna", 6)), Err(Wrong::Order), "twice");
        assert_eq!(ledger.enter(&echo("anna", 9)), Err(Wrong::Lost(2)));
        assert_eq!(ledger.enter(&echo("anna", 10)), Ok(Kind::Echo), "and the count goes on behind the gap");
    }

    #[test]
    fn a_byte_of_anybody_else_is_foreign() {
        let mut changed = echo("anna", 5);
        changed["data"]["body"] = "anna/5,".into();
        let mut other_id = echo("anna", 5);
        other_id["id"] = 6.into();
        let foreign = [
            echo("bert", 5),
            changed,
            other_id,
            in_room("blue", "bert", 1),
            in_room("red", "mallory", 1),
            in_room("red", APPLICATION, 1),
            in_room(LOBBY, "bert", 1),
            json!({"event": "unblocked", "data": null}),
            json!({"event": "joined", "data": {"room": "blue"}}),
            json!("garbage"),
        ];
        for event in foreign {
            assert_eq!(ledger().enter(&event), Err(Wrong::Foreign), "{event}");
        }
    }

    #[test]
    fn rooms_are_complete_from_the_first_message_on() {
        let mut ledger = ledger();
        assert_eq!(ledger.enter(&in_room("red", "bert", 40)), Ok(Kind::Said));
        assert_eq!(ledger.enter(&in_room("red", "anna", 2)), Ok(Kind::OwnSaid));
        assert_eq!(ledger.enter(&in_room("red", "bert", 41)), Ok(Kind::Said));
        assert_eq!(ledger.enter(&in_room("red", "bert", 43)), Err(Wrong::Lost(1)));
        assert_eq!(ledger.enter(&in_room("red", "bert", 42)), Err(Wrong::Order));
        assert_eq!(ledger.enter(&in_room(LOBBY, APPLICATION, 7)), Ok(Kind::Said));
        assert_eq!(ledger.enter(&in_room(LOBBY, APPLICATION, 8)), Ok(Kind::Said));
    }
}
