//! What the examples share: where they listen, and how they end.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use wsguard::{Drain, Handle};

/// The address in `LISTEN`, or that of all examples.
pub fn listen() -> String {
    std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8080".into())
}

/// Drains on Ctrl-C and SIGTERM: clients are told to come back, the events end, and with them the program.
///
/// # Errors
///
/// The signals cannot be listened for.
pub fn drain_on_signal(server: Handle) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            server.drain(Drain::default());
        }
    });
    Ok(())
}
