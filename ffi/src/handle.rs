//! Every pointer of the C face: handles that are looked up and never followed, and the arguments of one call.
//!
//! A handle is a pointer in type only. Its value names a kind, a generation and a place in that kind's registry; what was
//! freed, invented or cast from another kind is found to be nothing (THREATS S7). The arguments of a call are read while
//! the call runs; what is stored is copied.
#![expect(unsafe_code, reason = "the one file that reads what C points at, and shares it between threads")]

use core::cell::Cell;
use core::ffi::{c_char, c_void};
use core::mem::MaybeUninit;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use wsguard::binding::Replies;

use crate::events::{Close, Event, EventKind, Message, Open, Upgrade, Violation};
use crate::inline::Asked;
use crate::json::Known;
use crate::os;
use crate::status::Status;

// --- handles ------------------------------------------------------------------------------------------------------

/// A type that C sees only by name, and the objects its handles stand for.
pub trait Opaque: Sized + 'static {
    /// What a handle stands for.
    type Object: Send + Sync;
    /// Sets the handles of this kind apart.
    const KIND: usize;
    /// Where the objects are.
    fn registry() -> &'static Registry<Self::Object>;
}

const KIND_BITS: u32 = 4;
const INDEX_BITS: u32 = usize::BITS * 3 / 8;
const GENERATION_BITS: u32 = usize::BITS - KIND_BITS - INDEX_BITS;

/// The living objects of one kind.
#[derive(Debug)]
pub struct Registry<T> {
    places: RwLock<Places<T>>,
}

#[derive(Debug)]
pub(crate) struct Places<T> {
    all: Vec<Place<T>>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Place<T> {
    /// Counts up with every object that was here; never 0, so that no handle is `NULL`.
    generation: usize,
    object: Option<Arc<T>>,
}

impl<T> Registry<T> {
    /// An empty one.
    pub(crate) const fn new() -> Self {
        Self { places: RwLock::new(Places { all: Vec::new(), free: Vec::new() }) }
    }
}

/// A lock that is held for a while, whatever it guards.
pub(crate) trait Held {}

impl<T> Held for T {}

/// Holds a registry still: nobody makes, finds or ends its handles meanwhile.
pub(crate) fn hold<H: Opaque>() -> Box<dyn Held> {
    Box::new(H::registry().places.write().unwrap_or_else(PoisonError::into_inner))
}

/// Where generations start, in this copy of the library: with two of them in one process (a shared and a static one), the
/// handles of one mean nothing to the other.
fn seed() -> usize {
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
    os::watch_forks();
    let mut places = H::registry().places.write().unwrap_or_else(PoisonError::into_inner);
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

/// What a handle stands for.
pub(crate) fn find<H: Opaque>(handle: *const H) -> Result<Arc<H::Object>, Status> {
    let places = H::registry().places.read().unwrap_or_else(PoisonError::into_inner);
    let index = place::<H>(&places, handle)?;
    places.all[index].object.clone().ok_or(Status::ErrHandle)
}

/// Ends a handle; the second time it is an error. Others may be using the object still: the last one drops it.
pub(crate) fn remove<H: Opaque>(handle: *const H) -> Result<Arc<H::Object>, Status> {
    let mut places = H::registry().places.write().unwrap_or_else(PoisonError::into_inner);
    let index = place::<H>(&places, handle)?;
    let place = &mut places.all[index];
    let object = place.object.take().ok_or(Status::ErrHandle)?;
    place.generation += 1;
    // A place whose generations are used up is never used again: an old handle must not come back to life.
    if place.generation >> GENERATION_BITS == 0 {
        places.free.push(index);
    }
    Ok(object)
}

fn place<H: Opaque>(places: &Places<H::Object>, handle: *const H) -> Result<usize, Status> {
    if handle.is_null() {
        return Err(Status::ErrNull);
    }
    let index = handle.addr() & ((1 << INDEX_BITS) - 1);
    let known = places.all.get(index).is_some_and(|place| token(H::KIND, place.generation, index) == handle.addr());
    if known { Ok(index) } else { Err(Status::ErrHandle) }
}

/// Locks, whatever happened to the thread that had it before.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// --- arguments ----------------------------------------------------------------------------------------------------

/// A text or bytes of the library, seen by C: `data` is `NULL` where there is none. Not terminated by a zero byte unless
/// the function that gives it says so.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Str {
    /// The first byte.
    pub data: *const c_char,
    /// How many bytes.
    pub len: usize,
}

impl Str {
    /// Nothing.
    pub(crate) const NONE: Str = Str { data: core::ptr::null(), len: 0 };

    /// A view of `text`, which must stay where it is for as long as the header promises.
    pub(crate) fn of(text: &str) -> Str {
        Self::bytes(text.as_bytes())
    }

    /// A view of `bytes`, likewise.
    pub(crate) fn bytes(bytes: &[u8]) -> Str {
        // Rust's empty slices point anywhere; some C functions want a readable address all the same.
        let data = if bytes.is_empty() { c"".as_ptr() } else { bytes.as_ptr().cast() };
        Str { data, len: bytes.len() }
    }

    /// A view of `text` where there is one.
    pub(crate) fn maybe(text: Option<&str>) -> Str {
        text.map_or(Str::NONE, Str::of)
    }
}

/// The bytes of an argument. `NULL` is accepted for none.
pub(crate) fn bytes<'call>(data: *const c_char, len: usize) -> Result<&'call [u8], Status> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(Status::ErrNull);
    }
    if isize::try_from(len).is_err() {
        return Err(Status::ErrArgument);
    }
    // SAFETY: not null and not longer than an object can be; the header asks that `len` bytes are readable and unchanged
    // until the call returns, and what is longer-lived than the call is copied.
    Ok(unsafe { core::slice::from_raw_parts(data.cast(), len) })
}

/// The text of an argument.
pub(crate) fn text<'call>(data: *const c_char, len: usize) -> Result<&'call str, Status> {
    core::str::from_utf8(bytes(data, len)?).map_err(|_| Status::ErrUtf8)
}

/// The text of an argument that names something: `NULL` is not an empty one, but a mistake.
pub(crate) fn name<'call>(data: *const c_char, len: usize) -> Result<&'call str, Status> {
    if data.is_null() { Err(Status::ErrNull) } else { text(data, len) }
}

/// The text of an argument that may be `NULL`, which says something else than an empty text.
pub(crate) fn optional_text<'call>(data: *const c_char, len: usize) -> Result<Option<&'call str>, Status> {
    if data.is_null() && len == 0 {
        return Ok(None);
    }
    text(data, len).map(Some)
}

/// Where a result goes.
pub(crate) fn out<T>(place: Option<&mut MaybeUninit<T>>) -> Result<&mut MaybeUninit<T>, Status> {
    place.ok_or(Status::ErrNull)
}

/// The largest struct that a header can speak of; a size beyond it was never written.
const LARGEST: usize = 4096;

/// Copies `from` to a struct of `len` bytes, of an older header or of a newer one, whose tail becomes 0.
pub(crate) fn copy_out<T: Copy>(from: &T, to: *mut T, len: usize) -> Result<(), Status> {
    if to.is_null() {
        return Err(Status::ErrNull);
    }
    if len == 0 || len > LARGEST {
        return Err(Status::ErrArgument);
    }
    let known = len.min(size_of::<T>());
    // SAFETY: the header asks for a struct of `len` writable bytes; it cannot overlap a value of ours.
    unsafe {
        core::ptr::copy_nonoverlapping(core::ptr::from_ref(from).cast::<u8>(), to.cast::<u8>(), known);
        core::ptr::write_bytes(to.cast::<u8>().add(known), 0, len - known);
    }
    Ok(())
}

/// Reads a struct whose first member is its size, of an older header or of a newer one: what the older one does not have
/// is as in `T::default()`, what this library does not know of must be 0.
pub(crate) fn sized<T: Copy + Default>(from: *const T) -> Result<T, Status> {
    let Some(first) = core::ptr::NonNull::new(from.cast_mut().cast::<u8>()) else { return Err(Status::ErrNull) };
    // SAFETY: not null, and every such struct of the header starts with its size.
    let len = unsafe { first.cast::<usize>().read_unaligned() };
    if !(size_of::<usize>()..=LARGEST).contains(&len) {
        return Err(Status::ErrArgument);
    }
    // SAFETY: the struct says that it has `len` bytes, and the header asks for that to be true.
    let given = unsafe { core::slice::from_raw_parts(first.as_ptr(), len) };
    let (known, unknown) = given.split_at(len.min(size_of::<T>()));
    if unknown.iter().any(|byte| *byte != 0) {
        return Err(Status::ErrArgument);
    }
    let mut seen = T::default();
    // SAFETY: `T` is a C struct of numbers and nullable pointers, for which what C wrote in its place is a value; no more
    // than its size is copied.
    unsafe { core::ptr::copy_nonoverlapping(known.as_ptr(), (&raw mut seen).cast::<u8>(), known.len()) };
    Ok(seen)
}

/// A buffer of the caller's: `NULL` where it has none.
pub(crate) fn buffer<'call>(data: *mut c_char, len: usize) -> Result<&'call mut [MaybeUninit<u8>], Status> {
    if len == 0 {
        return Ok(&mut []);
    }
    if data.is_null() {
        return Err(Status::ErrNull);
    }
    if isize::try_from(len).is_err() {
        return Err(Status::ErrArgument);
    }
    // SAFETY: not null and not longer than an object can be; the header asks for `len` writable bytes that nobody else
    // uses during the call.
    Ok(unsafe { core::slice::from_raw_parts_mut(data.cast(), len) })
}

/// The elements of an array that C was given as a view of ours.
pub(crate) fn elements<'view, T>(first: *const T, count: usize) -> &'view [T] {
    if first.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: pointer and count come from `Views`, whose arrays live until the batch is freed; the header forbids using
    // an event after that.
    unsafe { core::slice::from_raw_parts(first, count) }
}

/// What an event says, by its kind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen<'event> {
    Upgrade(&'event Upgrade),
    Open(&'event Open),
    Payload(Str),
    Message(&'event Message),
    Close(&'event Close),
    Violation(&'event Violation),
    Drained,
}

/// What an event of ours says.
pub(crate) fn seen(event: &Event) -> Seen<'_> {
    // SAFETY: kind and body are set together, in `views.rs` alone, and C gets events to read only; the pointers lead into
    // the same `Views` as the event, which is borrowed.
    unsafe {
        match event.kind {
            EventKind::Upgrade => Seen::Upgrade(&*event.body.upgrade),
            EventKind::Open => Seen::Open(&*event.body.open),
            EventKind::Text | EventKind::Binary => Seen::Payload(event.body.payload),
            EventKind::Message => Seen::Message(&*event.body.message),
            EventKind::Close => Seen::Close(&*event.body.close),
            EventKind::Violation => Seen::Violation(&*event.body.violation),
            EventKind::Drained => Seen::Drained,
        }
    }
}

/// The JSON of a message of ours, which the core has checked.
pub(crate) fn known(message: &Message) -> Known {
    let text = |Str { data, len }| (data.addr(), len);
    Known::at(text(message.data), text(message.id))
}

/// The application's own pointer, given back to its callbacks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Userdata(*mut c_void);

// SAFETY: the library never follows it. The header says on which threads callbacks get it.
unsafe impl Send for Userdata {}
// SAFETY: as above.
unsafe impl Sync for Userdata {}

impl Userdata {
    pub(crate) const NONE: Self = Self(core::ptr::null_mut());

    pub(crate) fn new(pointer: *mut c_void) -> Self {
        Self(pointer)
    }

    pub(crate) fn pointer(self) -> *mut c_void {
        self.0
    }
}

/// Views of a batch: pointers into buffers that the same value owns.
#[derive(Debug, Default)]
pub(crate) struct Pinned<T>(pub(crate) T);

// SAFETY: only `Views` is kept in it. Its pointers lead to heap buffers that it owns and that nobody changes while C can
// see them, so the thread that holds it does not matter.
unsafe impl<T> Send for Pinned<T> {}

// --- the answers of an inline handler -------------------------------------------------------------------------------

/// The call of an inline handler that this thread is in.
#[derive(Clone, Copy)]
struct InlineCall {
    /// 0: none.
    token: usize,
    replies: *mut Replies<'static>,
    asked: Asked,
    replied: bool,
}

impl InlineCall {
    const NONE: Self = Self {
        token: 0,
        replies: core::ptr::null_mut(),
        asked: Asked { kind: EventKind::Text, known: Known::NOTHING, max_outbox_bytes: 0 },
        replied: false,
    };
}

thread_local! {
    static INLINE_CALL: Cell<InlineCall> = const { Cell::new(InlineCall::NONE) };
    /// The next token of this thread: no two calls have the same, on whatever threads.
    static NEXT_TOKEN: Cell<usize> =
        Cell::new(THREADS.fetch_add(1, Ordering::Relaxed).wrapping_add(seed()) << TOKEN_BITS | 1);
}

const TOKEN_BITS: u32 = usize::BITS * 5 / 8;
static THREADS: AtomicUsize = AtomicUsize::new(1);

/// Calls C with a handle for `replies` that ends with the call, and says whether C replied.
pub(crate) fn lend_replies<H, R>(replies: &mut Replies<'_>, asked: Asked, call: impl FnOnce(*mut H) -> R) -> (R, bool) {
    struct End(InlineCall);
    impl Drop for End {
        fn drop(&mut self) {
            INLINE_CALL.set(self.0);
        }
    }
    let token = NEXT_TOKEN.get();
    NEXT_TOKEN.set(token.wrapping_add(1));
    let replies = core::ptr::from_mut(replies).cast();
    let _end = End(INLINE_CALL.replace(InlineCall { token, replies, asked, replied: false }));
    let returned = call(core::ptr::without_provenance_mut(token));
    (returned, INLINE_CALL.get().replied)
}

/// The answers that a handle stands for: during its call, on its thread.
pub(crate) fn with_replies<H>(
    handle: *const H,
    reply: impl FnOnce(&mut Replies<'_>, Asked) -> Result<(), Status>,
) -> Result<(), Status> {
    if handle.is_null() {
        return Err(Status::ErrNull);
    }
    let call = INLINE_CALL.get();
    if call.token != handle.addr() {
        return Err(Status::ErrHandle);
    }
    // SAFETY: the token is that of the call this thread is in, so `lend_replies` has not returned and its exclusive
    // reference is live; it is lent to nobody else, since `reply` does not call C.
    reply(unsafe { &mut *call.replies }, call.asked)?;
    INLINE_CALL.set(InlineCall { replied: true, ..call });
    Ok(())
}

/// Whether this thread is one of the library's, inside an inline handler.
pub(crate) fn is_inline() -> bool {
    INLINE_CALL.get().token != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Thing {}

    impl Opaque for Thing {
        type Object = u32;
        const KIND: usize = 15;
        fn registry() -> &'static Registry<u32> {
            static THINGS: Registry<u32> = Registry::new();
            &THINGS
        }
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

    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    #[repr(C)]
    struct Grown {
        size: usize,
        old: usize,
        new: usize,
    }

    #[test]
    fn a_struct_of_another_header_is_read_as_far_as_both_know_it() {
        let both = size_of::<Grown>();
        let given = |size| [Grown { size, old: 7, new: 8 }, Grown { size: 0, old: 0, new: 0 }];
        assert_eq!(sized(given(both).as_ptr()), Ok(Grown { size: both, old: 7, new: 8 }));
        let older = 2 * size_of::<usize>();
        assert_eq!(sized(given(older).as_ptr()), Ok(Grown { size: older, old: 7, new: 0 }));
        assert_eq!(sized(given(2 * both).as_ptr()).map(|seen| seen.new), Ok(8));
        let mut newer = given(2 * both);
        newer[1].new = 1;
        assert_eq!(sized(newer.as_ptr()), Err(Status::ErrArgument), "a member that this library does not know");
        assert_eq!(sized(given(0).as_ptr()), Err(Status::ErrArgument));
        assert_eq!(sized(given(usize::MAX).as_ptr()), Err(Status::ErrArgument));
        assert_eq!(sized::<Grown>(core::ptr::null()), Err(Status::ErrNull));
        let mut to = given(9);
        copy_out(&Grown { size: 1, old: 2, new: 3 }, to.as_mut_ptr(), 2 * both).unwrap();
        assert_eq!((to[0].new, to[1]), (3, Grown::default()), "the tail is 0");
        assert_eq!(copy_out(&0, &mut 0, usize::MAX), Err(Status::ErrArgument));
        assert_eq!(copy_out(&0, &mut 0, 0), Err(Status::ErrArgument));
    }

    #[test]
    fn no_text_and_an_empty_text_are_two_things() {
        assert_eq!(optional_text(core::ptr::null(), 0), Ok(None));
        assert_eq!(optional_text(c"".as_ptr(), 0), Ok(Some("")));
        assert_eq!(text(core::ptr::null(), 0), Ok(""));
        assert_eq!(name(core::ptr::null(), 0), Err(Status::ErrNull));
        assert_eq!(text(core::ptr::null(), 1), Err(Status::ErrNull));
        assert_eq!(text(c"\xff".as_ptr(), 1), Err(Status::ErrUtf8));
        assert_eq!(bytes(c"x".as_ptr(), usize::MAX), Err(Status::ErrArgument));
    }

    #[test]
    fn answers_end_with_their_call() {
        assert_eq!(with_replies::<Thing>(core::ptr::null(), |_, _| Ok(())), Err(Status::ErrNull));
        assert_eq!(with_replies::<Thing>(core::ptr::without_provenance(1), |_, _| Ok(())), Err(Status::ErrHandle));
        assert!(!is_inline());
    }
}
