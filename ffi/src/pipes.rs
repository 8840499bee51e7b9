//! Pipes, whose bytes the application brings and takes: numbers for C, and kept here until they are freed.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use wsguard::binding::{Pipe, PipeId};

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
    pub(crate) fn free(&self, id: PipeId) -> bool {
        let mut pipes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let freed = pipes.remove(&id);
        pipes.shrink_to(4096);
        drop(pipes);
        freed.is_some()
    }
}
