//! A server that tells how it is doing: `curl http://ADDRESS/metrics`, with the second address that it prints.
//!
//! It echoes texts, serves a page of `https://app.example` with the token `good` in `X-Auth-Token`, and ends with its
//! standard input.

use std::io::Read;
use std::thread;

use wsguard::{Event, Options, Server};

fn main() -> Result<(), wsguard::Error> {
    let options = Options::from_json(
        r#"{"listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0", "origins": ["https://app.example"], "protocol": "raw",
            "auth": {"tokens": [{"token": "good", "user": "alice"}]}}"#,
    )?;
    let server = Server::start(options)?;
    println!("{} {}", server.address(), server.admin_address().unwrap_or_default());
    let handle = server.handle();
    thread::spawn(move || {
        // Whatever ends the input ends the server.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        handle.stop();
    });
    server.run(|event, server| {
        if let Event::Text(conn, text) = event {
            server.conn(conn).send(text)?;
        }
        Ok(())
    });
    Ok(())
}
