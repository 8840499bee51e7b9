//! What Redis answers. Anything may stand there, whoever wrote it: what is not as it should be is an answer that failed.

use core::num::ParseIntError;
use std::sync::Arc;

use super::commands::Store;
use crate::bans::Subject;
use crate::cluster::ops::{Entry, Level, LogId, NodeId, Op, Ownership, Reply, StoreTime, UserFull};

/// A value of RESP.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Null.
    Nil,
    /// An integer.
    Int(i64),
    /// A string, bulk or simple.
    Bytes(Vec<u8>),
    /// An array; a map of RESP3 as each key with its value behind.
    Array(Vec<Value>),
    /// An error.
    Error(String),
}

/// Bytes of an error of Redis that are told.
const TOLD: usize = 200;

impl Store {
    /// What the answers to [`commands`](Self::commands), one for each, say. An error among them: it failed.
    pub fn reply(&self, op: &Op, values: &[Value]) -> Reply {
        if let Some(error) = values.iter().find_map(Value::error) {
            return Reply::Failed(error);
        }
        read(op, values).unwrap_or_else(|| Reply::Failed("an answer that no script of this version gives".into()))
    }
}

fn read(op: &Op, values: &[Value]) -> Option<Reply> {
    Some(match op {
        Op::Beat { .. } => beat(values.first()?.array()?)?,
        Op::Enter { node, .. } | Op::Restore { node, .. } => {
            let UserAnswer { now, outcome, others, ownership, levels, .. } = about_user(values.first()?, *node)?;
            Reply::Entered { now, outcome, others, ownership, levels }
        }
        Op::Share { node, .. } | Op::Report { node, .. } | Op::TakeOver { node, .. } => {
            let UserAnswer { now, ownership, levels, is_known, .. } = about_user(values.first()?, *node)?;
            Reply::Levels { now, ownership, levels, is_known }
        }
        Op::Touch { users, .. } => {
            if values.len() != users.len() {
                return None;
            }
            let missing = users.iter().zip(values).filter(|(_, value)| value.int() == Some(0));
            Reply::Touched(missing.map(|(user, _)| Arc::clone(user)).collect())
        }
        Op::Find { users, nodes } => {
            let all = users.iter().flat_map(|user| nodes.iter().map(move |node| (Arc::clone(user), *node)));
            if values.len() != users.len().checked_mul(nodes.len())? {
                return None;
            }
            let found = all.zip(values).filter(|(_, value)| value.int() == Some(1));
            Reply::Found(found.map(|(found, _)| found).collect())
        }
        Op::LoadBans => bans(values)?,
        Op::ReadLog { .. } => {
            let [entries, oldest, head] = values else { return None };
            Reply::Log {
                now: time(head.array()?.first()?)?,
                oldest: if *oldest == Value::Nil { LogId::default() } else { log_id(oldest)? },
                entries: entries.array()?.iter().map(entry).collect::<Option<_>>()?,
            }
        }
        Op::Publish { .. } => Reply::Published(u32::try_from(values.first()?.int()?).ok()),
        Op::Subscribe { .. } => Reply::Subscribed,
        Op::Leave { .. }
        | Op::Exit { .. }
        | Op::Disconnect { .. }
        | Op::Ban { .. }
        | Op::Unban { .. }
        | Op::Unsubscribe { .. } => Reply::Done,
    })
}

/// What each script about a user answers.
struct UserAnswer {
    now: StoreTime,
    outcome: Result<(), UserFull>,
    others: Vec<(NodeId, u32)>,
    ownership: Ownership,
    levels: Vec<Level>,
    is_known: bool,
}

fn about_user(value: &Value, node: NodeId) -> Option<UserAnswer> {
    let [now, open, others, whose, levels, is_known] = value.array()? else { return None };
    let others = others.array()?.chunks(2).map(|pair| Some((node_id(pair.first()?)?, pair.get(1)?.small()?)));
    let [owner, is_asked] = whose.array()? else { return None };
    Some(UserAnswer {
        now: time(now)?,
        outcome: match open.int()? {
            -1 => Ok(()),
            open => Err(UserFull { open: u32::try_from(open).ok()? }),
        },
        others: others.collect::<Option<_>>()?,
        ownership: ownership(owner, is_asked.int()? == 1, node)?,
        levels: levels.array()?.chunks(5).map(level).collect::<Option<_>>()?,
        is_known: is_known.int()? == 1,
    })
}

fn ownership(owner: &Value, is_asked: bool, node: NodeId) -> Option<Ownership> {
    if owner.bytes()?.is_empty() {
        return Some(Ownership::Shared);
    }
    let owner = node_id(owner)?;
    Some(if owner == node && !is_asked { Ownership::Alone } else { Ownership::Awaits(owner) })
}

fn level(values: &[Value]) -> Option<Level> {
    let [scope, amounts @ ..] = values else { return None };
    let amount =
        |at: usize| amounts.get(at)?.text()?.parse::<f64>().ok().filter(|amount| amount.is_finite() && *amount >= 0.0);
    Some(Level {
        scope: scope.text()?.into(),
        units: amount(0)?,
        units_per_second: amount(1)?,
        bytes: amount(2)?,
        bytes_per_second: amount(3)?,
    })
}

fn beat(values: &[Value]) -> Option<Reply> {
    let [now, mark, version, was_member, log, members] = values else { return None };
    let members: Vec<NodeId> = members.array()?.iter().map(node_id).collect::<Option<_>>()?;
    Some(Reply::Beat {
        now: time(now)?,
        mark: mark.text()?.parse().ok()?,
        version: u64::try_from(version.int()?).ok()?,
        was_member: was_member.int()? == 1,
        // This node is one, so there is always one to tell.
        members: (!members.is_empty()).then_some(members),
        log: log_id(log)?,
    })
}

/// One that cannot be read is passed over: another version's, or whoever wrote it by hand.
fn bans(values: &[Value]) -> Option<Reply> {
    let [head, table] = values else { return None };
    let [now, log] = head.array()? else { return None };
    let now = time(now)?;
    let ban = |pair: &[Value]| {
        let (until, reason) = pair.get(1)?.text()?.split_once(' ')?;
        Some((subject(pair.first()?.text()?)?, end(until).ok()?, Arc::from(reason)))
    };
    let all = table.array()?.chunks(2).filter_map(ban);
    let bans = all.filter(|(_, until, _)| until.is_none_or(|until| until > now)).collect();
    Some(Reply::Bans { now, bans, log: log_id(log)? })
}

fn entry(value: &Value) -> Option<(LogId, Entry)> {
    let [id, fields] = value.array()? else { return None };
    let fields = fields.array()?;
    let field = |name: &str| fields.chunks(2).find(|pair| pair[0].text() == Some(name))?.get(1)?.text();
    let known = || {
        let node = field("n").and_then(|text| parse_node(text.as_bytes()))?;
        let named = field("s")?;
        Some(match field("k")? {
            "d" => Entry::Disconnect { user: named.into(), node },
            "b" => {
                Entry::Ban { subject: subject(named)?, until: end(field("e")?).ok()?, reason: field("r")?.into(), node }
            }
            "u" => Entry::Unban { subject: subject(named)?, node },
            _ => return None,
        })
    };
    Some((log_id(id)?, known().unwrap_or(Entry::Unknown)))
}

fn subject(text: &str) -> Option<Subject> {
    match text.split_at_checked(2)? {
        ("u:", user) => Some(Subject::User(user.into())),
        ("n:", network) => Subject::network(network).ok(),
        _ => None,
    }
}

/// When a ban ends; 0: it does not.
fn end(text: &str) -> Result<Option<StoreTime>, ParseIntError> {
    let micros: u64 = text.parse()?;
    Ok((micros > 0).then_some(StoreTime(micros)))
}

fn time(value: &Value) -> Option<StoreTime> {
    u64::try_from(value.int()?).ok().map(StoreTime)
}

fn log_id(value: &Value) -> Option<LogId> {
    let (ms, sequence) = value.text()?.split_once('-')?;
    Some(LogId(ms.parse().ok()?, sequence.parse().ok()?))
}

fn node_id(value: &Value) -> Option<NodeId> {
    parse_node(value.bytes()?)
}

fn parse_node(hex: &[u8]) -> Option<NodeId> {
    let digit = |letter: u8| char::from(letter).to_digit(16).map(|digit| digit as u8);
    let mut id = [0; 16];
    if hex.len() != 32 {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(hex.chunks(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(NodeId(id))
}

impl Value {
    fn int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }

    fn small(&self) -> Option<u32> {
        u32::try_from(self.int()?).ok()
    }

    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    fn text(&self) -> Option<&str> {
        core::str::from_utf8(self.bytes()?).ok()
    }

    fn array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(values) => Some(values),
            _ => None,
        }
    }

    /// The error's first words.
    fn error(&self) -> Option<Arc<str>> {
        let Value::Error(text) = self else { return None };
        let line = text.lines().next().unwrap_or_default();
        let end = (0..=TOLD.min(line.len())).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
        Some(line[..end].into())
    }
}
