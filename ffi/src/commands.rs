//! Commands to connections, rooms and users.

use core::ffi::{c_char, c_void};

use wsguard::host::ConnectionId;

use crate::handle::{bytes, optional_text, text};
use crate::server::{ServerHandle, running};
use crate::status::Status;

fn except(conn: u64) -> Option<ConnectionId> {
    (conn != 0).then_some(ConnectionId::from_u64(conn))
}

exports! {
    /// Sends a text message (`raw`). This and the commands below are for any thread, callbacks and inline handlers included;
    /// they never block, and what one thread sends to a connection arrives in order.
    ///
    /// Returns `WSG_OK`; `WSG_QUEUED` when it waits behind what the peer has not read; `WSG_ERR_CONNECTION_CLOSED`,
    /// `WSG_ERR_UTF8`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_send_text(server: *mut ServerHandle, conn: u64, text: *const c_char, text_len: usize) -> Status {
        let text = self::text(text, text_len)?;
        Ok(running(server)?.commands.send_text(ConnectionId::from_u64(conn), text)?.into())
    }

    /// Sends a binary message (`raw`). As `wsg_server_send_text`.
    pub fn wsg_server_send_binary(server: *mut ServerHandle, conn: u64, payload: *const c_char, payload_len: usize
    ) -> Status {
        let payload = bytes(payload, payload_len)?;
        Ok(running(server)?.commands.send_binary(ConnectionId::from_u64(conn), payload)?.into())
    }

    /// Emits an event (`json`): `{"event": event, "data": data, "status": "ok"}`. `data` is JSON text and is sent as it is.
    ///
    /// As `wsg_server_send_text`.
    pub fn wsg_server_emit(server: *mut ServerHandle, conn: u64, event: *const c_char, event_len: usize,
        data: *const c_char, data_len: usize,
    ) -> Status {
        let (event, data) = (text(event, event_len)?, text(data, data_len)?);
        Ok(running(server)?.commands.emit(ConnectionId::from_u64(conn), event, data)?.into())
    }

    /// Emits an event in reply to the message that carried `id` (JSON text, as the message has it). `NULL`: a plain event.
    ///
    /// As `wsg_server_emit`.
    pub fn wsg_server_reply(server: *mut ServerHandle, conn: u64, id: *const c_char, id_len: usize,
        event: *const c_char, event_len: usize, data: *const c_char, data_len: usize,
    ) -> Status {
        let (id, event, data) = (optional_text(id, id_len)?, text(event, event_len)?, text(data, data_len)?);
        Ok(running(server)?.commands.reply(ConnectionId::from_u64(conn), id, event, data)?.into())
    }

    /// Starts the closing handshake. `code` is 1000 to 1003, 1007 to 1014 or 3000 to 4999, the reason at most 123 bytes:
    /// `WSG_ERR_ARGUMENT` else. Returns `WSG_OK` or as `wsg_server_send_text`.
    pub fn wsg_server_close(server: *mut ServerHandle, conn: u64, code: u16, reason: *const c_char, reason_len: usize
    ) -> Status {
        let reason = text(reason, reason_len)?;
        running(server)?.commands.close(ConnectionId::from_u64(conn), code, reason)?;
        Ok(Status::Ok)
    }

    /// Closes a connection with 1011, `internal`, because its handler failed. Returns as `wsg_server_close`.
    pub fn wsg_server_fail(server: *mut ServerHandle, conn: u64) -> Status {
        running(server)?.commands.fail(ConnectionId::from_u64(conn))?;
        Ok(Status::Ok)
    }

    /// Puts a connection into a room (1 to 256 bytes, at most 1024 rooms each); it leaves its rooms when it closes.
    ///
    /// Returns `WSG_OK`, `WSG_ERR_ARGUMENT` or as `wsg_server_send_text`.
    pub fn wsg_server_join(server: *mut ServerHandle, conn: u64, room: *const c_char, room_len: usize) -> Status {
        let room = text(room, room_len)?;
        running(server)?.commands.join(ConnectionId::from_u64(conn), room)?;
        Ok(Status::Ok)
    }

    /// Takes a connection out of a room. As `wsg_server_join`.
    pub fn wsg_server_leave(server: *mut ServerHandle, conn: u64, room: *const c_char, room_len: usize) -> Status {
        let room = text(room, room_len)?;
        running(server)?.commands.leave(ConnectionId::from_u64(conn), room)?;
        Ok(Status::Ok)
    }

    /// Emits an event to a room, or to every connection when `room` is `NULL`. `except` is left out; 0: nobody is.
    ///
    /// Encoded once. Returns `WSG_OK`, `WSG_ERR_ARGUMENT` for a room that cannot be, `WSG_ERR_STOPPED`, `WSG_ERR_UTF8`,
    /// `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_broadcast(server: *mut ServerHandle, room: *const c_char, room_len: usize, event: *const c_char,
        event_len: usize, data: *const c_char, data_len: usize, except: u64,
    ) -> Status {
        let (room, event, data) = (optional_text(room, room_len)?, text(event, event_len)?, text(data, data_len)?);
        running(server)?.commands.broadcast(room, event, data, self::except(except))?;
        Ok(Status::Ok)
    }

    /// Sends a text message to a room, or to every connection (`raw`). As `wsg_server_broadcast`.
    pub fn wsg_server_broadcast_text(server: *mut ServerHandle, room: *const c_char, room_len: usize,
        text: *const c_char, text_len: usize, except: u64,
    ) -> Status {
        let (room, text) = (optional_text(room, room_len)?, self::text(text, text_len)?);
        running(server)?.commands.broadcast_text(room, text, self::except(except))?;
        Ok(Status::Ok)
    }

    /// Sends a binary message to a room, or to every connection (`raw`). As `wsg_server_broadcast`.
    pub fn wsg_server_broadcast_binary(server: *mut ServerHandle, room: *const c_char, room_len: usize,
        payload: *const c_char, payload_len: usize, except: u64,
    ) -> Status {
        let (room, payload) = (optional_text(room, room_len)?, bytes(payload, payload_len)?);
        running(server)?.commands.broadcast_binary(room, payload, self::except(except))?;
        Ok(Status::Ok)
    }

    /// Closes every connection of a user: `session_revoked`. Returns as `wsg_server_broadcast`.
    pub fn wsg_server_disconnect_user(server: *mut ServerHandle, user: *const c_char, user_len: usize) -> Status {
        let user = text(user, user_len)?;
        running(server)?.commands.disconnect_user(user)?;
        Ok(Status::Ok)
    }

    /// Calls `body` and hands over what it sends on this thread together: one hand-over instead of one per command. For the
    /// events of a batch; `wsg_server_run` does it by itself. May be nested.
    ///
    /// Returns `WSG_OK`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`; `body` is called on `WSG_OK` only.
    pub fn wsg_server_cork(server: *mut ServerHandle, body: Option<extern "C" fn(userdata: *mut c_void)>,
        userdata: *mut c_void,
    ) -> Status {
        let body = body.ok_or(Status::ErrNull)?;
        let running = running(server)?;
        let cork = running.commands.cork();
        body(userdata);
        drop(cork);
        Ok(Status::Ok)
    }
}
