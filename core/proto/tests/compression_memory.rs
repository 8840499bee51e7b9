//! What the compressors and the inflater of a shard hold between messages, which SECURITY.md names.
//! `cargo test -p wsguard-proto --test compression_memory -- --nocapture` prints it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use wsguard_proto::deflate::{Agreed, Compressed, Deflater, Inflater};

static HELD: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[expect(unsafe_code, reason = "an allocator cannot be written without; it only counts and forwards")]
// SAFETY: every call is forwarded to the system allocator unchanged; `realloc` comes as these two.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const KIB: usize = 1024;
/// What SECURITY.md says of each.
const SHORT: usize = 150 * KIB;
const OTHER: usize = 384 * KIB;
const ALL_WINDOWS: usize = 2200 * KIB;
const INFLATER: usize = 32 * KIB;

fn text(len: usize) -> Vec<u8> {
    (0..len / 8).flat_map(|at| format!("{:08x}", at * at % 977).into_bytes()).collect()
}

/// Bytes that stay with what `make` returns.
fn held<T>(make: impl FnOnce() -> T) -> (usize, T) {
    let before = HELD.load(Ordering::Relaxed);
    let made = make();
    (HELD.load(Ordering::Relaxed) - before, made)
}

/// The compressor of one level and some windows, after a message of so many bytes.
fn of_deflater(level: u8, windows: impl Iterator<Item = u8>, message: &[u8]) -> usize {
    let mut out = Vec::with_capacity(2 * message.len() + KIB);
    let (bytes, _deflater) = held(|| {
        let mut deflater = Deflater::default();
        for server_window_bits in windows {
            out.clear();
            assert!(deflater.compress(Agreed { server_window_bits }, level, message, &mut out));
        }
        deflater
    });
    bytes
}

/// One test: another at the same time would be counted too.
#[test]
fn no_more_than_is_said() {
    let (short, long) = (text(2 * KIB), text(64 * KIB));
    for level in 1..=9 {
        let of_short = of_deflater(level, 15..=15, &short);
        let each: Vec<usize> = (9..=15).map(|bits| of_deflater(level, bits..=bits, &long)).collect();
        let all = of_deflater(level, 9..=15, &long);
        let shown: Vec<String> = each.iter().map(|bytes| (bytes / KIB).to_string()).collect();
        let (short_kib, all_kib) = (of_short / KIB, all / KIB);
        println!(
            "level {level}: {short_kib} KiB for 2 KiB; for 64 KiB, windows 9 to 15: {}; all {all_kib} KiB",
            shown.join(", ")
        );
        assert!(of_short <= if level <= 5 { SHORT } else { OTHER }, "level {level}: {of_short} bytes");
        assert!(each.iter().all(|bytes| *bytes <= OTHER), "level {level}: {each:?} bytes");
        assert!(all <= ALL_WINDOWS, "level {level}: {all} bytes");
    }
    // A block without codes of its own needs its tables too.
    let messages: [&[u8]; 2] = [&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], &[0x00]];
    let mut room = Vec::with_capacity(8 * KIB);
    let (bytes, _inflater) = held(|| {
        let mut inflater = Inflater::default();
        for payload in messages {
            assert!(inflater.inflate(Compressed { payload, frames: 1 }, 100, &mut room).is_ok());
        }
        inflater
    });
    println!("inflating: {} KiB", bytes.div_ceil(KIB));
    assert!(bytes <= INFLATER, "{bytes} bytes");
}
