//! What Redis is sent.

use std::borrow::Cow;
use std::sync::Arc;

use super::script::{self, Script};
use crate::bans::Subject;
use crate::cluster::ops::{Level, LogId, NodeId, Op, Topic};
use crate::cluster::wire;

/// Begins what nodes in a database other than 0 publish, before its number. No message begins so.
const OF_A_DATABASE: u8 = 2;
/// A ban for longer than this (31 years) has no end.
const LONGEST_BAN_MS: u64 = 1_000_000_000_000;
/// Entries of the log that are read at once.
const ENTRIES_AT_ONCE: &[u8] = b"256";

/// A command, or a script that is run.
#[derive(Clone, Debug)]
pub struct Command {
    /// `None`: `name` is a command of Redis.
    pub script: Option<&'static Script>,
    /// The command of Redis; `EVALSHA` for a script.
    pub name: &'static str,
    /// What it touches: all of one slot.
    pub keys: Vec<Vec<u8>>,
    /// What comes behind the keys.
    pub args: Vec<Vec<u8>>,
}

impl Command {
    fn script(script: &'static Script, keys: Vec<Vec<u8>>, args: Vec<Vec<u8>>) -> Self {
        Self { script: Some(script), name: "EVALSHA", keys, args }
    }

    fn plain(name: &'static str, key: Vec<u8>, args: Vec<Vec<u8>>) -> Self {
        Self { script: None, name, keys: vec![key], args }
    }

    /// All words, as they are sent.
    pub fn words(&self) -> impl Iterator<Item = Cow<'_, [u8]>> {
        let head = self.script.map(|script| [script.sha1().as_bytes().into(), number(&self.keys.len()).into()]);
        let rest = self.keys.iter().chain(&self.args).map(|word| Cow::Borrowed(&word[..]));
        core::iter::once(self.name.as_bytes().into()).chain(head.into_iter().flatten()).chain(rest)
    }
}

/// Where the nodes of one name keep what they note.
#[derive(Clone, Debug)]
pub struct Store {
    name: Arc<str>,
    database: u32,
    /// Channels belong to slots (`SPUBLISH`): the server is a Cluster.
    is_sharded: bool,
}

impl Store {
    /// Of the nodes with this name.
    pub fn new(name: Arc<str>, is_sharded: bool) -> Self {
        Self { name, database: 0, is_sharded }
    }

    /// In the database of this number. Keys belong to a database, channels do not: the messages of nodes say theirs.
    #[must_use]
    pub fn in_database(mut self, number: u32) -> Self {
        self.database = number;
        self
    }

    /// What keys and channels are named by: see [`Topic::channel`](crate::cluster::ops::Topic::channel).
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What is published for a message of a node: itself, behind the database if that is not 0.
    fn sealed(&self, message: &[u8]) -> Vec<u8> {
        match self.database {
            0 => message.to_vec(),
            number => [&[OF_A_DATABASE], &number.to_be_bytes()[..], message].concat(),
        }
    }

    /// What came on a channel, without the database; `None` where it is for nodes of the same name in another one. What comes from
    /// outside names no database, and is for all of them.
    pub fn opened(&self, mut came: Vec<u8>) -> Option<Vec<u8>> {
        let database = match came.as_slice() {
            [OF_A_DATABASE, a, b, c, d, ..] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
            [wire::FIRST, ..] => Some(0),
            _ => None,
        };
        if database.is_some_and(|database| database != self.database) {
            return None;
        }
        came.drain(..if database.is_some_and(|database| database != 0) { 5 } else { 0 });
        Some(came)
    }

    fn shared(&self, what: &str) -> Vec<u8> {
        format!("wsguard:{{{}}}:{what}", self.name).into_bytes()
    }

    fn user(&self, user: &str) -> Vec<u8> {
        format!("wsguard:{}:u:{user}", self.name).into_bytes()
    }

    /// Asks which commands of a node this user may not send: a list of them. `is_cluster`: those of a Redis Cluster, too.
    pub fn rights(&self, is_cluster: bool) -> Command {
        let channel = Topic::All.channel(&self.name).into_bytes();
        // Not as keys: the server that is asked need not be the one that has them.
        Command::script(&script::RIGHTS, vec![], vec![self.shared("state"), channel, number(&u8::from(is_cluster))])
    }

    /// What carries out an op, in this order. Others may stand between.
    pub fn commands(&self, op: &Op) -> Vec<Command> {
        vec![match op {
            Op::Touch { users, keep_ms } => return self.touch(users, *keep_ms),
            Op::ReadLog { after } => return self.read_log(*after),
            Op::Find { users, nodes } => return self.find(users, nodes),
            Op::LoadBans => {
                return vec![
                    Command::script(&script::BANS, vec![self.shared("log")], vec![]),
                    // Not in the script: sixty thousand would be turned into values of Lua and back.
                    Command::plain("HGETALL", self.shared("bans"), vec![]),
                ];
            }
            Op::Beat { node, lease_ms, version, mark } => Command::script(
                &script::BEAT,
                vec![self.shared("nodes"), self.shared("state"), self.shared("log")],
                vec![hex(*node), number(lease_ms), number(version), number(mark)],
            ),
            Op::Leave { node } => {
                Command::script(&script::LEAVE, vec![self.shared("nodes"), self.shared("state")], vec![hex(*node)])
            }
            Op::Disconnect { user, node } => Command::script(
                &script::DISCONNECT,
                vec![self.shared("log"), self.shared("state")],
                vec![hex(*node), user.as_bytes().into()],
            ),
            Op::Ban { subject, for_ms, reason, node } => {
                let for_ms = for_ms.filter(|ms| *ms <= LONGEST_BAN_MS).map_or(0, |ms| ms.max(1));
                self.about_bans(&script::BAN, *node, subject, vec![number(&for_ms), reason.as_bytes().into()])
            }
            Op::Unban { subject, node } => self.about_bans(&script::UNBAN, *node, subject, vec![]),
            Op::Publish { topic, bytes } => {
                let name = if self.is_sharded { "SPUBLISH" } else { "PUBLISH" };
                Command::plain(name, topic.channel(&self.name).into_bytes(), vec![self.sealed(bytes)])
            }
            Op::Subscribe { topic } => {
                let name = if self.is_sharded { "SSUBSCRIBE" } else { "SUBSCRIBE" };
                Command::plain(name, topic.channel(&self.name).into_bytes(), vec![])
            }
            Op::Unsubscribe { topic } => {
                let name = if self.is_sharded { "SUNSUBSCRIBE" } else { "UNSUBSCRIBE" };
                Command::plain(name, topic.channel(&self.name).into_bytes(), vec![])
            }
            _ => return self.about_user(op).into_iter().collect(),
        }]
    }

    fn about_user(&self, op: &Op) -> Option<Command> {
        let (script, user, args, buckets) = match op {
            Op::Enter { node, user, most, gone, full, keep_ms } => {
                let mut args = vec![hex(*node), number(most), number(keep_ms), number(&gone.len())];
                args.extend(gone.iter().map(|node| hex(*node)));
                (&script::ENTER, user, args, full)
            }
            Op::Exit { node, user, levels, keep_ms } => {
                (&script::EXIT, user, vec![hex(*node), number(keep_ms)], levels)
            }
            Op::Restore { node, user, connections, levels, keep_ms } => {
                (&script::RESTORE, user, vec![hex(*node), number(connections), number(keep_ms)], levels)
            }
            Op::Share { node, user, levels } => (&script::SHARE, user, vec![hex(*node)], levels),
            Op::Report { node, user, used, least } => {
                (&script::REPORT, user, with_levels(vec![hex(*node), number(&least.len())], least), used)
            }
            Op::TakeOver { node, user, from, is_gone, full } => {
                (&script::TAKE_OVER, user, vec![hex(*node), hex(*from), number(&u8::from(*is_gone))], full)
            }
            _ => return None,
        };
        Some(Command::script(script, vec![self.user(user)], with_levels(args, buckets)))
    }

    fn about_bans(&self, script: &'static Script, node: NodeId, subject: &Subject, more: Vec<Vec<u8>>) -> Command {
        let keys = ["log", "state", "bans", "bans:until"].map(|key| self.shared(key)).into();
        let mut args = vec![hex(node), written(subject).into_bytes()];
        args.extend(more);
        Command::script(script, keys, args)
    }

    fn touch(&self, users: &[Arc<str>], keep_ms: u64) -> Vec<Command> {
        users.iter().map(|user| Command::plain("PEXPIRE", self.user(user), vec![number(&keep_ms)])).collect()
    }

    fn find(&self, users: &[Arc<str>], nodes: &[NodeId]) -> Vec<Command> {
        let all = users.iter().flat_map(|user| nodes.iter().map(move |node| (user, node)));
        let field = |node: &NodeId| format!("n:{node}").into_bytes();
        all.map(|(user, node)| Command::plain("HEXISTS", self.user(user), vec![field(node)])).collect()
    }

    /// What was trimmed is asked for last: whatever is trimmed between the two is not missed unnoticed.
    fn read_log(&self, after: LogId) -> Vec<Command> {
        let behind = format!("({}-{}", after.0, after.1).into_bytes();
        let range = vec![behind, b"+".into(), b"COUNT".into(), ENTRIES_AT_ONCE.into()];
        vec![
            Command::plain("XRANGE", self.shared("log"), range),
            Command::plain("HGET", self.shared("state"), vec![b"oldest".into()]),
            // By its clock entries are understood; it may have been set since the last beat.
            Command::script(&script::BANS, vec![self.shared("log")], vec![]),
        ]
    }
}

/// `u:` and a user, or `n:` and a network with its length: a user may be called like one.
fn written(subject: &Subject) -> String {
    match subject {
        Subject::Network(network) => format!("n:{network}"),
        Subject::User(user) => format!("u:{user}"),
    }
}

fn hex(node: NodeId) -> Vec<u8> {
    node.to_string().into_bytes()
}

fn number(value: &impl ToString) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn with_levels(mut args: Vec<Vec<u8>>, levels: &[Level]) -> Vec<Vec<u8>> {
    for level in levels {
        args.push(level.scope.as_bytes().into());
        let amounts = [level.units, level.units_per_second, level.bytes, level.bytes_per_second];
        // `{:?}` is the shortest text that is read as the same number.
        args.extend(
            amounts.map(|amount| format!("{:?}", if amount.is_finite() { amount.max(0.0) } else { 0.0 }).into_bytes()),
        );
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a node in this database publishes.
    fn published(number: u32, message: &[u8]) -> Vec<u8> {
        let op = Op::Publish { topic: Topic::Room("r".into()), bytes: message.into() };
        let [command] = &Store::new("n".into(), false).in_database(number).commands(&op)[..] else { panic!() };
        assert_eq!(command.keys[0], b"wsguard:n:room:r");
        command.args[0].clone()
    }

    #[test]
    fn messages_of_nodes_tell_databases_apart() {
        let message = [wire::FIRST, 1, 9, 9];
        for theirs in [0, 1, 256] {
            for ours in [0, 1, 256] {
                let opened = Store::new("n".into(), false).in_database(ours).opened(published(theirs, &message));
                assert_eq!(opened, (theirs == ours).then(|| message.to_vec()), "{theirs} {ours}");
            }
        }
        assert_eq!(published(0, &message), message);
    }

    #[test]
    fn what_comes_from_outside_or_is_malformed_is_for_each_database() {
        for number in [0, 7] {
            let store = Store::new("n".into(), false).in_database(number);
            for came in [&b"{}"[..], b"", b" {}", b"\0", &[OF_A_DATABASE, 0, 0, 7]] {
                assert_eq!(store.opened(came.to_vec()), Some(came.to_vec()));
            }
        }
    }
}
