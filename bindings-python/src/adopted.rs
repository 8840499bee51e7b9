//! Connections that another server has accepted: their descriptors come in here.
#![expect(unsafe_code, reason = "a descriptor is a number in Python")]

use std::net::TcpStream;

use pyo3::prelude::*;
use wsguard::binding::ServerHandle;

use crate::errors;

/// A descriptor that Python has given away: dropping it closes the connection.
#[cfg(unix)]
pub(crate) fn take(number: i64) -> PyResult<TcpStream> {
    use std::os::fd::{FromRawFd as _, OwnedFd};

    let number = i32::try_from(number).ok().filter(|number| *number >= 0);
    let number = number.ok_or_else(|| pyo3::exceptions::PyValueError::new_err("it is no descriptor"))?;
    // SAFETY: Python's side has duplicated or detached it, and hands it over for good.
    Ok(unsafe { OwnedFd::from_raw_fd(number) }.into())
}

/// Hands a connection to the server.
pub(crate) fn adopt(
    py: Python<'_>,
    handle: &ServerHandle,
    tcp: TcpStream,
    received: Vec<u8>,
    tag: u64,
) -> PyResult<()> {
    let received = tagged(received, tag);
    py.detach(|| handle.adopt(tcp, received)).map_err(|error| errors::of_core(py, &error))
}

/// Until the core carries a tag itself: a first header does.
pub(crate) const TAG: &str = "x-wsguard-adoption";

fn tagged(mut received: Vec<u8>, tag: u64) -> Vec<u8> {
    if let Some(at) = received.iter().position(|byte| *byte == b'\n') {
        let rest = received.split_off(at + 1);
        received.extend_from_slice(format!("{TAG}: {tag}\r\n").as_bytes());
        received.extend_from_slice(&rest);
    }
    received
}
