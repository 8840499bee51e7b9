//! Connections that another server has accepted: their sockets, or their bytes, come in here.
#![expect(unsafe_code, reason = "a socket is a number in Python")]

use std::net::{IpAddr, SocketAddr, TcpStream};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wsguard::binding::{Adoption, Pipe as CorePipe, ServerHandle};

use crate::errors;

/// A socket that Python has given away: dropping it closes the connection.
#[derive(Debug)]
pub(crate) enum Given {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixStream),
}

impl Given {
    /// Takes a socket by its number, for good. Of which kind it is only the system knows: what Python calls its family is what
    /// somebody has said of it, and uvicorn says `AF_UNIX` of whatever it inherits (`--fd`). One of TCP taken for one of Unix has
    /// no address that could be judged.
    #[cfg(unix)]
    pub(crate) fn take(number: i64) -> PyResult<Self> {
        use std::os::fd::{FromRawFd as _, OwnedFd};
        use std::os::unix::net::UnixStream;

        let number = i32::try_from(number).ok().filter(|number| *number >= 0).ok_or_else(no_socket)?;
        // SAFETY: Python's side has duplicated or detached it, and does not use the number any more.
        let owned = unsafe { OwnedFd::from_raw_fd(number) };
        let unix = UnixStream::from(owned);
        // Of another family this is an error.
        Ok(if unix.local_addr().is_ok() { Self::Unix(unix) } else { Self::Tcp(OwnedFd::from(unix).into()) })
    }

    /// Takes a socket by its number, for good.
    #[cfg(windows)]
    pub(crate) fn take(number: i64) -> PyResult<Self> {
        use std::os::windows::io::{FromRawSocket as _, OwnedSocket};

        let number = u64::try_from(number).map_err(|_| no_socket())?;
        // SAFETY: as above.
        Ok(Self::Tcp(unsafe { OwnedSocket::from_raw_socket(number) }.into()))
    }
}

fn no_socket() -> PyErr {
    PyValueError::new_err("a socket that is closed cannot be handed over")
}

/// An address as Python has it: `(host, port)`.
pub(crate) type Address = (String, u16);

/// An address that is none (a name, a zone) is not told.
fn known(address: Option<Address>) -> Option<SocketAddr> {
    let (host, port) = address?;
    Some(SocketAddr::new(host.parse::<IpAddr>().ok()?, port))
}

/// Hands a socket to the server.
pub(crate) fn adopt(py: Python<'_>, handle: &ServerHandle, given: Given, adoption: Adoption) -> PyResult<()> {
    let adopted = match given {
        Given::Tcp(tcp) => handle.adopt(tcp, adoption),
        #[cfg(unix)]
        Given::Unix(unix) => handle.adopt_unix(unix, adoption),
    };
    adopted.map_err(|error| errors::of_core(py, &error))
}

/// The application's end of a connection whose bytes somebody else brings and takes.
#[pyclass(frozen, module = "wsguard._wsguard")]
#[derive(Debug)]
pub(crate) struct Pipe(CorePipe);

impl Pipe {
    pub(crate) fn adopt(
        py: Python<'_>,
        handle: &ServerHandle,
        (peer, local): (Option<Address>, Option<Address>),
        adoption: Adoption,
    ) -> PyResult<Self> {
        let adoption = Adoption { peer: known(peer), local: known(local), ..adoption };
        handle.adopt_pipe(adoption).map(Self).map_err(|error| errors::of_core(py, &error))
    }
}

#[pymethods]
impl Pipe {
    #[getter]
    fn id(&self) -> u64 {
        self.0.id().to_u64()
    }

    /// Hands over bytes of the peer. `False`: push no more until there is room.
    fn push(&self, received: &[u8]) -> bool {
        self.0.push(received)
    }

    /// The peer has ended its side.
    fn end(&self) {
        self.0.end();
    }

    /// The transport is broken.
    fn abort(&self) {
        self.0.abort();
    }

    /// The next bytes for the peer, at most `most`; whether nothing follows; and whether there is more at once.
    fn take<'py>(&self, py: Python<'py>, most: usize) -> (Bound<'py, PyBytes>, bool, bool) {
        let mut bytes = Vec::new();
        let taken = self.0.take(&mut bytes, most);
        (PyBytes::new(py, &bytes), taken.is_ended, taken.more)
    }
}
