//! A socket to the server: TCP or TLS, every read and write with a deadline.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::seen::End;

/// What a read gave.
pub(crate) enum Got {
    /// So many bytes.
    Bytes(usize),
    /// Nothing in time.
    Nothing,
    /// No more.
    End(End),
}

pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    /// Connects, and does the handshake of TLS where there is a configuration for it.
    pub(crate) fn dial(
        address: SocketAddr,
        tls: Option<(&Arc<ClientConfig>, &ServerName<'static>)>,
        within: Duration,
    ) -> Result<Self, String> {
        let socket = TcpStream::connect_timeout(&address, within).map_err(|error| format!("{address}: {error}"))?;
        let _ = socket.set_nodelay(true);
        let Some((config, name)) = tls else { return Ok(Self::Plain(socket)) };
        let mut connection = ClientConnection::new(config.clone(), name.clone()).map_err(|error| error.to_string())?;
        let mut socket = socket;
        let deadline = Instant::now() + within;
        while connection.is_handshaking() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("the TLS handshake did not end in time".to_owned());
            }
            limit(&socket, left);
            match connection.complete_io(&mut socket) {
                Ok(_) => {}
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(format!("TLS: {error}")),
            }
        }
        Ok(Self::Tls(Box::new(StreamOwned::new(connection, socket))))
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// What the server showed of itself.
    pub(crate) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        match self {
            Self::Plain(_) => Vec::new(),
            Self::Tls(stream) => stream.conn.peer_certificates().unwrap_or_default().to_vec(),
        }
    }

    /// Reads once.
    pub(crate) fn read(&mut self, buffer: &mut [u8], within: Duration) -> Got {
        limit(self.socket(), within);
        let read = match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        };
        match read {
            Ok(0) => Got::End(End::Closed),
            Ok(count) => Got::Bytes(count),
            Err(error) if is_timeout(&error) => Got::Nothing,
            // TLS without its own end: the server dropped the connection.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Got::End(End::Closed),
            Err(_) => Got::End(End::Reset),
        }
    }

    /// Writes everything, or says why not.
    pub(crate) fn write(&mut self, mut bytes: &[u8], within: Duration) -> Result<(), End> {
        let deadline = Instant::now() + within;
        while !bytes.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(End::Stuck);
            }
            limit(self.socket(), left);
            let written = match self {
                Self::Plain(socket) => socket.write(bytes),
                Self::Tls(stream) => stream.write(bytes),
            };
            match written {
                Ok(0) => return Err(End::Closed),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if is_timeout(&error) => {}
                Err(_) => return Err(End::Reset),
            }
        }
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(stream) => match stream.flush() {
                Err(error) if !is_timeout(&error) => Err(End::Reset),
                _ => Ok(()),
            },
        }
    }
}

/// A deadline for whatever the socket does next. Zero would mean none.
fn limit(socket: &TcpStream, within: Duration) {
    let within = Some(within.max(Duration::from_millis(1)));
    let _ = socket.set_read_timeout(within);
    let _ = socket.set_write_timeout(within);
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
