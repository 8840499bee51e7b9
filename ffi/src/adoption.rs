//! Connections that another server accepted: descriptors, and pipes, whose bytes the application brings and takes.

use core::ffi::{c_char, c_int};
use core::mem::MaybeUninit;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

use wsguard::binding::{self, Pipe, PipeId, Taken};

use crate::error::{ErrorHandle, Failure, explain};
use crate::os;
use crate::pointers::{Str, buffer, bytes, optional_text, out, sized, write_to};
use crate::running::{ServerHandle, running};
use crate::status::Status;

/// What is told of a connection that another server accepted, for `wsg_server_adopt_fd` and `wsg_server_adopt_pipe`. Set it to
/// zeroes, then `size` and what you know. The library reads it, and what it points at, during the call.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Adoption {
    /// `sizeof(wsg_adoption)`: the library does not read further, and later versions may add members.
    pub size: usize,
    /// The bytes that were read of it: of the request head, and of what came behind. `NULL` and 0: none were.
    pub received: Str,
    /// The peer's address and port: `203.0.113.7:4711`, `[2001:db8::7]:4711`. `data` is `NULL`: the socket's own, where it has
    /// one.
    pub peer: Str,
    /// The address and port that it came in on. `data` is `NULL`: the socket's own, where it has one.
    pub local: Str,
    /// Comes back once: as `wsg_open.adopted`, or in `WSG_EVENT_ADOPTION_ENDED` when there will be no connection. Maybe a
    /// pointer or an index; 0: nothing, and then nothing is told.
    pub tag: u64,
    /// Not 0: TLS was ended before the connection came here, so that it is not plain text wherever it came in.
    pub is_secure: c_int,
}

impl Default for Adoption {
    fn default() -> Self {
        Self { size: 0, received: Str::NONE, peer: Str::NONE, local: Str::NONE, tag: 0, is_secure: 0 }
    }
}

fn address(member: &str, text: Str) -> Result<Option<SocketAddr>, Failure> {
    let Some(text) = optional_text(text.data, text.len)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        let message = format!("adoption.{member} must be an address and a port, such as 203.0.113.7:4711");
        Failure::new(Status::ErrArgument, message)
    })
}

impl Adoption {
    fn read(&self) -> Result<binding::Adoption, Failure> {
        Ok(binding::Adoption {
            peer: address("peer", self.peer)?,
            local: address("local", self.local)?,
            received: bytes(self.received.data, self.received.len)?.to_vec(),
            tag: (self.tag != 0).then_some(self.tag),
            is_secure: self.is_secure != 0,
        })
    }
}

/// A stream socket of ours.
#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// The connection behind a descriptor, which stays as it is.
    fn of(fd: c_int) -> io::Result<Self> {
        let second = os::second_stream(fd)?;
        let stream = TcpStream::from(second);
        if stream.local_addr().is_ok() {
            return Ok(Self::Tcp(stream));
        }
        let stream = UnixStream::from(std::os::fd::OwnedFd::from(stream));
        stream.local_addr().map(|_| Self::Unix(stream))
    }

    fn is_connected(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.peer_addr().is_ok(),
            Self::Unix(stream) => stream.peer_addr().is_ok(),
        }
    }
}

/// A pipe that was not freed.
fn pipe(server: *const ServerHandle, id: u64) -> Result<Pipe, Status> {
    running(server)?.pipes.get(PipeId::from_u64(id)).ok_or(Status::ErrHandle)
}

exports! {
    /// Takes over a connection that another server has accepted: a connected TCP or Unix stream socket without TLS. It gets the
    /// verdicts of any other opening handshake, and a refusal is answered on it. `adoption` says what is known of it: what was
    /// read from it must be stated there; whatever was not is read here.
    ///
    /// On `WSG_OK` the descriptor is the library's, which has closed this number: do not use it any more. On any error it is
    /// yours as before, to answer on it or to close it. A program whose event loop closes its descriptors itself passes a
    /// `dup` of one, and closes its own.
    ///
    /// The call writes `*error` as `wsg_error` says. Any thread, callbacks and inline handlers included. Returns `WSG_OK`;
    /// `WSG_ERR_ARGUMENT` if `fd` is not such a socket, if a member of `adoption` is not accepted or unknown to this library,
    /// or if the options cannot be kept on it (`tls` or `proxy_protocol` is on, or it is plain text on an address that is not
    /// loopback); `WSG_ERR_CONNECTION_CLOSED` if the peer has left; `WSG_ERR_STOPPED`, `WSG_ERR_UTF8`, `WSG_ERR_NULL`,
    /// `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_adopt_fd(server: *mut ServerHandle, fd: c_int, adoption: *const Adoption,
        error: Option<&mut MaybeUninit<*mut ErrorHandle>>,
    ) -> Status {
        explain(error, || {
            let running = running(server)?;
            let adoption = sized(adoption)?.read()?;
            let no_stream = |error: io::Error| {
                Failure::new(Status::ErrArgument, format!("fd must be a TCP or Unix stream socket: {error}"))
            };
            let stream = Stream::of(fd).map_err(no_stream)?;
            if !stream.is_connected() {
                return Err(Status::ErrConnectionClosed.into());
            }
            match stream {
                Stream::Tcp(stream) => running.commands.adopt(stream, adoption)?,
                Stream::Unix(stream) => running.commands.adopt_unix(stream, adoption)?,
            }
            os::close(fd);
            Ok(())
        })?;
        Ok(Status::Ok)
    }

    /// Takes over a connection that has no socket for the library: TLS that you end yourself, a stream of HTTP/2, a pair in
    /// memory. You bring the peer's bytes (`wsg_pipe_push`, `wsg_pipe_end`) and take those for the peer (`wsg_pipe_take`, when
    /// `WSG_EVENT_PIPE_READY` says so). `adoption` is as with `wsg_server_adopt_fd`; without `is_secure` the bytes are plain
    /// text on its `local`, otherwise on its `peer`.
    ///
    /// On `WSG_OK` `*pipe` is the number of the pipe, never 0; it is yours until `wsg_pipe_free`. Otherwise `*pipe` is 0. No
    /// thread and no descriptor stands behind a pipe. Its number is no connection: that has its own from its open on, which
    /// `adoption.tag` comes back with. Another thread may be told of a pipe before this returns.
    ///
    /// The call writes `*error` as `wsg_error` says. Any thread, callbacks and inline handlers included. Returns as
    /// `wsg_server_adopt_fd`.
    pub fn wsg_server_adopt_pipe(server: *mut ServerHandle, adoption: *const Adoption,
        pipe: Option<&mut MaybeUninit<u64>>, error: Option<&mut MaybeUninit<*mut ErrorHandle>>,
    ) -> Status {
        explain(error, || {
            let place = out(pipe)?;
            place.write(0);
            let running = running(server)?;
            let adoption = sized(adoption)?.read()?;
            let tag = adoption.tag.unwrap_or(0);
            let id = running.pipes.keep(tag, || running.commands.adopt_pipe(adoption))?;
            place.write(id.to_u64());
            Ok(())
        })?;
        Ok(Status::Ok)
    }

    /// Hands over bytes that came from the peer of a pipe. They are always taken, and copied.
    ///
    /// Any thread, callbacks and inline handlers included; the bytes must come in their order. Returns `WSG_OK`;
    /// `WSG_QUEUED` if more than 64 KiB wait by now: push no more until `WSG_EVENT_PIPE_ROOM` (a pipe on which you go on to
    /// push beyond 16 MiB is broken off); `WSG_ERR_HANDLE` if the pipe was freed or never existed; `WSG_ERR_NULL` or
    /// `WSG_ERR_FORKED`. What comes when the connection is over is dropped, with `WSG_OK`.
    pub fn wsg_pipe_push(server: *mut ServerHandle, pipe: u64, data: *const c_char, data_len: usize) -> Status {
        let data = bytes(data, data_len)?;
        Ok(if self::pipe(server, pipe)?.push(data) { Status::Ok } else { Status::Queued })
    }

    /// Says that the peer of a pipe has ended its side: nothing more is pushed. What the server has for it may still be taken.
    ///
    /// Any thread. Returns `WSG_OK`, also the second time; `WSG_ERR_HANDLE` if the pipe was freed or never existed;
    /// `WSG_ERR_NULL` or `WSG_ERR_FORKED`.
    pub fn wsg_pipe_end(server: *mut ServerHandle, pipe: u64) -> Status {
        self::pipe(server, pipe)?.end();
        Ok(Status::Ok)
    }

    /// Says that the transport of a pipe broke: its connection ends, and what waits for the peer is dropped. Free it all the
    /// same. Otherwise as `wsg_pipe_end`.
    pub fn wsg_pipe_abort(server: *mut ServerHandle, pipe: u64) -> Status {
        self::pipe(server, pipe)?.abort();
        Ok(Status::Ok)
    }

    /// Takes bytes for the peer of a pipe: at most `buffer_len`, 1 or more. `*len` becomes their number, and `*is_ended` is
    /// true if nothing follows them: end your side of the transport, and free the pipe. What was not taken counts as unsent
    /// (`wsg_conn_buffered_bytes`, `max_outbox_bytes`), as with a peer that does not read.
    ///
    /// `WSG_EVENT_PIPE_READY` tells once that there is something, and again when all of that was taken and more has come: so
    /// take until `WSG_NOTHING`, or until `*len` is smaller than `buffer_len`.
    ///
    /// Any thread, callbacks and inline handlers included; one at a time for the bytes to stay in order. Returns `WSG_OK`;
    /// `WSG_NOTHING` if there are no bytes; `WSG_ERR_ARGUMENT` if `buffer_len` is 0; `WSG_ERR_HANDLE` if the pipe was freed or
    /// never existed; `WSG_ERR_NULL` or `WSG_ERR_FORKED`. On an error nothing is written, and nothing is taken.
    pub fn wsg_pipe_take(server: *mut ServerHandle, pipe: u64, buffer: *mut c_char, buffer_len: usize,
        len: Option<&mut MaybeUninit<usize>>, is_ended: Option<&mut MaybeUninit<bool>>,
    ) -> Status {
        let (len, is_over) = (out(len)?, out(is_ended)?);
        let room = self::buffer(buffer, buffer_len)?;
        if room.is_empty() {
            return Err(Status::ErrArgument);
        }
        let mut taken = Vec::new();
        let Taken { is_ended, .. } = self::pipe(server, pipe)?.take(&mut taken, room.len());
        write_to(room, &taken);
        len.write(taken.len());
        is_over.write(is_ended);
        Ok(if taken.is_empty() { Status::Nothing } else { Status::Ok })
    }

    /// Frees a pipe. If its connection has not ended, that is a `wsg_pipe_abort`. `wsg_server_free` frees every pipe of the
    /// server.
    ///
    /// Any thread. Returns `WSG_OK`; `WSG_ERR_HANDLE` the second time; `WSG_ERR_NULL` or `WSG_ERR_FORKED`.
    pub fn wsg_pipe_free(server: *mut ServerHandle, pipe: u64) -> Status {
        if running(server)?.pipes.free(PipeId::from_u64(pipe)) { Ok(Status::Ok) } else { Err(Status::ErrHandle) }
    }
}
