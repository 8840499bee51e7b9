//! Commands to connections, rooms and users.

use core::ffi::{c_char, c_void};
use std::sync::Arc;

use wsguard::binding::{ConnectionId, Error, Protocol, To};

use crate::boundary::foreign;
use crate::json::{self, checked, checked_id, handled};
use crate::plain::Plain;
use crate::pointers::{Str, array, bytes, name, text};
use crate::running::{Running, ServerHandle, running};
use crate::status::Status;

/// The connections that a broadcast leaves out.
pub(crate) fn left_out(first: *const u64, count: usize) -> Result<Vec<ConnectionId>, Status> {
    Ok(array::<u64>(first, count)?.iter().map(|conn| ConnectionId::from_u64(*conn)).collect())
}

/// A server with connections whose messages are texts and binaries.
fn raw(server: *mut ServerHandle) -> Result<Arc<Running>, Status> {
    let running = running(server)?;
    running.modes.speaks(Protocol::Raw)?;
    Ok(running)
}

/// A server with connections whose messages are events.
fn json(server: *mut ServerHandle) -> Result<Arc<Running>, Status> {
    let running = running(server)?;
    running.modes.speaks(Protocol::Json)?;
    Ok(running)
}

/// The status of a broadcast that was handed over: `Queued` if too many wait to be carried out.
fn broadcast_status(running: &Running) -> Status {
    if running.commands.broadcasts_wait() { Status::Queued } else { Status::Ok }
}

/// The names of rooms.
pub(crate) fn named_all<'call>(first: *const Str, count: usize) -> Result<Vec<&'call str>, Status> {
    array(first, count)?.iter().map(|room| named(room.data, room.len)).collect()
}

/// The name of a room or a user, of 1 to 256 bytes.
pub(crate) fn named<'call>(data: *const c_char, len: usize) -> Result<&'call str, Status> {
    let name = name(data, len)?;
    if (1..=256).contains(&name.len()) { Ok(name) } else { Err(Status::ErrArgument) }
}

exports! {
    /// Sends a text message (`protocol: "raw"`). This command and those below never block; what one thread sends to a
    /// connection arrives in that order. The library copies what it is given.
    ///
    /// Any thread, callbacks and inline handlers included. Returns `WSG_OK`; `WSG_QUEUED` if the peer has not read what
    /// was sent before; `WSG_ERR_CONNECTION_CLOSED` if the connection has ended, and at once after the application has
    /// closed it or its session has ended; `WSG_ERR_ARGUMENT` on a `json` server, and for a message larger than
    /// `max_outbox_bytes`; `WSG_ERR_UTF8`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_conn_send_text(server: *mut ServerHandle, conn: u64, text: *const c_char, text_len: usize) -> Status {
        let text = self::text(text, text_len)?;
        let running = raw(server)?;
        Ok(running.speaker().send_text(running.open_for(conn, Protocol::Raw)?, text)?.into())
    }

    /// Sends a binary message (`raw`). Otherwise as `wsg_conn_send_text`.
    pub fn wsg_conn_send_binary(server: *mut ServerHandle, conn: u64, payload: *const c_char, payload_len: usize
    ) -> Status {
        let payload = bytes(payload, payload_len)?;
        let running = raw(server)?;
        Ok(running.speaker().send_binary(running.open_for(conn, Protocol::Raw)?, payload)?.into())
    }

    /// Emits an event (`protocol: "json"`): `{"event": event, "data": data, "status": "ok"}`. `data` is JSON text;
    /// empty or `NULL` becomes `null`. The library checks that it is JSON, unless it is the `data` of the message that
    /// this handler was called with.
    ///
    /// Returns as `wsg_conn_send_text`; `WSG_ERR_ARGUMENT` if `data` is not JSON, if `event` is empty, and on a `raw`
    /// server.
    pub fn wsg_conn_emit(server: *mut ServerHandle, conn: u64, event: *const c_char, event_len: usize,
        data: *const c_char, data_len: usize,
    ) -> Status {
        let (event, data) = (json::event(event, event_len)?, checked(handled(), data, data_len)?);
        let running = json(server)?;
        Ok(running.speaker().emit(running.open_for(conn, Protocol::Json)?, event, data)?.into())
    }

    /// Emits an event in reply to the message that carried `id`, which is JSON text as in `wsg_message.id`. With `NULL`
    /// it emits a plain event.
    ///
    /// Returns as `wsg_conn_emit`; `WSG_ERR_ARGUMENT` also if `id` is not a JSON string or integer.
    pub fn wsg_conn_reply(server: *mut ServerHandle, conn: u64, id: *const c_char, id_len: usize,
        event: *const c_char, event_len: usize, data: *const c_char, data_len: usize,
    ) -> Status {
        let id = checked_id(handled(), id, id_len)?;
        let (event, data) = (json::event(event, event_len)?, checked(handled(), data, data_len)?);
        let running = json(server)?;
        Ok(running.speaker().reply(running.open_for(conn, Protocol::Json)?, id, event, data)?.into())
    }

    /// Replies with `"status": "error"`: the request failed, and `data` says why. Otherwise as `wsg_conn_reply`.
    pub fn wsg_conn_reply_error(server: *mut ServerHandle, conn: u64, id: *const c_char, id_len: usize,
        event: *const c_char, event_len: usize, data: *const c_char, data_len: usize,
    ) -> Status {
        let id = checked_id(handled(), id, id_len)?;
        let (event, data) = (json::event(event, event_len)?, checked(handled(), data, data_len)?);
        let running = json(server)?;
        Ok(running.speaker().reply_error(running.open_for(conn, Protocol::Json)?, id, event, data)?.into())
    }

    /// Asks the peer: `{"event": event, "data": data, "id": id}`. The peer answers with a message of the same `id`, whose
    /// `status` tells whether it could: list the event of its answer in the option `events`, and find what you have asked
    /// by `wsg_message.id` in your `message` handler. `id` is JSON text, a string or an integer: use each once per
    /// connection. What has no answer when the connection closes will have none.
    ///
    /// Returns as `wsg_conn_emit`; `WSG_ERR_ARGUMENT` also if `id` is not a JSON string or integer; `WSG_ERR_NULL`
    /// without an `id`.
    pub fn wsg_conn_request(server: *mut ServerHandle, conn: u64, id: *const c_char, id_len: usize,
        event: *const c_char, event_len: usize, data: *const c_char, data_len: usize,
    ) -> Status {
        let id = checked_id(handled(), id, id_len)?.ok_or(Status::ErrNull)?;
        let (event, data) = (json::event(event, event_len)?, checked(handled(), data, data_len)?);
        let running = json(server)?;
        Ok(running.speaker().request(running.open_for(conn, Protocol::Json)?, id, event, data)?.into())
    }

    /// Replies without checking that `data` and `id` are JSON: they are sent as they are. If they are not JSON, the
    /// peer gets a broken message, or one with other members than you meant. Otherwise as `wsg_conn_reply`.
    pub fn wsg_conn_reply_unchecked(server: *mut ServerHandle, conn: u64, id: *const c_char, id_len: usize,
        event: *const c_char, event_len: usize, data: *const c_char, data_len: usize,
    ) -> Status {
        let id = if id.is_null() { None } else { Some(text(id, id_len)?) };
        let (event, data) = (json::event(event, event_len)?, text(data, data_len)?);
        let data = if data.is_empty() { "null" } else { data };
        let running = json(server)?;
        Ok(running.speaker().reply(running.open_for(conn, Protocol::Json)?, id, event, data)?.into())
    }

    /// Starts the closing handshake. `code` is 1000 to 1003, 1007 to 1014 or 3000 to 4999, and the reason has at most
    /// 123 bytes; anything else is `WSG_ERR_ARGUMENT`. From here on the connection is closed for the application:
    /// nothing more can be sent.
    ///
    /// Any thread, callbacks and inline handlers included. Returns `WSG_OK`, `WSG_ERR_CONNECTION_CLOSED`,
    /// `WSG_ERR_ARGUMENT`, `WSG_ERR_UTF8`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_conn_close(server: *mut ServerHandle, conn: u64, code: u16, reason: *const c_char, reason_len: usize
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

    /// Closes a connection with 1011, verdict `internal`, because its handler failed. Otherwise as `wsg_conn_close`.
    pub fn wsg_conn_fail(server: *mut ServerHandle, conn: u64) -> Status {
        let running = running(server)?;
        let conn = running.open(conn)?;
        running.peers.closed(conn, running.commands.fail(conn), || running.commands.is_open(conn))?;
        Ok(Status::Ok)
    }

    /// Drops a connection at once, without a close frame. What was sent before is offered to its socket once: what that has no
    /// room for is lost. Its close has code 1006, or that of a close frame that was sent before. Otherwise as `wsg_conn_close`.
    pub fn wsg_conn_terminate(server: *mut ServerHandle, conn: u64) -> Status {
        let running = running(server)?;
        let conn = running.open(conn)?;
        running.peers.closed(conn, running.commands.terminate(conn), || running.commands.is_open(conn))?;
        Ok(Status::Ok)
    }

    /// Sends a ping, with a payload that nobody can guess. `WSG_EVENT_PONG` tells how long its answer took; no pong comes
    /// after the close. While a connection is paused its answers are not read. At most 16 pings may wait for answers.
    ///
    /// Any thread, callbacks and inline handlers included. Returns `WSG_OK`; `WSG_QUEUED` if it waits behind what the
    /// peer has not read; `WSG_ERR_ARGUMENT` if 16 pings have no answer; `WSG_ERR_CONNECTION_CLOSED`, `WSG_ERR_NULL`,
    /// `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_conn_ping(server: *mut ServerHandle, conn: u64) -> Status {
        let running = running(server)?;
        Ok(running.commands.ping(running.open(conn)?)?.into())
    }

    /// Puts a connection into a room: 1 to 256 bytes, at most 1024 rooms per connection. It leaves its rooms when it
    /// closes. To join a second time changes nothing. Returns as `wsg_conn_close`.
    pub fn wsg_conn_join(server: *mut ServerHandle, conn: u64, room: *const c_char, room_len: usize) -> Status {
        let room = named(room, room_len)?;
        let running = running(server)?;
        running.commands.join(running.open(conn)?, room)?;
        Ok(Status::Ok)
    }

    /// Takes a connection out of a room. Otherwise as `wsg_conn_join`.
    pub fn wsg_conn_leave(server: *mut ServerHandle, conn: u64, room: *const c_char, room_len: usize) -> Status {
        let room = named(room, room_len)?;
        let running = running(server)?;
        running.commands.leave(running.open(conn)?, room)?;
        Ok(Status::Ok)
    }

    /// Emits an event to every connection of a room (`json`), encoded once. `data` is as in `wsg_conn_emit`. `except`
    /// points at `except_len` connections that get nothing; `NULL` and 0: every member gets it. `room` must not be
    /// `NULL`: to reach everybody call `wsg_server_broadcast_all`.
    ///
    /// Any thread, callbacks and inline handlers included. Returns `WSG_OK`; `WSG_QUEUED` if more than
    /// `max_outbox_bytes` of broadcasts wait for an I/O thread, so that they take up memory: send more slowly until a
    /// broadcast returns `WSG_OK` (a peer that does not read is closed by itself); `WSG_ERR_ARGUMENT` if the room or
    /// the data is not valid, for more than `max_outbox_bytes`, and on a `raw` server; `WSG_ERR_STOPPED`,
    /// `WSG_ERR_UTF8`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_broadcast(server: *mut ServerHandle, room: *const c_char, room_len: usize, event: *const c_char,
        event_len: usize, data: *const c_char, data_len: usize, except: *const u64, except_len: usize,
    ) -> Status {
        let room = named(room, room_len)?;
        let (event, data) = (json::event(event, event_len)?, checked(handled(), data, data_len)?);
        let running = json(server)?;
        running.speaker().broadcast(To::Room(room), event, data, &left_out(except, except_len)?)?;
        Ok(broadcast_status(&running))
    }

    /// Sends a text message to a room (`raw`). Otherwise as `wsg_server_broadcast`.
    pub fn wsg_server_broadcast_text(server: *mut ServerHandle, room: *const c_char, room_len: usize,
        text: *const c_char, text_len: usize, except: *const u64, except_len: usize,
    ) -> Status {
        let (room, text) = (named(room, room_len)?, self::text(text, text_len)?);
        let running = raw(server)?;
        running.speaker().broadcast_text(To::Room(room), text, &left_out(except, except_len)?)?;
        Ok(broadcast_status(&running))
    }

    /// Sends a binary message to a room (`raw`). Otherwise as `wsg_server_broadcast`.
    pub fn wsg_server_broadcast_binary(server: *mut ServerHandle, room: *const c_char, room_len: usize,
        payload: *const c_char, payload_len: usize, except: *const u64, except_len: usize,
    ) -> Status {
        let (room, payload) = (named(room, room_len)?, bytes(payload, payload_len)?);
        let running = raw(server)?;
        running.speaker().broadcast_binary(To::Room(room), payload, &left_out(except, except_len)?)?;
        Ok(broadcast_status(&running))
    }

    /// Emits an event to every connection of the server (`json`). Otherwise as `wsg_server_broadcast`.
    pub fn wsg_server_broadcast_all(server: *mut ServerHandle, event: *const c_char, event_len: usize,
        data: *const c_char, data_len: usize, except: *const u64, except_len: usize,
    ) -> Status {
        let (event, data) = (json::event(event, event_len)?, checked(handled(), data, data_len)?);
        let running = json(server)?;
        running.speaker().broadcast(To::Everyone, event, data, &left_out(except, except_len)?)?;
        Ok(broadcast_status(&running))
    }

    /// Sends a text message to every connection of the server (`raw`). Otherwise as `wsg_server_broadcast`.
    pub fn wsg_server_broadcast_all_text(server: *mut ServerHandle, text: *const c_char, text_len: usize, except: *const u64, except_len: usize
    ) -> Status {
        let text = self::text(text, text_len)?;
        let running = raw(server)?;
        running.speaker().broadcast_text(To::Everyone, text, &left_out(except, except_len)?)?;
        Ok(broadcast_status(&running))
    }

    /// Sends a binary message to every connection of the server (`raw`). Otherwise as `wsg_server_broadcast`.
    pub fn wsg_server_broadcast_all_binary(server: *mut ServerHandle, payload: *const c_char, payload_len: usize,
        except: *const u64, except_len: usize,
    ) -> Status {
        let payload = bytes(payload, payload_len)?;
        let running = raw(server)?;
        running.speaker().broadcast_binary(To::Everyone, payload, &left_out(except, except_len)?)?;
        Ok(broadcast_status(&running))
    }

    /// Emits an event to whoever is in at least one of these rooms (`json`): `rooms` points at `rooms_len` of them.
    /// Whoever is in several gets it once. Otherwise as `wsg_server_broadcast`.
    pub fn wsg_server_broadcast_rooms(server: *mut ServerHandle, rooms: *const Str, rooms_len: usize,
        event: *const c_char, event_len: usize, data: *const c_char, data_len: usize, except: *const u64,
        except_len: usize,
    ) -> Status {
        let rooms = named_all(rooms, rooms_len)?;
        let (event, data) = (json::event(event, event_len)?, checked(handled(), data, data_len)?);
        let running = json(server)?;
        running.speaker().broadcast(To::Rooms(&rooms), event, data, &left_out(except, except_len)?)?;
        Ok(broadcast_status(&running))
    }

    /// Sends a text message to several rooms (`raw`). Otherwise as `wsg_server_broadcast_rooms`.
    pub fn wsg_server_broadcast_rooms_text(server: *mut ServerHandle, rooms: *const Str, rooms_len: usize,
        text: *const c_char, text_len: usize, except: *const u64, except_len: usize,
    ) -> Status {
        let (rooms, text) = (named_all(rooms, rooms_len)?, self::text(text, text_len)?);
        let running = raw(server)?;
        running.speaker().broadcast_text(To::Rooms(&rooms), text, &left_out(except, except_len)?)?;
        Ok(broadcast_status(&running))
    }

    /// Sends a binary message to several rooms (`raw`). Otherwise as `wsg_server_broadcast_rooms`.
    pub fn wsg_server_broadcast_rooms_binary(server: *mut ServerHandle, rooms: *const Str, rooms_len: usize,
        payload: *const c_char, payload_len: usize, except: *const u64, except_len: usize,
    ) -> Status {
        let (rooms, payload) = (named_all(rooms, rooms_len)?, bytes(payload, payload_len)?);
        let running = raw(server)?;
        running.speaker().broadcast_binary(To::Rooms(&rooms), payload, &left_out(except, except_len)?)?;
        Ok(broadcast_status(&running))
    }

    /// Emits an event to every connection of a user (`json`), 1 to 256 bytes. Otherwise as `wsg_server_broadcast`.
    pub fn wsg_server_broadcast_user(server: *mut ServerHandle, user: *const c_char, user_len: usize,
        event: *const c_char, event_len: usize, data: *const c_char, data_len: usize, except: *const u64,
        except_len: usize,
    ) -> Status {
        let user = named(user, user_len)?;
        let (event, data) = (json::event(event, event_len)?, checked(handled(), data, data_len)?);
        let running = json(server)?;
        running.speaker().broadcast(To::User(user), event, data, &left_out(except, except_len)?)?;
        Ok(broadcast_status(&running))
    }

    /// Sends a text message to every connection of a user (`raw`). Otherwise as `wsg_server_broadcast_user`.
    pub fn wsg_server_broadcast_user_text(server: *mut ServerHandle, user: *const c_char, user_len: usize,
        text: *const c_char, text_len: usize, except: *const u64, except_len: usize,
    ) -> Status {
        let (user, text) = (named(user, user_len)?, self::text(text, text_len)?);
        let running = raw(server)?;
        running.speaker().broadcast_text(To::User(user), text, &left_out(except, except_len)?)?;
        Ok(broadcast_status(&running))
    }

    /// Sends a binary message to every connection of a user (`raw`). Otherwise as `wsg_server_broadcast_user`.
    pub fn wsg_server_broadcast_user_binary(server: *mut ServerHandle, user: *const c_char, user_len: usize,
        payload: *const c_char, payload_len: usize, except: *const u64, except_len: usize,
    ) -> Status {
        let (user, payload) = (named(user, user_len)?, bytes(payload, payload_len)?);
        let running = raw(server)?;
        running.speaker().broadcast_binary(To::User(user), payload, &left_out(except, except_len)?)?;
        Ok(broadcast_status(&running))
    }

    /// Closes every connection of a user (1 to 256 bytes); the verdict is `session_revoked`. From here on they are
    /// closed for the application, as after `wsg_conn_close`, even when this returns `WSG_ERR_STOPPED`.
    ///
    /// Any thread, callbacks and inline handlers included. Returns `WSG_OK`, `WSG_ERR_ARGUMENT`, `WSG_ERR_STOPPED`,
    /// `WSG_ERR_UTF8`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_disconnect_user(server: *mut ServerHandle, user: *const c_char, user_len: usize) -> Status {
        let user = named(user, user_len)?;
        let running = running(server)?;
        running.peers.close_user(user, || running.commands.disconnect_user(user))?;
        Ok(Status::Ok)
    }

    /// Calls `body`, and hands over together what it sends on this thread: faster for many commands at once.
    /// `wsg_server_run` does this for its handlers. Calls may be nested. `body` must return, as handlers must.
    ///
    /// Any thread. Returns `WSG_OK`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`. `body` is called only if it
    /// returns `WSG_OK`, and before a `WSG_ERR_FORKED` in a child that `body` has forked.
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

    /// Calls `body`. Messages that it sends on this thread go plain, although the option `compression` is on: what is
    /// compressed already, and what holds a secret beside text that somebody else has chosen, whose length would tell of
    /// it. Of an inline handler that calls this, all answers to that message go plain if `body` sends one of them. Calls
    /// may be nested. `body` must return, as handlers must.
    ///
    /// Any thread, callbacks and inline handlers included. Returns `WSG_OK`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or
    /// `WSG_ERR_FORKED`; `body` is called only if it returns `WSG_OK`.
    pub fn wsg_server_plain(server: *mut ServerHandle, body: Option<extern "C-unwind" fn(userdata: *mut c_void)>,
        userdata: *mut c_void,
    ) -> Status {
        let body = body.ok_or(Status::ErrNull)?;
        running(server)?;
        let plain = Plain::begin();
        foreign(|| body(userdata));
        drop(plain);
        Ok(Status::Ok)
    }

    /// Hands over at once what this thread has sent so far in a handler of `wsg_server_run` or in `wsg_server_cork`:
    /// for a handler that has long work to do. Elsewhere it does nothing.
    ///
    /// Any thread. Returns `WSG_OK`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_flush(server: *mut ServerHandle) -> Status {
        running(server)?.commands.flush();
        Ok(Status::Ok)
    }
}
