//! The memory that the arguments of a call point at: read and written during the call, and copied to be kept.
#![expect(unsafe_code, reason = "reads and writes what C points at, and lets threads share its pointers")]

use core::ffi::{c_char, c_void};
use core::mem::MaybeUninit;

use crate::status::Status;

/// A text, or bytes. `data` is `NULL` if there is none, which is not the same as an empty text. The library owns those
/// that it gives you; in a struct that you fill in they are yours. A zero byte follows only if the function says so.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Str {
    /// The first byte.
    pub data: *const c_char,
    /// The number of bytes.
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
    // until the call returns, and what is kept longer is copied.
    Ok(unsafe { core::slice::from_raw_parts(data.cast(), len) })
}

/// A C value of which every pattern of bytes is one: numbers, and pointers that are not followed here.
pub(crate) trait Plain: Copy {}
impl Plain for u64 {}
impl Plain for Str {}

/// The array of an argument. `NULL` is accepted for none.
pub(crate) fn array<'call, T: Plain>(first: *const T, count: usize) -> Result<&'call [T], Status> {
    if count == 0 {
        return Ok(&[]);
    }
    if first.is_null() {
        return Err(Status::ErrNull);
    }
    if !first.is_aligned() || count > isize::MAX as usize / size_of::<T>() {
        return Err(Status::ErrArgument);
    }
    // SAFETY: not null, aligned and not longer than an object can be; the header asks for `count` values that stay as they
    // are until the call returns, and what is there is one, since `T` is plain.
    Ok(unsafe { core::slice::from_raw_parts(first, count) })
}

/// The text of an argument.
pub(crate) fn text<'call>(data: *const c_char, len: usize) -> Result<&'call str, Status> {
    simdutf8::basic::from_utf8(bytes(data, len)?).map_err(|_| Status::ErrUtf8)
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

/// Reads a struct whose first member is its size, of an older header or of a newer one: members that the older one does not
/// have are as in `T::default()`, members that this library does not know must be 0.
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

/// Writes `from` to the start of a buffer, as far as that goes.
pub(crate) fn write_to(buffer: &mut [MaybeUninit<u8>], from: &[u8]) {
    for (place, byte) in buffer.iter_mut().zip(from) {
        place.write(*byte);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn an_array_is_a_pointer_and_a_count() {
        assert_eq!(array::<u64>(core::ptr::null(), 0), Ok(&[][..]));
        assert_eq!(array::<u64>(core::ptr::null(), 1), Err(Status::ErrNull));
        assert_eq!(array::<u64>([7, 8].as_ptr(), 2), Ok(&[7, 8][..]));
        assert_eq!(array::<u64>([7, 8].as_ptr().wrapping_byte_add(1), 1), Err(Status::ErrArgument));
        assert_eq!(array::<u64>([7].as_ptr(), usize::MAX), Err(Status::ErrArgument));
    }
}
