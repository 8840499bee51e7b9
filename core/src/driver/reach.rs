//! Whom to reach: rooms, users, everyone. Who that is is decided when the application calls, on its own thread; what is sent to
//! them goes the way of every other command.

use std::sync::Arc;
use std::time::Duration;

use super::commands::Command;
use super::directory::Snapshot;
use super::handle::{NEVER_FITS, ServerHandle, check_close};
use super::ids::{ConnectionId, Slot, generations_so_far};
use super::membership::Everywhere;
use super::shared_frame::SharedFrame;
use crate::error::Error;
use wsguard_proto::auth::check_user;
use wsguard_proto::cluster::ops::{Kind, Topic};
use wsguard_proto::codec::Opcode;
use wsguard_proto::config::Protocol;
use wsguard_proto::deflate::payload;
use wsguard_proto::rooms::Block;

/// Whom a broadcast reaches: each connection once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To<'t> {
    /// Every open connection.
    Everyone,
    /// The members of a room.
    Room(&'t str),
    /// Whoever is in at least one of these rooms.
    Rooms(&'t [&'t str]),
    /// The connections of a user.
    User(&'t str),
}

impl ServerHandle {
    /// Puts a connection into a room, at once; it leaves its rooms when it closes.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] where it is in 1024 other rooms, or the name is not 1 to 256 bytes.
    pub fn join(&self, conn: ConnectionId, room: &str) -> Result<(), Error> {
        let slots = &self.mailbox(conn)?.slots;
        check_room(room)?;
        self.state.directory.join(conn, room, slots)
    }

    /// Takes a connection out of a room, at once: what was sent to the room before still reaches it.
    pub fn leave(&self, conn: ConnectionId, room: &str) -> Result<(), Error> {
        let slots = &self.mailbox(conn)?.slots;
        check_room(room)?;
        self.state.directory.leave(conn, room, slots)
    }

    /// The rooms of a connection.
    pub fn rooms_of(&self, conn: ConnectionId) -> Result<Vec<Arc<str>>, Error> {
        self.state.directory.rooms_of(conn, &self.mailbox(conn)?.slots)
    }

    /// The members of a room, now.
    pub fn room_members(&self, room: &str) -> Vec<ConnectionId> {
        self.state.directory.members(room, |slot| self.generation(slot))
    }

    /// How many members a room has, now.
    pub fn room_size(&self, room: &str) -> usize {
        self.state.directory.room_size(room)
    }

    /// The open connections of a user, now.
    pub fn connections_of(&self, user: &str) -> Vec<ConnectionId> {
        self.state.directory.connections_of(user, |slot| self.generation(slot))
    }

    /// The open connections, now: it looks at every one of them.
    pub fn connections(&self) -> Vec<ConnectionId> {
        let shards = self.state.shards.iter().enumerate();
        shards.flat_map(|(shard, mailbox)| mailbox.slots.open(shard)).collect()
    }

    /// The generation that is open in a slot; 0: none is.
    fn generation(&self, slot: ConnectionId) -> u32 {
        let mailbox = self.state.shards.get(slot.shard());
        let slot = mailbox.and_then(|mailbox| mailbox.slots.get(slot.slot()));
        slot.map_or(0, Slot::generation)
    }

    /// Takes every member out of a room, on every node of a cluster. One that joins meanwhile may stay.
    pub fn clear_room(&self, room: &str) -> Result<(), Error> {
        self.clear_room_here(room)?;
        self.publish(To::Room(room), Kind::Clear, false, || [].into());
        Ok(())
    }

    /// Takes the members out of each of these rooms, but for `except`.
    pub fn clear_rooms(&self, rooms: &[&str], except: &[ConnectionId]) -> Result<(), Error> {
        for room in rooms {
            check_room(room)?;
        }
        for conn in self.members(To::Rooms(rooms))?.iter().filter(|conn| !except.contains(conn)) {
            // An error: it has closed.
            for room in rooms {
                drop(self.leave(*conn, room));
            }
        }
        self.publish(To::Rooms(rooms), Kind::Clear, false, || [].into());
        Ok(())
    }

    /// The same for those on this node.
    pub(super) fn clear_room_here(&self, room: &str) -> Result<(), Error> {
        check_room(room)?;
        for conn in self.room_members(room) {
            // An error here: it has closed, and left the room by that.
            let _ = self.leave(conn, room);
        }
        Ok(())
    }

    /// The connections that a broadcast would reach, now: each once.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a room's name that is not 1 to 256 bytes.
    pub fn members(&self, to: To<'_>) -> Result<Vec<ConnectionId>, Error> {
        check_rooms(to)?;
        Ok(match to {
            To::Everyone => self.connections(),
            To::Room(room) => self.room_members(room),
            To::User(user) => self.connections_of(user),
            To::Rooms(rooms) => {
                let mut all: Vec<_> = rooms.iter().flat_map(|room| self.room_members(room)).collect();
                all.sort_unstable();
                all.dedup();
                all
            }
        })
    }

    /// Starts the closing handshake with each of these connections, as [`close`](Self::close) does with one. Whichever has closed
    /// is left out.
    pub fn close_each(&self, conns: &[ConnectionId], code: u16, reason: &str) -> Result<(), Error> {
        self.check_running()?;
        check_close(code, reason)?;
        let _cork = self.cork();
        for conn in conns {
            // An error here: it has closed.
            let _ = self.close(*conn, code, reason);
        }
        Ok(())
    }

    /// Starts the closing handshake with several connections, on every node of a cluster. `except` are left out.
    pub fn close_all(&self, to: To<'_>, code: u16, reason: &str, except: &[ConnectionId]) -> Result<(), Error> {
        self.close_here(to, code, reason, except)?;
        self.publish_close(to, code, reason);
        Ok(())
    }

    /// Starts the closing handshake with those of other nodes alone: for who has closed the connections of this one, one by one.
    ///
    /// # Errors
    ///
    /// As [`close_all`](Self::close_all).
    pub fn close_elsewhere(&self, to: To<'_>, code: u16, reason: &str) -> Result<(), Error> {
        self.check_running()?;
        check_close(code, reason)?;
        check_rooms(to)?;
        self.publish_close(to, code, reason);
        Ok(())
    }

    fn publish_close(&self, to: To<'_>, code: u16, reason: &str) {
        self.publish(to, Kind::Close, false, || code.to_be_bytes().iter().chain(reason.as_bytes()).copied().collect());
    }

    /// [`close_all`](Self::close_all) for those on this node.
    pub(super) fn close_here(&self, to: To<'_>, code: u16, reason: &str, except: &[ConnectionId]) -> Result<(), Error> {
        self.check_end_not_told()?;
        check_close(code, reason)?;
        self.each_shard_of(to, |shard, blocks, before| {
            self.post(shard, |commands| {
                let whom = commands.keep_recipients(blocks, before);
                let reason = commands.keep(reason.as_bytes());
                let except = commands.keep_ids(except.iter().copied().filter(|id| id.shard() == shard));
                commands.commands.push(Command::CloseAll { whom, code, reason, except });
            });
        })
    }

    /// Lets `post` see to each shard with the connections of `to` that are on it; no blocks: all that are. Whoever has the
    /// generation that comes next or a later one is none of them.
    fn each_shard_of(&self, to: To<'_>, mut post: impl FnMut(usize, Option<&[Block]>, u32)) -> Result<(), Error> {
        check_rooms(to)?;
        if self.state.is_ending() {
            return Ok(());
        }
        let Snapshot { blocks, before } = match to {
            To::Everyone => {
                let before = generations_so_far();
                (0..self.state.shards.len()).for_each(|shard| post(shard, None, before));
                return Ok(());
            }
            To::Room(room) => self.state.directory.in_rooms(&[room]),
            To::Rooms(rooms) => self.state.directory.in_rooms(rooms),
            To::User(user) => self.state.directory.of_user(user),
        };
        for blocks in blocks.chunk_by(same_shard) {
            post(shard_of(blocks), Some(&in_shard(blocks)), before);
        }
        Ok(())
    }

    /// Routes may have either protocol: a frame is for those whose protocol it is of.
    pub(super) fn broadcast_frame(
        &self,
        to: To<'_>,
        protocol: Protocol,
        plain: bool,
        except: &[ConnectionId],
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Error> {
        let mut frame = Vec::new();
        write(&mut frame);
        let frame = self.broadcast_here(to, protocol, plain, except, frame)?;
        let kind = match protocol {
            Protocol::Json => Kind::Event,
            Protocol::Raw if frame.plain().first() == Some(&TEXT) => Kind::Text,
            Protocol::Raw => Kind::Binary,
        };
        self.publish(to, kind, plain, || payload(frame.plain()).into());
        Ok(())
    }

    /// Sends those on this node a frame, and returns it.
    pub(super) fn broadcast_here(
        &self,
        to: To<'_>,
        protocol: Protocol,
        plain: bool,
        except: &[ConnectionId],
        frame: Vec<u8>,
    ) -> Result<Arc<SharedFrame>, Error> {
        self.check_end_not_told()?;
        if frame.len() > self.state.largest_outbox() {
            return Err(NEVER_FITS);
        }
        let frame = Arc::new(SharedFrame::new(frame, plain));
        self.each_shard_of(to, |shard, blocks, before| {
            let (frame, waits) = (Arc::clone(&frame), self.state.shards[shard].broadcasts.hold(frame.len()));
            self.post(shard, |commands| {
                let to = commands.keep_recipients(blocks, before);
                let except = commands.keep_ids(except.iter().copied().filter(|id| id.shard() == shard));
                commands.commands.push(Command::Broadcast { to, protocol, frame, except, waits });
            });
        })?;
        Ok(frame)
    }

    /// Tells the other nodes what members here have been told.
    fn publish(&self, to: To<'_>, kind: Kind, plain: bool, payload: impl FnOnce() -> Arc<[u8]>) {
        if let Some(membership) = self.state.cluster.get() {
            membership.publish(topics(to), kind, plain, payload);
        }
    }

    /// Counts the connections of `to` on every node of the cluster, but for `except`, and hands the result to `counted`: at once
    /// where nobody else has to be asked, otherwise on a thread of the server within `timeout` (a minute at most).
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a room's name that is not 1 to 256 bytes; [`Error::Stopped`]. To `counted`, too:
    /// [`Error::Stopped`] where the server ends meanwhile.
    pub fn count_everywhere(
        &self,
        to: To<'_>,
        except: &[ConnectionId],
        timeout: Duration,
        counted: impl FnOnce(Result<Everywhere, Error>) + Send + 'static,
    ) -> Result<(), Error> {
        const LONGEST: Duration = Duration::from_secs(60);
        self.check_running()?;
        let here = self.members(to)?.into_iter().filter(|conn| !except.contains(conn)).count();
        let Some(membership) = self.state.cluster.get() else {
            counted(Ok(Everywhere::here(here)));
            return Ok(());
        };
        let nanos = timeout.min(LONGEST).as_nanos();
        let until = self.state.clock.now().after_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        membership.count(topics(to), here, until, Box::new(counted));
        Ok(())
    }

    /// Whether broadcasts come faster than they are carried out: a shard has more than `max_outbox_bytes` of them before it.
    /// They wait in memory; an application that goes on at this pace has no bound to it. A peer that is slow by itself is
    /// none of this, but closed.
    pub fn broadcasts_wait(&self) -> bool {
        let most = self.state.largest_outbox();
        self.state.shards.iter().any(|mailbox| mailbox.broadcasts.get() > most)
    }
}

/// The first byte of a text message.
const TEXT: u8 = 0x80 | Opcode::Text as u8;

/// Whom that is for nodes. What is no user's name has no members anywhere.
fn topics(to: To<'_>) -> Vec<Topic> {
    let room = |room: &&str| Topic::Room((*room).into());
    match to {
        To::Everyone => vec![Topic::All],
        To::Room(name) => vec![room(&name)],
        To::Rooms(names) => names.iter().map(room).collect(),
        To::User(user) if check_user(user).is_ok() => vec![Topic::User(user.into())],
        To::User(_) => Vec::new(),
    }
}

fn same_shard(one: &Block, other: &Block) -> bool {
    one.key >> 16 == other.key >> 16
}

fn shard_of(blocks: &[Block]) -> usize {
    blocks.first().map_or(0, |block| (block.key >> 16) as usize)
}

/// The same blocks by slot alone.
fn in_shard(blocks: &[Block]) -> Vec<Block> {
    blocks.iter().map(|block| Block { key: block.key & 0xffff, ..*block }).collect()
}

fn check_rooms(to: To<'_>) -> Result<(), Error> {
    match to {
        To::Room(room) => check_room(room),
        To::Rooms(rooms) => rooms.iter().try_for_each(|room| check_room(room)),
        To::Everyone | To::User(_) => Ok(()),
    }
}

fn check_room(room: &str) -> Result<(), Error> {
    if (1..=256).contains(&room.len()) {
        return Ok(());
    }
    Err(Error::InvalidArgument("room must be 1 to 256 bytes"))
}
