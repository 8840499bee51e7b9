//! What other nodes of the cluster say, carried out here. Nothing of it goes back to them.

use std::sync::Arc;

use super::caught::{caught, said};
use super::commands::Command;
use super::handle::ServerHandle;
use super::log::{escape, printable};
use super::membership::Membership;
use super::nodes::Cluster;
use super::reach::To;
use super::state::ServerState;
use crate::error::Error;
use wsguard_proto::bans::{Ban, Subject};
use wsguard_proto::cluster::ops::{Effect, Kind, Message, NodeId, Request, Topic};
use wsguard_proto::codec::{self, Opcode};
use wsguard_proto::config::Protocol;
use wsguard_proto::lock::lock;
use wsguard_proto::time::Moment;

/// Makes this server a node of the cluster that its options name.
pub(super) fn join(state: &Arc<ServerState>) -> Result<(), Error> {
    let set = state.set();
    let Some(policy) = &set.top.cluster else { return Ok(()) };
    let weak = Arc::downgrade(state);
    let effects = move |effect: Effect| {
        if let Some(state) = weak.upgrade() {
            let _ = caught(|| carry_out(state, effect));
        }
    };
    let buckets = Arc::clone(&state.limits);
    let cluster = Cluster::start(policy, buckets, state.clock, Box::new(effects))?;
    state.directory.join_cluster(&cluster);
    let _ = state.cluster.set(Membership::new(cluster, policy));
    Ok(())
}

pub(super) fn carry_out(state: Arc<ServerState>, effect: Effect) {
    let now = state.clock.now();
    match effect {
        Effect::Deliver(message) => deliver(&ServerHandle { state }, &message),
        Effect::Disconnect { user, before } => {
            let number = state.revocations.revoke_at(&user, before, now);
            state.close_revoked(&user, number);
        }
        Effect::DisconnectAll { before } => {
            let number = state.revocations.revoke_all_at(before, now);
            for mailbox in state.shards.iter() {
                mailbox.post(|buffer| buffer.commands.push(Command::DisconnectAll { number }));
            }
        }
        Effect::Ban { subject, until, reason } => ban(&state, subject, until, &reason, now),
        Effect::Unban { subject } => {
            if lock(&state.bans).unban(&subject, now) {
                let shown = escape(&subject.to_string());
                said(|| tracing::info!(target: "wsguard::audit", action = %"unban", who = %shown));
            }
        }
        Effect::Asked { from, question, topic } => answer(&ServerHandle { state }, from, question, &topic),
        Effect::Counted { ticket, connections, missing } => {
            if let Some(membership) = state.cluster.get() {
                membership.counted(ticket, connections, missing);
            }
        }
        // What is asked of the cluster as it is: its own driver has logged it, and has answered who waited.
        Effect::Reachable(_) | Effect::Entered { .. } => {}
    }
}

/// Gives members here what one on another node has sent.
fn deliver(server: &ServerHandle, message: &Message) {
    let rooms: Vec<&str> = message.to.iter().filter_map(room_of).collect();
    let users = message.to.iter().filter_map(|topic| if let Topic::User(user) = topic { Some(&**user) } else { None });
    let to: Vec<To<'_>> = if message.to.contains(&Topic::All) {
        vec![To::Everyone]
    } else {
        users.map(To::User).chain((!rooms.is_empty()).then_some(To::Rooms(&rooms))).collect()
    };
    for to in to {
        // An error: it is larger than what may be sent here, or the server ends.
        let _ = match message.kind {
            Kind::Event => deliver_frame(server, to, message, Protocol::Json, Opcode::Text),
            Kind::Text => deliver_frame(server, to, message, Protocol::Raw, Opcode::Text),
            Kind::Binary => deliver_frame(server, to, message, Protocol::Raw, Opcode::Binary),
            Kind::Close => close(server, to, &message.payload),
            Kind::Clear => rooms.iter().try_for_each(|room| server.clear_room_here(room)),
        };
    }
}

fn room_of(topic: &Topic) -> Option<&str> {
    if let Topic::Room(room) = topic { Some(room) } else { None }
}

fn deliver_frame(
    server: &ServerHandle,
    to: To<'_>,
    message: &Message,
    protocol: Protocol,
    opcode: Opcode,
) -> Result<(), Error> {
    // Members would be failed by what is no UTF-8, not the node that has sent it.
    if opcode == Opcode::Text && core::str::from_utf8(&message.payload).is_err() {
        return Ok(());
    }
    let mut frame = Vec::with_capacity(message.payload.len() + codec::frame_overhead(message.payload.len()));
    codec::data_frame(&mut frame, opcode, &message.payload);
    server.broadcast_here(to, protocol, message.plain, &[], frame).map(drop)
}

fn close(server: &ServerHandle, to: To<'_>, payload: &[u8]) -> Result<(), Error> {
    let Some((code, reason)) = payload.split_first_chunk() else { return Ok(()) };
    let Ok(reason) = core::str::from_utf8(reason) else { return Ok(()) };
    server.close_here(to, u16::from_be_bytes(*code), reason, &[])
}

fn ban(state: &ServerState, subject: Subject, until: Moment, reason: &str, now: Moment) {
    let ban = Ban { subject, until, reason: reason.into(), is_automatic: false };
    let shown = escape(&ban.subject.to_string());
    if lock(&state.bans).ban(ban.clone(), now).is_err() {
        let what = "a ban of another node has no place: 65536 are in force here";
        return said(|| tracing::warn!(target: "wsguard", who = %shown, "{what}"));
    }
    let reason = printable(reason);
    let for_ms = (until != Moment::NEVER).then(|| u64::try_from(until.since(now).as_millis()).unwrap_or(u64::MAX));
    said(|| tracing::info!(target: "wsguard::audit", action = %"ban", who = %shown, for_ms, reason = reason.as_str()));
    state.close_banned(Some(&ban));
}

/// Tells another node who is here.
fn answer(server: &ServerHandle, from: NodeId, question: u64, topic: &Topic) {
    let members = match topic {
        Topic::All => server.connections(),
        Topic::Room(room) => server.room_members(room),
        Topic::User(user) => server.connections_of(user),
        Topic::Node(_) => return,
    };
    let connections = members.into_iter().map(super::ids::ConnectionId::to_u64).collect();
    if let Some(membership) = server.state.cluster.get() {
        membership.cluster.request(Request::Answer { to: from, question, connections });
    }
}

#[cfg(test)]
#[path = "clustered_tests.rs"]
mod tests;
