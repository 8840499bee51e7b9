//! Commands to connections, rooms and users.

use core::ffi::{c_char, c_void};
use std::sync::Arc;

use serde_json::Value;
use wsguard::binding::{ConnectionId, Error};

use crate::boundary::foreign;
use crate::handle::{bytes, name, text};
use crate::json::{self, checked, checked_id, handled};
use crate::server::{Running, ServerHandle, running};
use crate::status::Status;

fn except(conn: u64) -> Option<ConnectionId> {
    (conn != 0).then_some(ConnectionId::from_u64(conn))
}

/// A server whose messages are texts and binaries.
fn raw(server: *mut ServerHandle) -> Result<Arc<Running>, Status> {
    let running = running(server)?;
    if running.is_raw { Ok(running) } else { Err(Status::ErrArgument) }
}

/// A server whose messages are events.
fn json(server: *mut ServerHandle) -> Result<Arc<Running>, Status> {
    let running = running(server)?;
    if running.is_raw { Err(Status::ErrArgument) } else { Ok(running) }
}

/// What is answered when a broadcast is on its way: whether more of them come than are carried out.
fn told(running: &Running) -> Status {
    if running.commands.broadcasts_wait() { Status::Queued } else { Status::Ok }
}

/// The name of a room or a user, of 1 to 256 bytes.
fn named<'call>(data: *const c_char, len: usize) -> Result<&'call str, Status> {
    let name = name(data, len)?;
    if (1..=256).contains(&name.len()) { Ok(name) } else { Err(Status::ErrArgument) }
}

exports! {
    /// Sends a text message (`raw`). This and the commands below are for any thread, callbacks and inline handlers included;
    /// they never block, and what one thread sends to a connection arrives in order.
    ///
    /// Returns `WSG_OK`; `WSG_QUEUED` when it waits behind what the peer has not read; `WSG_ERR_CONNECTION_CLOSED`, at once
    /// when this application has closed it or its session has ended; `WSG_ERR_ARGUMENT` on a `json` server, and for what is
    /// larger than `max_outbox_bytes`; `WSG_ERR_UTF8`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_send_text(server: *mut ServerHandle, conn: u64, text: *const c_char, text_len: usize) -> Status {
        let text = self::text(text, text_len)?;
        let running = raw(server)?;
        Ok(running.commands.send_text(running.open(conn)?, text)?.into())
    }

    /// Sends a binary message (`raw`). As `wsg_server_send_text`.
    pub fn wsg_server_send_binary(server: *mut ServerHandle, conn: u64, payload: *const c_char, payload_len: usize
    ) -> Status {
        let payload = bytes(payload, payload_len)?;
        let running = raw(server)?;
        Ok(running.commands.send_binary(running.open(conn)?, payload)?.into())
    }

    /// Emits an event (`json`): `{"event": event, "data": data, "status": "ok"}`. `data` is JSON text; empty or `NULL` is
    /// `null`. It is checked, unless it is the `data` of the message that this handler was called with.
    ///
    /// As `wsg_server_send_text`; `WSG_ERR_ARGUMENT` when `data` is not JSON, when `event` is empty, or on a `raw` server.
    pub fn wsg_server_emit(server: *mut ServerHandle, conn: u64, event: *const c_char, event_len: usize,
        data: *const c_char, data_len: usize,
    ) -> Status {
        let (event, data) = (json::event(event, event_len)?, checked(handled(), data, data_len)?);
        let running = json(server)?;
        Ok(running.commands.emit(running.open(conn)?, event, data)?.into())
    }

    /// Emits an event in reply to the message that carried `id` (JSON text, as the message has it). `NULL`: a plain event.
    ///
    /// As `wsg_server_emit`; `WSG_ERR_ARGUMENT` also when `id` is not a JSON string or integer.
    pub fn wsg_server_reply(server: *mut ServerHandle, conn: u64, id: *const c_char, id_len: usize,
        event: *const c_char, event_len: usize, data: *const c_char, data_len: usize,
    ) -> Status {
        let id = checked_id(handled(), id, id_len)?;
        let (event, data) = (json::event(event, event_len)?, checked(handled(), data, data_len)?);
        let running = json(server)?;
        Ok(running.commands.reply(running.open(conn)?, id, event, data)?.into())
    }

    /// As `wsg_server_reply`, with `"status": "error"`: the request failed, and `data` says how.
    pub fn wsg_server_reply_error(server: *mut ServerHandle, conn: u64, id: *const c_char, id_len: usize,
        event: *const c_char, event_len: usize, data: *const c_char, data_len: usize,
    ) -> Status {
        let id = checked_id(handled(), id, id_len)?;
        let (event, data) = (json::event(event, event_len)?, checked(handled(), data, data_len)?);
        let reply = id.map_or_else(String::new, |id| format!(r#","id":{id}"#));
        let text = format!(r#"{{"event":{},"data":{data},"status":"error"{reply}}}"#, Value::from(event));
        let running = json(server)?;
        Ok(running.commands.send_text(running.open(conn)?, &text)?.into())
    }

    /// As `wsg_server_reply`, for `data` and `id` that are known to be JSON: they are sent as they are, without a look.
    /// What is not JSON here breaks the message for its peer, or says what you did not mean to say.
    pub fn wsg_server_reply_unchecked(server: *mut ServerHandle, conn: u64, id: *const c_char, id_len: usize,
        event: *const c_char, event_len: usize, data: *const c_char, data_len: usize,
    ) -> Status {
        let id = if id.is_null() { None } else { Some(text(id, id_len)?) };
        let (event, data) = (json::event(event, event_len)?, text(data, data_len)?);
        let data = if data.is_empty() { "null" } else { data };
        let running = json(server)?;
        Ok(running.commands.reply(running.open(conn)?, id, event, data)?.into())
    }

    /// Starts the closing handshake. `code` is 1000 to 1003, 1007 to 1014 or 3000 to 4999, the reason at most 123 bytes:
    /// `WSG_ERR_ARGUMENT` else. From here on the connection is closed for its application: nothing more is sent to it.
    ///
    /// Returns `WSG_OK`, `WSG_ERR_CONNECTION_CLOSED`, `WSG_ERR_UTF8`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_close(server: *mut ServerHandle, conn: u64, code: u16, reason: *const c_char, reason_len: usize
    ) -> Status {
        let reason = text(reason, reason_len)?;
        let running = running(server)?;
        let conn = running.open(conn)?;
        match running.commands.close(conn, code, reason) {
            // Nothing that could be carried out, for whomever: nobody is closed by it.
            Err(error @ Error::InvalidArgument(_)) => Err(error)?,
            outcome => running.peers.closed(conn, outcome, || running.commands.is_open(conn))?,
        }
        Ok(Status::Ok)
    }

    /// Closes a connection with 1011, `internal`, because its handler failed. Returns as `wsg_server_close`.
    pub fn wsg_server_fail(server: *mut ServerHandle, conn: u64) -> Status {
        let running = running(server)?;
        let conn = running.open(conn)?;
        running.peers.closed(conn, running.commands.fail(conn), || running.commands.is_open(conn))?;
        Ok(Status::Ok)
    }

    /// Puts a connection into a room (1 to 256 bytes, at most 1024 rooms each); it leaves its rooms when it closes.
    ///
    /// Returns as `wsg_server_close`.
    pub fn wsg_server_join(server: *mut ServerHandle, conn: u64, room: *const c_char, room_len: usize) -> Status {
        let room = named(room, room_len)?;
        let running = running(server)?;
        running.commands.join(running.open(conn)?, room)?;
        Ok(Status::Ok)
    }

    /// Takes a connection out of a room. As `wsg_server_join`.
    pub fn wsg_server_leave(server: *mut ServerHandle, conn: u64, room: *const c_char, room_len: usize) -> Status {
        let room = named(room, room_len)?;
        let running = running(server)?;
        running.commands.leave(running.open(conn)?, room)?;
        Ok(Status::Ok)
    }

    /// Emits an event to a room. `except` is left out; 0: nobody is. `NULL` is no room but `WSG_ERR_NULL`: for everybody
    /// there is `wsg_server_broadcast_all`.
    ///
    /// Encoded once; `data` as in `wsg_server_emit`. Returns `WSG_OK`; `WSG_QUEUED` when more than `max_outbox_bytes` of
    /// broadcasts wait for an I/O thread, so that they pile up in memory: no event tells the end of that, but a later one that
    /// answers `WSG_OK` (a peer that does not read is another matter: it is closed). `WSG_ERR_ARGUMENT` for a room or data
    /// that cannot be, for what is larger than `max_outbox_bytes`, and on a `raw` server; `WSG_ERR_STOPPED`, `WSG_ERR_UTF8`,
    /// `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_broadcast(server: *mut ServerHandle, room: *const c_char, room_len: usize, event: *const c_char,
        event_len: usize, data: *const c_char, data_len: usize, except: u64,
    ) -> Status {
        let room = named(room, room_len)?;
        let (event, data) = (json::event(event, event_len)?, checked(handled(), data, data_len)?);
        let running = json(server)?;
        running.commands.broadcast(Some(room), event, data, self::except(except))?;
        Ok(told(&running))
    }

    /// Sends a text message to a room (`raw`). As `wsg_server_broadcast`.
    pub fn wsg_server_broadcast_text(server: *mut ServerHandle, room: *const c_char, room_len: usize,
        text: *const c_char, text_len: usize, except: u64,
    ) -> Status {
        let (room, text) = (named(room, room_len)?, self::text(text, text_len)?);
        let running = raw(server)?;
        running.commands.broadcast_text(Some(room), text, self::except(except))?;
        Ok(told(&running))
    }

    /// Sends a binary message to a room (`raw`). As `wsg_server_broadcast`.
    pub fn wsg_server_broadcast_binary(server: *mut ServerHandle, room: *const c_char, room_len: usize,
        payload: *const c_char, payload_len: usize, except: u64,
    ) -> Status {
        let (room, payload) = (named(room, room_len)?, bytes(payload, payload_len)?);
        let running = raw(server)?;
        running.commands.broadcast_binary(Some(room), payload, self::except(except))?;
        Ok(told(&running))
    }

    /// Emits an event to every connection of the server. Otherwise as `wsg_server_broadcast`.
    pub fn wsg_server_broadcast_all(server: *mut ServerHandle, event: *const c_char, event_len: usize,
        data: *const c_char, data_len: usize, except: u64,
    ) -> Status {
        let (event, data) = (json::event(event, event_len)?, checked(handled(), data, data_len)?);
        let running = json(server)?;
        running.commands.broadcast(None, event, data, self::except(except))?;
        Ok(told(&running))
    }

    /// Sends a text message to every connection of the server (`raw`). Otherwise as `wsg_server_broadcast`.
    pub fn wsg_server_broadcast_all_text(server: *mut ServerHandle, text: *const c_char, text_len: usize, except: u64
    ) -> Status {
        let text = self::text(text, text_len)?;
        let running = raw(server)?;
        running.commands.broadcast_text(None, text, self::except(except))?;
        Ok(told(&running))
    }

    /// Sends a binary message to every connection of the server (`raw`). Otherwise as `wsg_server_broadcast`.
    pub fn wsg_server_broadcast_all_binary(server: *mut ServerHandle, payload: *const c_char, payload_len: usize,
        except: u64,
    ) -> Status {
        let payload = bytes(payload, payload_len)?;
        let running = raw(server)?;
        running.commands.broadcast_binary(None, payload, self::except(except))?;
        Ok(told(&running))
    }

    /// Closes every connection of a user (1 to 256 bytes): `session_revoked`. From here on they are closed for their
    /// application, as after `wsg_server_close`; on `WSG_ERR_STOPPED`, too. Returns as `wsg_server_broadcast`, never
    /// `WSG_QUEUED`.
    pub fn wsg_server_disconnect_user(server: *mut ServerHandle, user: *const c_char, user_len: usize) -> Status {
        let user = named(user, user_len)?;
        let running = running(server)?;
        running.peers.close_user(user, || running.commands.disconnect_user(user))?;
        Ok(Status::Ok)
    }

    /// Calls `body` and hands over what it sends on this thread together: one hand-over instead of one per command. For the
    /// events of a batch; `wsg_server_run` does it by itself. May be nested. `body` must return, as handlers must.
    ///
    /// Returns `WSG_OK`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`; `body` is called on `WSG_OK` only.
    pub fn wsg_server_cork(server: *mut ServerHandle, body: Option<extern "C-unwind" fn(userdata: *mut c_void)>,
        userdata: *mut c_void,
    ) -> Status {
        let body = body.ok_or(Status::ErrNull)?;
        let running = running(server)?;
        let cork = running.commands.cork();
        foreign(|| body(userdata));
        if !running.is_here() {
            core::mem::forget(cork);
            return Err(Status::ErrForked);
        }
        drop(cork);
        Ok(Status::Ok)
    }

    /// Hands over what this thread has sent so far in a handler of `wsg_server_run` or in `wsg_server_cork`, for a handler
    /// that has long to work yet. Elsewhere there is nothing to hand over.
    ///
    /// Returns `WSG_OK`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_flush(server: *mut ServerHandle) -> Status {
        running(server)?.commands.flush();
        Ok(Status::Ok)
    }
}
