use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};

use super::*;
use wsguard_proto::config::Options;

use crate::driver::compile;

fn policy(more: &str) -> std::sync::Arc<Policy> {
    let json = format!(r#"{{"origins": ["https://a.example"], "auth": "none", {more}}}"#);
    Options::from_json(&json).and_then(compile).unwrap().top
}

fn listen(where_to: &str) -> Result<Bound, Error> {
    Bound::bind(&policy(&format!(r#""listen": "{where_to}""#)))
}

/// A directory of this test, which goes with it.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("wsguard-bind-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn listen(&self, name: &str) -> Result<Bound, Error> {
        listen(&format!("unix:{}", self.path(name).display()))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn io_error(outcome: Result<Bound, Error>) -> io::Error {
    match outcome {
        Err(Error::Listen { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

/// Whether this machine has an IPv6 loopback, and calls it localhost.
fn localhost_has_both_families() -> bool {
    let has = |ip: IpAddr| ("localhost", 0).to_socket_addrs().unwrap().any(|address| address.ip() == ip);
    has(core::net::Ipv6Addr::LOCALHOST.into())
        && has(Ipv4Addr::LOCALHOST.into())
        && TcpListener::bind("[::1]:0").is_ok()
}

#[test]
#[cfg(target_os = "linux")]
fn accepted_connections_inherit_nodelay() {
    let listener = bind_tcp(([127, 0, 0, 1], 0).into(), Sharing::Nobody, false).unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let accepted = loop {
        if let Ok((accepted, _)) = listener.accept() {
            break accepted;
        }
    };
    assert!(accepted.nodelay().unwrap());
}

#[test]
fn a_name_is_listened_on_at_every_address() {
    let bound = listen("localhost:0").unwrap();
    let port = bound.addresses[0].strip_prefix("127.0.0.1:").expect("IPv4 first");
    assert_ne!(port, "0");
    if localhost_has_both_families() {
        assert_eq!(bound.addresses, [format!("127.0.0.1:{port}"), format!("[::1]:{port}")]);
    }
    assert_eq!(bound.addresses.len(), bound.listeners.len());
    for address in &bound.addresses {
        TcpStream::connect(address).unwrap();
    }
}

#[test]
fn the_address_that_fails_is_named_with_its_errno() {
    for taken in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(other) = TcpListener::bind(taken) else { continue };
        let address = other.local_addr().unwrap();
        if taken.starts_with('[') && !localhost_has_both_families() {
            continue;
        }
        let error = listen(&format!("localhost:{}", address.port())).unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        assert_eq!(error.errno(), Some(nix::errno::Errno::EADDRINUSE as i32));
        assert_eq!((error.code(), error.option()), ("listen_failed", Some("listen")));
    }
}

#[test]
fn a_name_that_does_not_exist_is_said_before_anything_else() {
    let error = listen("no-such-host.invalid:0").unwrap_err();
    assert!(error.to_string().contains("the name cannot be resolved"), "{error}");
    assert_eq!(error.option(), Some("listen"));
}

#[test]
fn an_address_that_is_not_here_is_passed_over_beside_one_that_is() {
    // TEST-NET-1 (RFC 5737) is nobody's.
    let foreign: SocketAddr = "192.0.2.1:0".parse().unwrap();
    let own: SocketAddr = "127.0.0.1:0".parse().unwrap();
    assert_eq!(bind_each(&[foreign, own], false).unwrap().len(), 1);
    let (address, error) = bind_each(&[foreign], false).unwrap_err();
    assert_eq!((address, error.kind()), (foreign, io::ErrorKind::AddrNotAvailable));
}

#[test]
#[cfg(target_os = "linux")]
fn a_port_is_shared_where_both_say_so() {
    let first = Bound::bind(&policy(r#""listen": "127.0.0.1:0", "reuse_port": true"#)).unwrap();
    let again = |reuse_port: bool| {
        let listen = &first.addresses[0];
        Bound::bind(&policy(&format!(r#""listen": "{listen}", "reuse_port": {reuse_port}"#)))
    };
    assert!(again(true).is_ok());
    assert_eq!(io_error(again(false)).kind(), io::ErrorKind::AddrInUse);
}

#[test]
#[cfg(target_os = "linux")]
fn a_free_port_is_not_one_that_another_shares() {
    let bind = |port: u16, sharing| bind_tcp(([127, 0, 0, 1], port).into(), sharing, false);
    let other = bind(0, Sharing::Offered).unwrap();
    let port = other.local_addr().unwrap().port();
    assert_eq!(bind(port, Sharing::Offered).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    bind(port, Sharing::Joined).unwrap();
    let bound = Bound::bind(&policy(r#""listen": "localhost:0", "reuse_port": true"#)).unwrap();
    for address in &bound.addresses {
        bind_tcp(address.parse().unwrap(), Sharing::Joined, true).unwrap();
    }
}

#[test]
fn of_servers_that_start_at_once_on_a_left_over_socket_one_has_it() {
    let dir = Directory::new("at-once");
    for _ in 0..100 {
        drop(UnixListener::bind(dir.path("socket")).unwrap());
        let start = std::sync::Barrier::new(4);
        let bound: Vec<_> = std::thread::scope(|scope| {
            let at_once = || {
                start.wait();
                dir.listen("socket").ok()
            };
            let servers: Vec<_> = (0..4).map(|_| scope.spawn(at_once)).collect();
            servers.into_iter().filter_map(|server| server.join().unwrap()).collect()
        });
        assert_eq!(bound.len(), 1, "servers believe that they listen");
        let _client = UnixStream::connect(dir.path("socket")).unwrap();
        let [Listening::Unix(listener)] = &bound[0].listeners[..] else { panic!("{bound:?}") };
        listener.accept().unwrap();
        drop(bound);
        assert!(!dir.path("socket").exists());
    }
}

#[test]
fn who_locks_the_directory_keeps_no_server_from_starting() {
    let dir = Directory::new("locked");
    let locked = File::open(&dir.0).unwrap();
    locked.lock().unwrap();
    let _bound = dir.listen("socket").unwrap();
    UnixStream::connect(dir.path("socket")).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn the_zone_of_a_link_local_address_is_kept() {
    let number = std::fs::read_to_string("/sys/class/net/lo/ifindex").unwrap();
    for zone in [number.trim(), "lo"] {
        // No machine has this address; that it was asked for with its zone is what the error shows.
        let more = format!(r#""listen": "[fe80::1234:5678%{zone}]:0", "dangerously_allow_plaintext": true"#);
        let error = Bound::bind(&policy(&more)).unwrap_err().to_string();
        assert!(error.contains(&format!("[fe80::1234:5678%{}]", number.trim())), "{error}");
    }
}

#[test]
fn only_a_socket_that_nobody_listens_on_is_replaced() {
    let dir = Directory::new("left-over");
    drop(UnixListener::bind(dir.path("left-over")).unwrap());
    let bound = dir.listen("left-over").unwrap();
    UnixStream::connect(dir.path("left-over")).unwrap();
    // One that is in use stays, and serves.
    assert_eq!(io_error(dir.listen("left-over")).kind(), io::ErrorKind::AddrInUse);
    UnixStream::connect(dir.path("left-over")).unwrap();
    drop(bound);
    assert!(!dir.path("left-over").exists(), "it goes with its server");

    std::fs::write(dir.path("precious"), "data").unwrap();
    std::fs::create_dir(dir.path("directory")).unwrap();
    nix::sys::stat::mknod(&dir.path("fifo"), nix::sys::stat::SFlag::S_IFIFO, nix::sys::stat::Mode::S_IRWXU, 0).unwrap();
    drop(UnixListener::bind(dir.path("target")).unwrap());
    symlink(dir.path("target"), dir.path("link")).unwrap();
    symlink(dir.path("nothing"), dir.path("dangling")).unwrap();
    for name in ["precious", "directory", "fifo", "link", "dangling"] {
        let error = io_error(dir.listen(name));
        assert!(error.to_string().contains("no socket; it is left alone"), "{name}: {error}");
        assert!(std::fs::symlink_metadata(dir.path(name)).is_ok(), "{name}");
    }
    assert_eq!(std::fs::read(dir.path("precious")).unwrap(), b"data");
    assert!(std::fs::symlink_metadata(dir.path("target")).unwrap().file_type().is_socket());
}

#[test]
fn a_socket_with_a_full_queue_is_in_use_and_nobody_waits() {
    let dir = Directory::new("queue");
    let path = dir.path("socket");
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let mut waiting = Vec::new();
    loop {
        let peer = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        peer.set_nonblocking(true).unwrap();
        if peer.connect(&socket2::SockAddr::unix(&path).unwrap()).is_err() {
            break;
        }
        waiting.push(peer);
    }
    assert_eq!(io_error(dir.listen("socket")).kind(), io::ErrorKind::AddrInUse);
    assert!(path.exists());
}

#[test]
fn a_file_that_is_not_the_server_s_any_more_stays() {
    let dir = Directory::new("replaced");
    let bound = dir.listen("socket").unwrap();
    // Renamed, as a supervisor may: the inode goes on, so the new file cannot have the same.
    std::fs::rename(dir.path("socket"), dir.path("old")).unwrap();
    let other = UnixListener::bind(dir.path("socket")).unwrap();
    drop(bound);
    assert!(dir.path("socket").exists());
    drop(other);
}

#[test]
fn the_mode_is_what_the_option_says() {
    let dir = Directory::new("mode");
    for (mode, bits) in [("0600", 0o600), ("660", 0o660), ("0777", 0o777)] {
        let path = dir.path("socket");
        let more = format!(r#""listen": "unix:{}", "unix_mode": "{mode}""#, path.display());
        let _bound = Bound::bind(&policy(&more)).unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, bits);
    }
}

fn inherit(socket: impl IntoRawFd, more: &str) -> (i32, Result<Bound, Error>) {
    let number = socket.into_raw_fd();
    (number, Bound::bind(&policy(&format!(r#""listen": "fd:{number}"{more}"#))))
}

#[test]
fn an_inherited_socket_is_taken_over() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (_, bound) = inherit(listener, "");
    let bound = bound.unwrap();
    assert_eq!(bound.addresses, [address.to_string()]);
    let client = TcpStream::connect(address).unwrap();
    let [Listening::Tcp(listener)] = &bound.listeners[..] else { panic!("{bound:?}") };
    let (_, peer) = listener.accept().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "it never blocks");
    drop(bound);
    assert!(TcpStream::connect(address).is_err(), "nothing of it is left open");

    let dir = Directory::new("inherited");
    let (_, bound) = inherit(UnixListener::bind(dir.path("socket")).unwrap(), "");
    let bound = bound.unwrap();
    assert_eq!(bound.addresses, [format!("unix:{}", dir.path("socket").display())]);
    UnixStream::connect(dir.path("socket")).unwrap();
    drop(bound);
    assert!(dir.path("socket").exists(), "whoever made the file removes it");
}

#[test]
fn an_inherited_descriptor_that_is_no_listening_socket_says_so() {
    let dir = Directory::new("descriptors");
    let file = File::create(dir.path("file")).unwrap();
    let connected = UnixStream::pair().unwrap().0;
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for (outcome, words) in [
        (inherit(file, "").1, "is no socket"),
        (inherit(udp, "").1, "no stream socket"),
        (inherit(connected, "").1, "does not listen"),
        (listen("fd:1000000"), "no descriptor of that number is open"),
    ] {
        let error = outcome.unwrap_err();
        assert!(error.to_string().contains(words) && error.option() == Some("listen"), "{error}");
    }
}

#[test]
fn plain_text_is_judged_by_the_inherited_socket_s_own_address() {
    let public = || TcpListener::bind("0.0.0.0:0").unwrap();
    let (number, refused) = inherit(public(), "");
    let error = refused.unwrap_err();
    assert_eq!((error.code(), error.option()), ("missing_option", Some("tls")));
    assert!(error.to_string().contains("0.0.0.0") && error.to_string().contains(&format!("fd:{number}")), "{error}");
    assert!(inherit(public(), r#", "dangerously_allow_plaintext": true"#).1.is_ok());
}

#[test]
fn a_path_that_is_too_long_is_said_to_be() {
    let error = listen(&format!("unix:/tmp/{}", "x".repeat(200))).unwrap_err().to_string();
    assert!(error.contains("too long for a Unix socket") && !error.contains("SUN_LEN"), "{error}");
}

#[test]
fn the_proxies_of_an_inherited_socket_are_of_its_kind() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap().into_raw_fd();
    let listen = format!(r#""listen": "fd:{tcp}""#);
    let error = Bound::bind(&policy(&format!(r#"{listen}, "trusted_proxies": ["unix"]"#))).unwrap_err();
    assert_eq!((error.code(), error.option()), ("contradiction", Some("trusted_proxies")));
    Bound::bind(&policy(&format!(r#"{listen}, "trusted_proxies": ["unix", "10.0.0.1"]"#))).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn a_standard_stream_that_was_the_socket_is_not_the_next_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    rustix::stdio::dup2_stdin(&listener).unwrap();
    drop(listener);
    let bound = listen("fd:0").unwrap();
    TcpStream::connect(address).unwrap();
    assert_eq!(bound.addresses, [address.to_string()]);
    assert_eq!(std::fs::read_link("/proc/self/fd/0").unwrap(), Path::new("/dev/null"));
}
