//! What every peer server does around its echo: the start and the end that `docs/HOST.md` asks of a test host.
//!
//! The first line of stdin carries options, which a peer has none of; stdout gets one `listening` line; the end of
//! stdin ends the process, so that a peer never outlives the bench that started it.

use std::io::{self, BufRead, Read};
use std::net::SocketAddr;
use std::process;
use std::thread;

use tokio::net::{TcpListener, TcpStream};

/// Accepts connections for ever on a current-thread runtime, and hands each to `serve` in a task of its own.
pub fn run<F>(serve: impl Fn(TcpStream) -> F) -> io::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    io::stdin().lock().read_line(&mut String::new())?;
    thread::spawn(exit_at_end_of_stdin);
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        announce(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            // Without it, Nagle's algorithm holds small echoes back for 40 ms; every deployment sets it.
            stream.set_nodelay(true)?;
            tokio::spawn(serve(stream));
        }
    })
}

fn announce(address: SocketAddr) {
    println!(r#"{{"type":"listening","addr":"{address}"}}"#);
}

fn exit_at_end_of_stdin() {
    let _ = io::stdin().lock().read_to_end(&mut Vec::new());
    process::exit(0);
}
