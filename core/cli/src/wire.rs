//! A socket to the server: TCP or TLS, every read and write with a deadline.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, ClientConfig, ClientConnection};

/// How a connection ended, where no close frame says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The server closed it.
    Closed,
    /// The server reset it.
    Reset,
    /// The server ended TLS and said why.
    Alert(AlertDescription),
    /// The server sent what no server sends.
    Garbage(&'static str),
    /// The server sent more than the audit reads.
    TooMuch,
    /// The server reads nothing more.
    Stuck,
}

impl End {
    pub(crate) fn shown(self) -> String {
        match self {
            Self::Closed => "the connection was closed without a close frame".to_owned(),
            Self::Reset => "the connection was reset".to_owned(),
            Self::Alert(AlertDescription::CertificateRequired) => {
                "the server ended TLS: it asks for a certificate of the client, and none is shown here".to_owned()
            }
            Self::Alert(alert) => format!("the server ended TLS with the alert {alert:?}"),
            Self::Garbage(what) => format!("the server sent {what}"),
            Self::TooMuch => "the server sent more than the audit reads".to_owned(),
            Self::Stuck => "the server stopped reading".to_owned(),
        }
    }
}

/// What a read gave.
pub(crate) enum Got {
    /// So many bytes.
    Bytes(usize),
    /// Nothing in time.
    Nothing,
    /// No more.
    End(End),
}

/// rustls' own streams read on until something is whole, and so as long as a server drips: here each step is one read.
pub(crate) struct Wire {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Wire {
    /// Connects, and does the handshake of TLS where there is a configuration for it.
    pub(crate) fn dial(
        address: SocketAddr,
        tls: Option<(&Arc<ClientConfig>, &ServerName<'static>)>,
        within: Duration,
    ) -> Result<Self, String> {
        let deadline = Instant::now() + within;
        let socket = TcpStream::connect_timeout(&address, within.max(Duration::from_millis(1)))
            .map_err(|error| format!("{address}: {error}"))?;
        let _ = socket.set_nodelay(true);
        let mut wire = Self { socket, tls: None };
        if let Some((config, name)) = tls {
            let connection = ClientConnection::new(config.clone(), name.clone()).map_err(|error| error.to_string())?;
            wire.tls = Some(Box::new(connection));
            wire.shake_hands(deadline)?;
        }
        Ok(wire)
    }

    fn shake_hands(&mut self, deadline: Instant) -> Result<(), String> {
        while self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            self.flush(deadline).map_err(|end| format!("TLS: {}", end.shown()))?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("the TLS handshake did not end in time".to_owned());
            }
            if self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
                limit(&self.socket, left);
                self.read_records().map_err(|error| format!("TLS: {}", read_words(&error)))?;
            }
        }
        // The end of our side of the handshake.
        self.flush(deadline).map_err(|end| format!("TLS: {}", end.shown()))
    }

    /// One read of the socket into TLS; nothing in time is no error.
    fn read_records(&mut self) -> std::io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        match tls.read_tls(&mut self.socket) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {
                tls.process_new_packets().map(drop).map_err(|error| std::io::Error::new(ErrorKind::InvalidData, error))
            }
            Err(error) if is_timeout(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes out what TLS has to say.
    fn flush(&mut self, deadline: Instant) -> Result<(), End> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(End::Stuck);
            }
            limit(&self.socket, left);
            match tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if is_timeout(&error) => {}
                Err(_) => return Err(End::Reset),
            }
        }
        Ok(())
    }

    /// The address on this machine.
    pub(crate) fn local(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// What the server showed of itself.
    pub(crate) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        let shown = self.tls.as_ref().and_then(|tls| tls.peer_certificates());
        shown.unwrap_or_default().to_vec()
    }

    /// Reads once.
    pub(crate) fn read(&mut self, buffer: &mut [u8], within: Duration) -> Got {
        limit(&self.socket, within);
        let Some(tls) = &mut self.tls else { return got(self.socket.read(buffer)) };
        match tls.reader().read(buffer) {
            Err(error) if is_timeout(&error) => {}
            read => return got(read),
        }
        if let Err(error) = self.read_records() {
            return got(Err(error));
        }
        match &mut self.tls {
            Some(tls) => got(tls.reader().read(buffer)),
            None => Got::Nothing,
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
            limit(&self.socket, left);
            let written = match &mut self.tls {
                Some(tls) => tls.writer().write(bytes),
                None => self.socket.write(bytes),
            };
            match written {
                Ok(0) if self.tls.is_none() => return Err(End::Closed),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if is_timeout(&error) => {}
                Err(_) => return Err(End::Reset),
            }
            self.flush(deadline)?;
        }
        Ok(())
    }
}

fn got(read: std::io::Result<usize>) -> Got {
    match read {
        Ok(0) => Got::End(End::Closed),
        Ok(count) => Got::Bytes(count),
        Err(error) if is_timeout(&error) => Got::Nothing,
        // TLS without its own end: the server dropped the connection.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Got::End(End::Closed),
        Err(error) if error.kind() == ErrorKind::InvalidData => Got::End(match of_tls(&error) {
            Some(rustls::Error::AlertReceived(alert)) => End::Alert(*alert),
            _ => End::Garbage("something that is no TLS"),
        }),
        Err(_) => Got::End(End::Reset),
    }
}

/// The error of TLS in one of reading.
fn of_tls(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn read_words(error: &std::io::Error) -> String {
    match of_tls(error) {
        Some(rustls::Error::AlertReceived(alert)) => End::Alert(*alert).shown(),
        Some(error) => tls_words(error),
        None => error.to_string(),
    }
}

/// An error of TLS for people: what the library has no words for, it prints as in a program.
pub(crate) fn tls_words(error: &rustls::Error) -> String {
    if is_authority_for_server(error) {
        return "the certificate is one of an authority (CA:TRUE), which is none for a server".to_owned();
    }
    let words = error.to_string();
    if words.contains("UnsupportedCertVersion") {
        return "the certificate is one of X.509 version 1, which holds no names for clients to verify".to_owned();
    }
    if words.contains("UnsupportedSignatureAlgorithmContext") {
        return "the certificate is signed by an algorithm that clients do not take, such as SHA-1".to_owned();
    }
    words
}

/// Whether a server showed the certificate of an authority. The library has no value for it, only a name.
pub(crate) fn is_authority_for_server(error: &rustls::Error) -> bool {
    error.to_string().contains("CaUsedAsEndEntity")
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
