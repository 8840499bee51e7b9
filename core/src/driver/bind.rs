//! Listening: every address of a name, a Unix socket, or a socket that the process was started with.

#[cfg(unix)]
use std::fs::{File, TryLockError};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
#[cfg(unix)]
use std::path::{Path, PathBuf};
#[cfg(unix)]
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::caught::said;
use crate::error::Error;
use wsguard_proto::config::{Listen, Policy};
use wsguard_proto::config_error::ConfigError;

const BACKLOG: i32 = 4096;
/// A free port of one family may be taken in the other: how often another one is tried.
const FREE_PORT_TRIES: usize = 16;

/// A listening socket, not yet registered with a runtime.
#[derive(Debug)]
pub(super) enum Listening {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixListener),
}

/// What a server listens on.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) listeners: Vec<Listening>,
    /// With the real ports, in the order of `listeners`.
    pub(super) addresses: Vec<String>,
    pub(super) socket_file: Option<SocketFile>,
}

impl Bound {
    /// For a server whose connections come from elsewhere.
    pub(super) fn nowhere() -> Self {
        Bound { listeners: Vec::new(), addresses: Vec::new(), socket_file: None }
    }

    /// Whether other machines can reach it.
    pub(super) fn is_public(&self) -> bool {
        self.listeners.iter().any(|listener| match listener {
            Listening::Tcp(listener) => {
                !listener.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback())
            }
            #[cfg(unix)]
            Listening::Unix(_) => false,
        })
    }

    /// Whether it has Unix sockets or TCP sockets; `None`: neither.
    pub(super) fn is_unix(&self) -> Option<bool> {
        self.listeners.first().map(|listener| match listener {
            Listening::Tcp(_) => false,
            #[cfg(unix)]
            Listening::Unix(_) => true,
        })
    }

    /// Listens where the policy says.
    ///
    /// # Errors
    /// The address cannot be listened on; or it turns out not to be one of this machine alone, and plain text is not
    /// allowed elsewhere.
    pub(super) fn bind(policy: &Policy) -> Result<Self, Error> {
        match &policy.listen {
            Listen::Tcp { host, port } => {
                let check = |ip| policy.check_plaintext(ip);
                bind_name(&policy.listen, (host, *port), policy.reuse_port, &check)
            }
            #[cfg(unix)]
            Listen::Unix(path) => bind_unix(&policy.listen, policy.unix_mode, path),
            #[cfg(unix)]
            Listen::Fd(number) => take_over(policy, *number),
            #[cfg(not(unix))]
            Listen::Unix(_) | Listen::Fd(_) => Err(fault(&policy.listen, io::ErrorKind::Unsupported.into())),
        }
    }

    /// Listens where `admin_listen` says; `unix_mode` is for its socket file as well.
    ///
    /// # Errors
    /// The address cannot be listened on, or it turns out that other machines could reach it.
    pub(super) fn bind_admin(policy: &Policy) -> Result<Option<Self>, Error> {
        let Some(admin) = &policy.admin_listen else { return Ok(None) };
        let listen = admin.listen();
        let bound = match listen {
            Listen::Tcp { host, port } => bind_name(listen, (host, *port), false, &|ip| admin.check(ip)),
            #[cfg(unix)]
            Listen::Unix(path) => bind_unix(listen, policy.unix_mode, path),
            _ => Err(fault(listen, io::ErrorKind::Unsupported.into())),
        };
        bound.map(Some).map_err(|error| match error {
            Error::Listen { address, source } => Error::AdminListen { address, source },
            other => other,
        })
    }
}

fn fault(address: &dyn core::fmt::Display, source: io::Error) -> Error {
    Error::Listen { address: address.to_string(), source }
}

/// Every address that the name resolves to, IPv4 first; with port 0 the same free port for all.
fn bind_name(
    listen: &Listen,
    (host, port): (&str, u16),
    reuse_port: bool,
    check: &dyn Fn(IpAddr) -> Result<(), ConfigError>,
) -> Result<Bound, Error> {
    let resolved = (host, port).to_socket_addrs().map_err(|error| {
        let text = error.to_string();
        let why = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
        fault(listen, io::Error::new(error.kind(), format!("the name cannot be resolved: {why}")))
    })?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in resolved {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses.sort_by_key(SocketAddr::is_ipv6);
    for address in &addresses {
        check(address.ip())?;
    }
    let mut tries = if port == 0 && addresses.len() > 1 { FREE_PORT_TRIES } else { 1 };
    let listeners = loop {
        tries -= 1;
        match bind_each(&addresses, reuse_port) {
            Err((_, error)) if tries > 0 && error.kind() == io::ErrorKind::AddrInUse => {}
            outcome => break outcome.map_err(|(address, error)| fault(&address, error))?,
        }
    };
    let mut bound = Bound::nowhere();
    for listener in listeners {
        bound.addresses.push(listener.local_addr().map_err(|error| fault(listen, error))?.to_string());
        bound.listeners.push(Listening::Tcp(listener));
    }
    Ok(bound)
}

/// Who else may listen on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    Nobody,
    /// Whoever is there shares it already (`reuse_port`).
    Joined,
    /// Nobody has it yet, but others may come: the port was free a moment ago, and another server that has it by now on this
    /// address would be joined without a word, and get its part of the connections.
    Offered,
}

/// Listens on every address that this machine has. A family that it does not have is passed over where another is there.
fn bind_each(addresses: &[SocketAddr], reuse_port: bool) -> Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
    let mut bound: Vec<TcpListener> = Vec::new();
    let mut missing = Vec::new();
    let mut chosen = None;
    for &(mut address) in addresses {
        let sharing = match reuse_port {
            false => Sharing::Nobody,
            true if address.port() == 0 => Sharing::Offered,
            true => Sharing::Joined,
        };
        address.set_port(chosen.unwrap_or(address.port()));
        match bind_tcp(address, sharing, addresses.len() > 1) {
            Ok(listener) => {
                chosen = chosen.or(listener.local_addr().ok().map(|address| address.port()));
                bound.push(listener);
            }
            Err(error) if is_not_here(&error) => missing.push((address, error)),
            Err(error) => return Err((address, error)),
        }
    }
    if bound.is_empty() {
        let none = || (SocketAddr::from(([0, 0, 0, 0], 0)), io::ErrorKind::AddrNotAvailable.into());
        return Err(missing.pop().unwrap_or_else(none));
    }
    for (address, error) in missing {
        said(|| tracing::info!(target: "wsguard", "not listening on {address} as well: {error}"));
    }
    Ok(bound)
}

/// This machine has no such family (a container without IPv6), or no such address.
fn is_not_here(error: &io::Error) -> bool {
    #[cfg(unix)]
    let no_family = error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32);
    #[cfg(not(unix))]
    let no_family = false;
    no_family || matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
}

/// `beside_others`: an IPv6 socket would otherwise take the same port of IPv4, too, where the system is set so.
pub(super) fn bind_tcp(address: SocketAddr, sharing: Sharing, beside_others: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    #[cfg(target_os = "linux")]
    socket.set_reuse_port(sharing == Sharing::Joined)?;
    #[cfg(not(target_os = "linux"))]
    let _ = sharing;
    if beside_others && address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    #[cfg(target_os = "linux")]
    socket.set_reuse_port(sharing != Sharing::Nobody)?;
    socket.listen(BACKLOG)?;
    prepare_tcp(&socket)?;
    Ok(socket.into())
}

fn prepare_tcp(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    // Linux hands it on to every accepted connection: one call less for each.
    #[cfg(target_os = "linux")]
    socket.set_tcp_nodelay(true)?;
    Ok(())
}

/// What tells one socket file from another of the same name: device, inode, and when it was made. A file system may give the
/// inode of a socket that is gone to the next one.
#[cfg(unix)]
type Identity = (u64, u64, i64, i64);

/// The file of a Unix socket, which goes with the server, if it is still the server's.
#[derive(Debug)]
pub(super) struct SocketFile {
    #[cfg(unix)]
    path: PathBuf,
    #[cfg(unix)]
    identity: Identity,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        #[cfg(unix)]
        {
            let _alone = DirectoryLock::of(&self.path);
            remove_socket(&self.path, self.identity);
        }
    }
}

/// How long a server waits for others to be done with the socket files of a directory, and how often it looks. Whoever may
/// read a directory may lock it, and must not keep servers from starting.
#[cfg(unix)]
const LONGEST_LOCK: Duration = Duration::from_millis(500);
#[cfg(unix)]
const LOCK_RETRY: Duration = Duration::from_millis(2);

/// Keeps other servers from a directory's socket files. What one finds left over another may just have bound, or be about to
/// listen on: looking, removing, binding and listening are one step to the others.
#[cfg(unix)]
struct DirectoryLock(File);

#[cfg(unix)]
impl DirectoryLock {
    /// `None`: it cannot be had, and the server does without.
    fn of(path: &Path) -> Option<Self> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = File::open(directory).ok()?;
        let give_up_at = Instant::now() + LONGEST_LOCK;
        loop {
            match directory.try_lock() {
                Ok(()) => return Some(Self(directory)),
                Err(TryLockError::WouldBlock) if Instant::now() < give_up_at => std::thread::sleep(LOCK_RETRY),
                Err(_) => return None,
            }
        }
    }
}

#[cfg(unix)]
impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // A child of `fork` may hold the file as well.
        let _ = self.0.unlock();
    }
}

/// Which file `path` names, if that is a socket. Nothing is followed.
#[cfg(unix)]
fn socket_at(path: &Path) -> io::Result<Option<Identity>> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let file = std::fs::symlink_metadata(path)?;
    Ok(file.file_type().is_socket().then(|| (file.dev(), file.ino(), file.mtime(), file.mtime_nsec())))
}

/// Removes the socket, unless another file has its name by now.
#[cfg(unix)]
fn remove_socket(path: &Path, identity: Identity) {
    if matches!(socket_at(path), Ok(Some(now)) if now == identity) {
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(unix)]
fn bind_unix(listen: &Listen, mode: Option<u32>, path: &Path) -> Result<Bound, Error> {
    use std::os::unix::fs::PermissionsExt;
    let fault = |source| fault(listen, source);
    let alone = DirectoryLock::of(path);
    remove_left_over(path).map_err(fault)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(fault)?;
    socket.bind(&unix_address(path).map_err(fault)?).map_err(fault)?;
    let identity = socket_at(path).map_err(fault)?;
    let absolute = std::path::absolute(path).map_err(fault)?;
    let file = identity.map(|identity| SocketFile { path: absolute, identity });
    // Nobody can connect before it listens: there is no moment at which the file is more open than it shall be.
    if let Some(mode) = mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(fault)?;
    }
    socket.listen(BACKLOG).map_err(fault)?;
    drop(alone);
    socket.set_nonblocking(true).map_err(fault)?;
    let listeners = vec![Listening::Unix(socket.into())];
    Ok(Bound { listeners, addresses: vec![listen.to_string()], socket_file: file })
}

/// The only fault of a path as such: what the library says of it names a constant of C.
#[cfg(unix)]
fn unix_address(path: &Path) -> io::Result<socket2::SockAddr> {
    let too_long = "the path is too long for a Unix socket: at most 107 bytes on Linux, 103 elsewhere";
    socket2::SockAddr::unix(path).map_err(|error| io::Error::new(error.kind(), too_long))
}

/// Removes a socket that nobody listens on any more: its server has crashed. Whatever else has the name stays.
#[cfg(unix)]
fn remove_left_over(path: &Path) -> io::Result<()> {
    let identity = match socket_at(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(None) => {
            let what = "there is a file of that name which is no socket; it is left alone";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        Ok(Some(identity)) => identity,
    };
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A server whose queue is full must not make this one wait.
    probe.set_nonblocking(true)?;
    match probe.connect(&unix_address(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => remove_socket(path, identity),
        Ok(()) => return Err(io::ErrorKind::AddrInUse.into()),
        // It stays, and binding says why.
        Err(_) => {}
    }
    Ok(())
}

/// Takes over a listening socket that the process was started with. The number is the server's own from then on.
#[cfg(unix)]
fn take_over(policy: &Policy, number: u32) -> Result<Bound, Error> {
    let fault = |source| fault(&policy.listen, source);
    let refuse = |why: &str| fault(io::Error::new(io::ErrorKind::InvalidInput, why));
    let number = i32::try_from(number).map_err(|_| refuse("the number is too large"))?;
    let socket = Socket::from(duplicate(number).map_err(|error| match error.raw_os_error() {
        Some(errno) if errno == nix::errno::Errno::EBADF as i32 => {
            fault(io::Error::new(io::ErrorKind::NotFound, "no descriptor of that number is open in this process"))
        }
        _ => fault(error),
    })?);
    let kind = socket.r#type().map_err(|_| refuse("the descriptor is no socket"))?;
    if kind != Type::STREAM {
        return Err(refuse("the descriptor is no stream socket; TCP and Unix stream sockets are accepted"));
    }
    if !socket.is_listener().map_err(fault)? {
        return Err(refuse("the socket does not listen: it must be bound and listening when the server starts"));
    }
    let local = socket.local_addr().map_err(fault)?;
    let (listener, address) = match local.as_socket() {
        Some(address) => {
            policy.check_plaintext(address.ip())?;
            policy.check_proxies(false)?;
            prepare_tcp(&socket).map_err(fault)?;
            (Listening::Tcp(socket.into()), address.to_string())
        }
        None if local.is_unix() => {
            policy.check_proxies(true)?;
            socket.set_nonblocking(true).map_err(fault)?;
            let path = local.as_pathname().map(|path| format!("unix:{}", path.display()));
            (Listening::Unix(socket.into()), path.unwrap_or_else(|| policy.listen.to_string()))
        }
        None => return Err(refuse("the descriptor is neither a TCP nor a Unix socket")),
    };
    // The duplicate serves. The original would go on to every program that the application starts.
    give_up(number);
    Ok(Bound { listeners: vec![listener], addresses: vec![address], socket_file: None })
}

/// Closes the original of what was taken over. A standard stream (an `inetd` hands its socket over as one) becomes nobody's
/// instead: the next connection would have its number, and be what the application reads and writes.
#[cfg(unix)]
fn give_up(number: i32) {
    if !(0..=2).contains(&number) {
        let _ = nix::unistd::close(number);
        return;
    }
    let Ok(nothing) = File::options().read(true).write(true).open("/dev/null") else { return };
    let _ = match number {
        0 => rustix::stdio::dup2_stdin(nothing),
        1 => rustix::stdio::dup2_stdout(nothing),
        _ => rustix::stdio::dup2_stderr(nothing),
    };
}

/// Another descriptor of the same file, which programs started by this one do not get. It is sent through a socket to
/// ourselves: who sends names a number, who receives has an owner.
#[cfg(unix)]
fn duplicate(number: i32) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::AsRawFd;

    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    let (sender, receiver) = std::os::unix::net::UnixStream::pair()?;
    let message = [io::IoSlice::new(b"!")];
    sendmsg::<()>(sender.as_raw_fd(), &message, &[ControlMessage::ScmRights(&[number])], MsgFlags::empty(), None)?;
    let mut space = [core::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    #[cfg(target_os = "linux")]
    let flags = RecvFlags::CMSG_CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let flags = RecvFlags::empty();
    recvmsg(&receiver, &mut [io::IoSliceMut::new(&mut byte)], &mut control, flags)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
            && let Some(descriptor) = descriptors.next()
        {
            #[cfg(not(target_os = "linux"))]
            rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC)?;
            return Ok(descriptor);
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
#[cfg(unix)]
#[path = "bind_tests.rs"]
mod tests;
