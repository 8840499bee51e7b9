//! Pipes: connections whose bytes the application brings and takes. They are numbers for C, and kept here until they are freed.

use core::ffi::c_char;
use core::mem::MaybeUninit;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use wsguard::binding::{Pipe, PipeId, Taken};

use crate::pointers::{buffer, bytes, out, write_to};
use crate::running::{ServerHandle, running};
use crate::status::Status;

/// The pipes of one server that were not freed, each with the tag of its adoption.
#[derive(Debug, Default)]
pub(crate) struct Pipes(RwLock<HashMap<PipeId, (Pipe, u64)>>);

impl Pipes {
    fn read(&self) -> RwLockReadGuard<'_, HashMap<PipeId, (Pipe, u64)>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the pipe that `make` makes; whoever is told of it meanwhile on another thread waits until it is here.
    pub(crate) fn keep<E>(&self, tag: u64, make: impl FnOnce() -> Result<Pipe, E>) -> Result<PipeId, E> {
        let mut pipes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let pipe = make()?;
        let id = pipe.id();
        pipes.insert(id, (pipe, tag));
        Ok(id)
    }

    pub(crate) fn get(&self, id: PipeId) -> Option<Pipe> {
        self.read().get(&id).map(|(pipe, _)| pipe.clone())
    }

    /// The tag of its adoption; `None`: it was freed.
    pub(crate) fn tag(&self, id: PipeId) -> Option<u64> {
        self.read().get(&id).map(|(_, tag)| *tag)
    }

    /// Lets it go: false if that was done before.
    fn free(&self, id: PipeId) -> bool {
        let mut pipes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let freed = pipes.remove(&id);
        pipes.shrink_to(4096);
        drop(pipes);
        freed.is_some()
    }
}

/// A pipe that was not freed.
fn pipe(server: *const ServerHandle, id: u64) -> Result<Pipe, Status> {
    running(server)?.pipes.get(PipeId::from_u64(id)).ok_or(Status::ErrHandle)
}

exports! {
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
