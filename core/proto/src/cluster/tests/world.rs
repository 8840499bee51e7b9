//! Several nodes over one Redis, with a network of which each part may be slow, or break.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::buckets::Fake;
use super::store::Store;
use crate::bans::Subject;
use crate::cluster::interest::Interest;
use crate::cluster::node::{Node, Settings};
use crate::cluster::ops::{Effect, Kind, Message, NodeId, Op, OpId, Reply, Request, Topic};
use crate::time::Moment;

pub(super) const LEASE_MS: u64 = 4000;

pub(super) struct Peer {
    pub(super) id: NodeId,
    pub(super) node: Node,
    pub(super) buckets: Arc<Fake>,
    pub(super) interest: Arc<Interest>,
    is_connected: bool,
    ops: VecDeque<(OpId, Op)>,
    replies: VecDeque<(OpId, Reply)>,
    messages: VecDeque<(Topic, Arc<[u8]>)>,
    /// Tickets without an answer, by user.
    pub(super) asked: BTreeMap<u64, Arc<str>>,
    pub(super) held: BTreeMap<Arc<str>, u32>,
    pub(super) topics: BTreeMap<Topic, u32>,
    pub(super) is_reachable: bool,
    pub(super) delivered: Vec<Message>,
    pub(super) disconnects: Vec<(Arc<str>, Moment, Moment)>,
    pub(super) banned: BTreeSet<Subject>,
    pub(super) counted: Vec<(u64, usize, u32)>,
    /// Who asked, and for what.
    answers: Vec<Request>,
    pub(super) outages: u32,
}

pub(super) struct World {
    pub(super) now: Moment,
    pub(super) store: Store,
    pub(super) peers: Vec<Peer>,
    tickets: u64,
    /// Connections of each topic and node, for questions.
    pub(super) members: HashMap<(usize, Topic), Vec<u64>>,
    pub(super) refused: u32,
}

impl Peer {
    /// What Redis carries out next.
    pub(super) fn next_op(&self) -> Option<&(OpId, Op)> {
        self.ops.front()
    }

    fn take(
        &mut self,
        effects: Vec<Effect>,
        now: Moment,
        members: &HashMap<(usize, Topic), Vec<u64>>,
        own: usize,
    ) -> u32 {
        let mut refused = 0;
        for effect in effects {
            match effect {
                Effect::Entered { ticket, outcome } => {
                    let user = self.asked.remove(&ticket).expect("a ticket is answered once");
                    match outcome {
                        Ok(()) => *self.held.entry(user).or_default() += 1,
                        Err(_) => refused += 1,
                    }
                }
                Effect::Deliver(message) => self.delivered.push(message),
                Effect::Disconnect { user, before } => self.disconnects.push((user, before, now)),
                Effect::Ban { subject, .. } => {
                    self.banned.insert(subject);
                }
                Effect::Unban { subject } => {
                    self.banned.remove(&subject);
                }
                Effect::DisconnectAll { .. } => panic!("the log was never cut"),
                Effect::Asked { from, question, topic } => {
                    let connections = members.get(&(own, topic)).cloned().unwrap_or_default();
                    self.answers.push(Request::Answer { to: from, question, connections });
                }
                Effect::Counted { ticket, connections, missing } => {
                    self.counted.push((ticket, connections.len(), missing));
                }
                Effect::Reachable(is_reachable) => {
                    assert_ne!(self.is_reachable, is_reachable, "it alternates");
                    self.is_reachable = is_reachable;
                    self.outages += u32::from(!is_reachable);
                }
            }
        }
        assert_eq!(self.is_reachable, self.node.is_reachable());
        refused
    }
}

impl World {
    pub(super) fn new(nodes: usize, counts_receivers: bool) -> Self {
        let now = Moment::from_millis(10_000);
        let mut store = Store::default();
        (store.now, store.counts_receivers) = (1_700_000_000_000_000, counts_receivers);
        let mut world = World { now, store, peers: Vec::new(), tickets: 0, members: HashMap::new(), refused: 0 };
        (0..nodes).for_each(|_| world.add_peer());
        world
    }

    pub(super) fn add_peer(&mut self) {
        let number = self.peers.len() as u8;
        let id = NodeId([number + 1; 16]);
        let (buckets, interest) = (Arc::new(Fake::default()), Arc::new(Interest::default()));
        let settings = Settings { id, name: "test".into(), lease_ms: LEASE_MS, user_limits: true };
        let shared = Arc::<Fake>::clone(&buckets);
        let node = Node::new(settings, shared, Arc::clone(&interest), u64::from(number) * 77 + 5, self.now);
        self.peers.push(Peer {
            id,
            node,
            buckets,
            interest,
            is_connected: false,
            ops: VecDeque::new(),
            replies: VecDeque::new(),
            messages: VecDeque::new(),
            asked: BTreeMap::new(),
            held: BTreeMap::new(),
            topics: BTreeMap::new(),
            is_reachable: false,
            delivered: Vec::new(),
            disconnects: Vec::new(),
            banned: BTreeSet::new(),
            counted: Vec::new(),
            answers: Vec::new(),
            outages: 0,
        });
    }

    pub(super) fn effects(&mut self, at: usize, effects: Vec<Effect>) {
        let (now, peer) = (self.now, &mut self.peers[at]);
        self.refused += peer.take(effects, now, &self.members, at);
        for answer in core::mem::take(&mut self.peers[at].answers) {
            self.request(at, answer);
        }
    }

    pub(super) fn request(&mut self, at: usize, request: Request) {
        let mut effects = Vec::new();
        self.peers[at].node.request(request, self.now, &mut effects);
        self.effects(at, effects);
    }

    pub(super) fn poll(&mut self, at: usize) {
        let (mut ops, mut effects) = (Vec::new(), Vec::new());
        let peer = &mut self.peers[at];
        peer.node.poll(self.now, &mut ops, &mut effects);
        if peer.node.deaf(self.now) {
            let id = peer.id;
            peer.messages.clear();
            self.store.subscriptions.remove(&id);
            peer.node.poll(self.now, &mut ops, &mut effects);
        }
        assert!(peer.is_connected || ops.is_empty(), "nothing is asked without a connection");
        peer.ops.extend(ops);
        self.effects(at, effects);
    }

    pub(super) fn connect(&mut self, at: usize) {
        if !core::mem::replace(&mut self.peers[at].is_connected, true) {
            self.peers[at].node.connected(self.now);
        }
    }

    pub(super) fn disconnect(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        if core::mem::take(&mut peer.is_connected) {
            let mut effects = Vec::new();
            peer.node.disconnected(self.now, &mut effects);
            (peer.ops, peer.replies, peer.messages) = Default::default();
            self.store.subscriptions.remove(&peer.id);
            self.effects(at, effects);
        }
    }

    /// Redis carries one op out; `outcome`: as it should, it fails, or nobody knows that it did not fail.
    pub(super) fn carry_out(&mut self, at: usize, outcome: u8) -> bool {
        let Some((id, op)) = self.peers[at].ops.pop_front() else { return false };
        let from = self.peers[at].id;
        let (mut reply, mut receivers) = (Reply::Failed("no".into()), Vec::new());
        if outcome != 1 {
            (reply, receivers) = self.store.carry_out(from, &op);
        }
        if outcome == 2 {
            reply = Reply::Failed("who knows".into());
        }
        if let Op::Publish { topic, bytes } = op {
            for peer in self.peers.iter_mut().filter(|peer| receivers.contains(&peer.id)) {
                peer.messages.push_back((topic.clone(), Arc::clone(&bytes)));
            }
        }
        self.peers[at].replies.push_back((id, reply));
        true
    }

    pub(super) fn answer(&mut self, at: usize) -> bool {
        let Some((id, reply)) = self.peers[at].replies.pop_front() else { return false };
        let mut effects = Vec::new();
        self.peers[at].node.reply(id, reply, self.now, &mut effects);
        self.effects(at, effects);
        true
    }

    pub(super) fn hear(&mut self, at: usize) -> bool {
        let Some((topic, bytes)) = self.peers[at].messages.pop_front() else { return false };
        let mut effects = Vec::new();
        self.peers[at].node.heard(&topic, &bytes, self.now, &mut effects);
        self.effects(at, effects);
        true
    }

    /// All that is on its way arrives now.
    pub(super) fn flow(&mut self) {
        for _ in 0..100_000 {
            let mut moved = false;
            for at in 0..self.peers.len() {
                self.poll(at);
                moved |= self.carry_out(at, 0) | self.answer(at) | self.hear(at);
            }
            if !moved {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    pub(super) fn pass_time(&mut self, ms: u64) {
        self.now = self.now.after_millis(ms);
        self.store.now += ms * 1000;
    }

    /// Time goes by, and all arrives as fast as it can. Each node is polled when it said, not later.
    pub(super) fn run(&mut self, ms: u64) {
        let end = self.now.after_millis(ms);
        self.flow();
        while self.now < end {
            let next = self.peers.iter().map(|peer| peer.node.next()).min().unwrap_or(Moment::NEVER);
            assert!(next > self.now, "what is due is done: {next:?} {:?}", self.now);
            let step = next.min(end).since(self.now).as_millis() as u64;
            self.pass_time(step.max(1));
            self.flow();
        }
    }

    pub(super) fn connect_all(&mut self) {
        (0..self.peers.len()).for_each(|at| self.connect(at));
    }

    pub(super) fn enter(&mut self, at: usize, user: &Arc<str>, most: u32) {
        self.tickets += 1;
        let ticket = self.tickets;
        self.peers[at].asked.insert(ticket, Arc::clone(user));
        self.request(at, Request::Enter { ticket, user: Arc::clone(user), most });
    }

    pub(super) fn exit(&mut self, at: usize, user: &Arc<str>) {
        let Some(held) = self.peers[at].held.get_mut(user).filter(|held| **held > 0) else { return };
        *held -= 1;
        self.request(at, Request::Exit { user: Arc::clone(user) });
    }

    pub(super) fn up(&mut self, at: usize, topic: &Topic) {
        *self.peers[at].topics.entry(topic.clone()).or_default() += 1;
        self.peers[at].interest.up(topic.clone());
    }

    pub(super) fn down(&mut self, at: usize, topic: &Topic) {
        let Some(count) = self.peers[at].topics.get_mut(topic).filter(|count| **count > 0) else { return };
        *count -= 1;
        self.peers[at].interest.down(topic);
    }

    pub(super) fn publish(&mut self, at: usize, to: &[Topic], number: u32) {
        if to.iter().any(|topic| self.peers[at].interest.reaches_others(topic)) {
            let payload = [at as u8].into_iter().chain(number.to_be_bytes()).collect::<Vec<_>>().into();
            self.request(at, Request::Publish(Message { to: to.to_vec(), kind: Kind::Binary, plain: false, payload }));
        }
    }

    /// Subscriptions of a node are gone, and nobody told it.
    pub(super) fn deafen(&mut self, at: usize) {
        self.store.subscriptions.remove(&self.peers[at].id);
        self.peers[at].messages.clear();
    }

    pub(super) fn has(&self, at: usize, topic: &Topic) -> bool {
        self.peers[at].topics.get(topic).is_some_and(|count| *count > 0)
    }

    /// What is in the queues of the network.
    pub(super) fn break_off(&mut self, at: usize, carried_out: usize) {
        (0..carried_out).for_each(|_| {
            self.carry_out(at, 0);
        });
        self.disconnect(at);
    }
}
