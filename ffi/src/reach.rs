//! Who is there: in a room, of a user, at all. The lists are taken before the application is called with them.

use core::ffi::{c_char, c_void};
use core::mem::MaybeUninit;

use wsguard::binding::{ConnectionId, To};

use crate::boundary::foreign;
use crate::commands::named;
use crate::pointers::{Str, out, text};
use crate::running::{ServerHandle, running};
use crate::server::TextFn;
use crate::status::Status;

/// A function that receives connections, one after the other.
pub type ConnFn = Option<extern "C-unwind" fn(userdata: *mut c_void, conn: u64)>;

fn tell(conns: &[ConnectionId], each: extern "C-unwind" fn(*mut c_void, u64), userdata: *mut c_void) -> Status {
    for conn in conns {
        foreign(|| each(userdata, conn.to_u64()));
    }
    if conns.is_empty() { Status::Nothing } else { Status::Ok }
}

exports! {
    /// Calls `each` with every member of a room (1 to 256 bytes), in no particular order. They are those of the moment of
    /// the call: `each` may join, leave and close them. A thread sees its own joins at once.
    ///
    /// Any thread, callbacks and inline handlers included; the time grows with the number of members. Returns `WSG_OK`;
    /// `WSG_NOTHING` if there is none; `WSG_ERR_ARGUMENT`, `WSG_ERR_UTF8`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or
    /// `WSG_ERR_FORKED`.
    pub fn wsg_server_room_members(server: *const ServerHandle, room: *const c_char, room_len: usize, each: ConnFn,
        userdata: *mut c_void,
    ) -> Status {
        let (room, each) = (named(room, room_len)?, each.ok_or(Status::ErrNull)?);
        let members = running(server)?.commands.room_members(room);
        Ok(tell(&members, each, userdata))
    }

    /// Writes the number of members of a room to `*size`: 0 for a room that nobody is in. Returns as
    /// `wsg_server_room_members`, but never `WSG_NOTHING`.
    pub fn wsg_server_room_size(server: *const ServerHandle, room: *const c_char, room_len: usize,
        size: Option<&mut MaybeUninit<usize>>,
    ) -> Status {
        let (room, place) = (named(room, room_len)?, out(size)?);
        place.write(running(server)?.commands.room_size(room));
        Ok(Status::Ok)
    }

    /// Takes every member out of a room, on all nodes of a `cluster`. Whoever joins meanwhile may stay.
    ///
    /// Any thread, callbacks and inline handlers included. Returns `WSG_OK`, `WSG_ERR_ARGUMENT`, `WSG_ERR_UTF8`,
    /// `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_room_clear(server: *mut ServerHandle, room: *const c_char, room_len: usize) -> Status {
        let room = named(room, room_len)?;
        running(server)?.commands.clear_room(room)?;
        Ok(Status::Ok)
    }

    /// Closes every member of a room, as `wsg_conn_close` does with one, on all nodes of a `cluster`. What this thread has sent to them before is sent
    /// first.
    ///
    /// Any thread, callbacks and inline handlers included. Returns `WSG_OK`, also if there is no member;
    /// `WSG_ERR_ARGUMENT`, `WSG_ERR_STOPPED`, `WSG_ERR_UTF8`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_room_close(server: *mut ServerHandle, room: *const c_char, room_len: usize, code: u16,
        reason: *const c_char, reason_len: usize,
    ) -> Status {
        let (room, reason) = (named(room, room_len)?, text(reason, reason_len)?);
        let running = running(server)?;
        // One list for both: whoever is closed for the core is so for the application, whoever joins or leaves meanwhile.
        let members = running.commands.room_members(room);
        running.commands.close_each(&members, code, reason)?;
        running.commands.close_elsewhere(To::Room(room), code, reason)?;
        for conn in members {
            running.peers.close(conn, || running.commands.is_open(conn));
        }
        Ok(Status::Ok)
    }

    /// Calls `each` with every open connection of a user (1 to 256 bytes). Otherwise as `wsg_server_room_members`.
    pub fn wsg_server_user_connections(server: *const ServerHandle, user: *const c_char, user_len: usize, each: ConnFn,
        userdata: *mut c_void,
    ) -> Status {
        let (user, each) = (named(user, user_len)?, each.ok_or(Status::ErrNull)?);
        let conns = running(server)?.commands.connections_of(user);
        Ok(tell(&conns, each, userdata))
    }

    /// Calls `each` with every open connection. It looks at all of them, so it is for reports rather than for every
    /// message. Otherwise as `wsg_server_room_members`.
    pub fn wsg_server_connections(server: *const ServerHandle, each: ConnFn, userdata: *mut c_void) -> Status {
        let each = each.ok_or(Status::ErrNull)?;
        let conns = running(server)?.commands.connections();
        Ok(tell(&conns, each, userdata))
    }

    /// Calls `each` with every room that a connection is in; the names are valid during the call. Otherwise as
    /// `wsg_server_room_members`; `WSG_ERR_CONNECTION_CLOSED` if it has closed.
    pub fn wsg_conn_rooms(server: *const ServerHandle, conn: u64, each: TextFn, userdata: *mut c_void) -> Status {
        let each = each.ok_or(Status::ErrNull)?;
        let running = running(server)?;
        let rooms = running.commands.rooms_of(running.open(conn)?)?;
        for room in &rooms {
            let room = Str::of(room);
            foreign(|| each(userdata, room.data, room.len));
        }
        Ok(if rooms.is_empty() { Status::Nothing } else { Status::Ok })
    }

    /// Returns how many bytes were sent to a connection and not taken by its socket yet: to send less where a peer is
    /// slow. 0 if the connection has closed or never existed, and if `server` is not valid. Any thread.
    pub fn wsg_conn_buffered_bytes(server: *const ServerHandle, conn: u64) -> usize {
        Ok(running(server)?.commands.buffered_bytes(ConnectionId::from_u64(conn)))
    }

    /// Returns a count of the bytes that were sent to a connection, headers of frames included and before compression;
    /// broadcasts are not in it. It only grows. What is sent up to now is written when `wsg_conn_written` has come to this number. 0 if the connection has
    /// closed or never existed, and if `server` is not valid. Any thread.
    pub fn wsg_conn_queued(server: *const ServerHandle, conn: u64) -> u64 {
        Ok(running(server)?.commands.queued(ConnectionId::from_u64(conn)))
    }

    /// Returns how much of `wsg_conn_queued` the connection's transport has taken at least: all of it whenever nothing is
    /// unsent, which `WSG_EVENT_DRAINED` tells after `WSG_QUEUED`. 0 as for `wsg_conn_queued`. Any thread.
    pub fn wsg_conn_written(server: *const ServerHandle, conn: u64) -> u64 {
        Ok(running(server)?.commands.written(ConnectionId::from_u64(conn)))
    }
}
