//! Connections whose bytes come through JavaScript: streams of Node that have no socket for us.

use std::collections::HashMap;

use napi::bindgen_prelude::Buffer;
use napi_derive::napi;
use wsguard::binding::{Adoption, Error, Pipe, PipeId, ServerHandle};

use crate::connections::{join_u64, split_u64};

/// What is told of a connection that Node accepted, beside what was read of it.
#[napi(object)]
pub struct Adopted {
    /// The peer, as `address:port`; a socket of ours knows it.
    pub peer: Option<String>,
    /// The address that it came in on.
    pub local: Option<String>,
    /// TLS was ended before.
    pub is_secure: bool,
    /// Comes back with the handshake, the connection, or the end of both.
    pub tag: u32,
}

impl Adopted {
    pub(crate) fn with(self, received: &[u8]) -> Adoption {
        let address = |text: Option<String>| text.and_then(|text| text.parse().ok());
        Adoption {
            peer: address(self.peer),
            local: address(self.local),
            received: received.to_vec(),
            tag: Some(self.tag.into()),
            is_secure: self.is_secure,
        }
    }
}

/// Bytes for a peer.
#[napi(object)]
pub struct Taken {
    /// The bytes.
    pub bytes: Buffer,
    /// Nothing follows.
    pub is_ended: bool,
    /// There is more at once.
    pub more: bool,
}

/// The application's ends of pipes, until their transport is closed.
#[derive(Debug, Default)]
pub(crate) struct Pipes(HashMap<PipeId, Pipe>);

impl Pipes {
    /// Hands a connection over. Returns the words of the pipe's id.
    pub(crate) fn adopt(&mut self, server: &ServerHandle, adoption: Adoption) -> Result<Vec<u32>, Error> {
        let pipe = server.adopt_pipe(adoption)?;
        let id = pipe.id();
        self.0.insert(id, pipe);
        Ok(split_u64(id.to_u64()).to_vec())
    }

    pub(crate) fn get(&self, low: u32, high: u32) -> Option<&Pipe> {
        self.0.get(&PipeId::from_u64(join_u64(low, high)))
    }

    /// Bytes for the peer, `most` at most.
    pub(crate) fn take(&self, low: u32, high: u32, most: u32) -> Taken {
        let mut bytes = Vec::new();
        let Some(pipe) = self.get(low, high) else {
            return Taken { bytes: bytes.into(), is_ended: true, more: false };
        };
        let taken = pipe.take(&mut bytes, most as usize);
        Taken { bytes: bytes.into(), is_ended: taken.is_ended, more: taken.more }
    }

    /// The transport is gone.
    pub(crate) fn drop_one(&mut self, low: u32, high: u32) {
        self.0.remove(&PipeId::from_u64(join_u64(low, high)));
    }
}
