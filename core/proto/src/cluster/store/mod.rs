//! What is noted on Redis, and how: each [`Op`](super::ops::Op) as commands, and what they answer as a [`Reply`](super::ops::Reply).
//!
//! Whatever has to be decided at one stroke is a script (`*.lua`), short, and about keys of one slot. All times are those of
//! Redis. Scripts are run by their SHA-1; one that Redis does not have (`NOSCRIPT`) is loaded and run again.
//!
//! | key | what |
//! |---|---|
//! | `wsguard:{NAME}:nodes` | sorted set: node, by the end of its lease in microseconds |
//! | `wsguard:{NAME}:state` | hash: `mark` of the database, `version` of the members, `oldest` entry of a log that was trimmed |
//! | `wsguard:{NAME}:log` | stream: revocations and bans, about 65 536 |
//! | `wsguard:{NAME}:bans`, `…:bans:until` | hash: subject to end and reason; sorted set: subject by its end |
//! | `wsguard:NAME:u:USER` | hash: who holds a user, and what is in the buckets (`user.lua`) |

mod commands;
mod reply;
mod script;

pub use commands::{Command, Store};
pub use reply::Value;
pub use script::{SCRIPTS, Script};
