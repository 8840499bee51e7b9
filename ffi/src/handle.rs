//! Handles: looked up, never followed.
//!
//! A handle is a pointer in type only. Its value names a kind, a generation and a place in that kind's registry; a handle
//! that was freed, invented or cast from another kind is not found.
// THREATS S7.

use std::any::Any;
use std::hash::BuildHasher;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use crate::os::{self, Held};
use crate::status::Status;

/// A type that C sees only by name, and the objects that its handles stand for.
pub trait Opaque: Sized + 'static {
    /// The object behind a handle.
    type Object: Send + Sync + 'static;
    /// Sets the handles of this kind apart; below `KINDS`.
    const KIND: usize;
}

/// More than there are kinds of handles.
const KINDS: usize = 8;
const KIND_BITS: u32 = 4;
const INDEX_BITS: u32 = usize::BITS * 3 / 8;
const GENERATION_BITS: u32 = usize::BITS - KIND_BITS - INDEX_BITS;

/// The living objects of one kind. They are of any type, so that a fork can hold every registry without knowing the kinds.
#[derive(Debug)]
struct Registry(RwLock<Places>);

#[derive(Debug)]
struct Places {
    all: Vec<Place>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Place {
    /// Counts up with every object that was here; never 0, so that no handle is `NULL`.
    generation: usize,
    object: Option<Arc<dyn Any + Send + Sync>>,
}

static REGISTRIES: [Registry; KINDS] =
    [const { Registry(RwLock::new(Places { all: Vec::new(), free: Vec::new() })) }; KINDS];

fn registry<H: Opaque>() -> &'static Registry {
    &REGISTRIES[H::KIND]
}

/// Holds every registry still while the process forks: nobody makes, finds or ends handles meanwhile.
fn hold_all() -> Vec<Box<dyn Held>> {
    let hold = |registry: &'static Registry| -> Box<dyn Held> {
        Box::new(registry.0.write().unwrap_or_else(PoisonError::into_inner))
    };
    REGISTRIES.iter().map(hold).collect()
}

/// Where generations start, in this copy of the library: with two of them in one process (a shared and a static one), the
/// handles of one mean nothing to the other.
pub(crate) fn seed() -> usize {
    static SEED: OnceLock<usize> = OnceLock::new();
    *SEED.get_or_init(|| {
        let random = std::hash::RandomState::new().hash_one(std::process::id()) as usize;
        (random & ((1 << (GENERATION_BITS - 1)) - 1)).max(1)
    })
}

fn token(kind: usize, generation: usize, index: usize) -> usize {
    (kind << GENERATION_BITS | generation) << INDEX_BITS | index
}

/// Makes a handle for `object`.
pub(crate) fn insert<H: Opaque>(object: H::Object) -> Result<*mut H, Status> {
    os::watch_forks(hold_all);
    let mut places = registry::<H>().0.write().unwrap_or_else(PoisonError::into_inner);
    let index = places.free.pop().unwrap_or_else(|| {
        places.all.push(Place { generation: seed(), object: None });
        places.all.len() - 1
    });
    if index >> INDEX_BITS != 0 {
        places.all.pop();
        return Err(Status::ErrHandle);
    }
    let place = &mut places.all[index];
    place.object = Some(Arc::new(object));
    Ok(core::ptr::without_provenance_mut(token(H::KIND, place.generation, index)))
}

/// Returns the object behind a handle.
pub(crate) fn find<H: Opaque>(handle: *const H) -> Result<Arc<H::Object>, Status> {
    let places = registry::<H>().0.read().unwrap_or_else(PoisonError::into_inner);
    let index = place::<H>(&places, handle)?;
    object::<H>(places.all[index].object.clone())
}

/// Ends a handle; the second time it is an error. Others may be using the object still: the last one drops it.
pub(crate) fn remove<H: Opaque>(handle: *const H) -> Result<Arc<H::Object>, Status> {
    let mut places = registry::<H>().0.write().unwrap_or_else(PoisonError::into_inner);
    let index = place::<H>(&places, handle)?;
    let place = &mut places.all[index];
    let object = object::<H>(place.object.take())?;
    place.generation += 1;
    // A place whose generations are used up is never used again: an old handle must not come back to life.
    if place.generation >> GENERATION_BITS == 0 {
        places.free.push(index);
    }
    Ok(object)
}

fn object<H: Opaque>(object: Option<Arc<dyn Any + Send + Sync>>) -> Result<Arc<H::Object>, Status> {
    object.and_then(|object| object.downcast().ok()).ok_or(Status::ErrHandle)
}

fn place<H: Opaque>(places: &Places, handle: *const H) -> Result<usize, Status> {
    if handle.is_null() {
        return Err(Status::ErrNull);
    }
    let index = handle.addr() & ((1 << INDEX_BITS) - 1);
    let known = places.all.get(index).is_some_and(|place| token(H::KIND, place.generation, index) == handle.addr());
    if known { Ok(index) } else { Err(Status::ErrHandle) }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Thing {}

    impl Opaque for Thing {
        type Object = u32;
        const KIND: usize = KINDS - 1;
    }

    #[test]
    fn a_handle_ends_once_and_never_comes_back() {
        let first = insert::<Thing>(7).unwrap();
        assert_eq!(find(first).as_deref(), Ok(&7));
        assert_eq!(remove(first).as_deref(), Ok(&7));
        assert_eq!(remove(first), Err(Status::ErrHandle));
        let second = insert::<Thing>(8).unwrap();
        assert_ne!(first, second);
        assert_eq!(find(first), Err(Status::ErrHandle));
        assert_eq!(find(second).as_deref(), Ok(&8));
        assert_eq!(find(second.wrapping_byte_add(1)), Err(Status::ErrHandle));
        assert_eq!(find::<Thing>(core::ptr::null()), Err(Status::ErrNull));
        assert_eq!(find::<Thing>(core::ptr::without_provenance(usize::MAX)), Err(Status::ErrHandle));
        remove(second).unwrap();
    }
}
