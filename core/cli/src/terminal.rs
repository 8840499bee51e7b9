//! Manners on a terminal: colours only where somebody sees them, a reader that has left is no fault, and what others chose is
//! harmless to print.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use crate::outcome::Failure;

/// Whether what is printed has colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Paint {
    is_on: bool,
}

impl Paint {
    /// For standard output: on a terminal that shows colours, and not where `NO_COLOR` (<https://no-color.org>) is set.
    pub(crate) fn for_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { is_on: !refused && !is_dumb && io::stdout().is_terminal() }
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.is_on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.with("1;31", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.with("32", text)
    }
}

/// Prints a text on standard output.
///
/// # Errors
/// It cannot be written, for another reason than that nobody reads it any more.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    match write(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints what is lost where nobody reads it, as a secret that was drawn is.
///
/// # Errors
/// It cannot be written.
pub(crate) fn deliver(text: &str) -> Result<(), Failure> {
    write(text).map_err(|error| Failure::new(format!("standard output: {error}")))
}

fn write(text: &str) -> io::Result<()> {
    let mut out = Patient(io::stdout().lock());
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// Prints a line on standard error; where nobody reads that there is nobody to tell.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(Patient(io::stderr().lock()), "{line}");
}

/// A stream that may be non-blocking, since another process has made it so for all that share it: it waits as a blocking one does.
pub(crate) struct Patient<S>(pub(crate) S);

/// How long it waits before it tries again.
const BETWEEN: Duration = Duration::from_millis(5);

impl<S> Patient<S> {
    fn wait<T>(&mut self, mut step: impl FnMut(&mut S) -> io::Result<T>) -> io::Result<T> {
        loop {
            match step(&mut self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(BETWEEN),
                done => return done,
            }
        }
    }
}

impl<R: io::Read> io::Read for Patient<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.wait(|input| input.read(bytes))
    }
}

impl<W: io::Write> io::Write for Patient<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait(|out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wait(io::Write::flush)
    }
}

/// A text of at most `most` characters that a peer or a file chose, on one line and without what a terminal obeys: control and
/// format characters, and the marks that turn the direction of writing.
pub(crate) fn harmless(text: &str, most: usize) -> String {
    let mut shown = String::new();
    for (index, letter) in text.chars().enumerate() {
        if index == most {
            shown.push('…');
            break;
        }
        if letter.is_control() || is_invisible(letter) {
            let _ = write!(shown, "\\u{{{:x}}}", letter as u32);
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Of the general category Cf, as far as terminals and readers are fooled by it.
fn is_invisible(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_spelled_out() {
        assert_eq!(harmless("a\x1b[2Jb\r\nc\u{202e}d\u{9b}", 64), r"a\u{1b}[2Jb\u{d}\u{a}c\u{202e}d\u{9b}");
        assert_eq!(harmless("東京 é", 64), "東京 é");
        assert_eq!(harmless("abcdef", 3), "abc…");
    }

    /// A pipe that has room for a byte at each second time.
    struct Narrow(Vec<u8>, bool);

    impl io::Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.flush()?;
            self.0.extend(&bytes[..1]);
            Ok(1)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.1 = !self.1;
            if self.1 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        }
    }

    #[test]
    fn a_stream_without_room_is_waited_for() {
        let mut out = Patient(Narrow(Vec::new(), false));
        out.write_all(b"all of it").and_then(|()| out.flush()).unwrap();
        assert_eq!(out.0.0, b"all of it");
        assert!(Narrow(Vec::new(), false).write_all(b"x").is_err());
    }

    #[test]
    fn colours_are_off_where_they_are_not_asked_for() {
        assert_eq!(Paint::default().red("x"), "x");
        assert_eq!(Paint { is_on: true }.red("x"), "\x1b[1;31mx\x1b[0m");
    }
}
