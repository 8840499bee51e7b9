//! What a policy asks of the file system while it is compiled: an option may name the file of a key or a certificate.
//!
//! The answers come from whoever compiles the policy; nothing here opens a file.

use std::io;

/// A key or a chain of certificates is never larger; a file that is longer is something else. In bytes.
pub const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// The files that options may name.
pub trait Files {
    /// The contents of the file, at most [`MAX_FILE_BYTES`] of them.
    ///
    /// # Errors
    /// It cannot be read; the kind of the error tells why.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;

    /// Whether a file of this name exists.
    fn is_file(&self, path: &str) -> bool;

    /// Whether a directory of this name exists.
    fn is_directory(&self, path: &str) -> bool;
}

/// No files at all: every key is given as text.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &str) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn is_file(&self, _: &str) -> bool {
        false
    }

    fn is_directory(&self, _: &str) -> bool {
        false
    }
}

/// The real ones, for tests of what errors say.
#[cfg(test)]
pub(crate) struct Disk;

#[cfg(test)]
impl Files for Disk {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn is_file(&self, path: &str) -> bool {
        std::path::Path::new(path).is_file()
    }

    fn is_directory(&self, path: &str) -> bool {
        std::path::Path::new(path).is_dir()
    }
}
