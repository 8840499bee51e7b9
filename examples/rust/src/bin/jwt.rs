//! Who has a JSON Web Token may connect, until it expires; one event signs a user out on every device.
//!
//! The token comes as a subprotocol, where a browser can put it: `new WebSocket(url, ["bearer", token])`. Here it is signed
//! with a shared secret; for the public keys of an identity provider give `"ES256"` and `keys`.

use std::error::Error;

use serde::Serialize;
use wsguard::options::{Auth, EventOptions, JwtOptions, Options};
use wsguard::serde_json::json;
use wsguard::{Event, Handle, Server};

#[derive(Serialize)]
struct Welcome<'w> {
    user: &'w str,
    expires_at_ms: Option<u64>,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let secret = std::env::var("JWT_SECRET").map_err(|_| "JWT_SECRET: give the secret that signs the tokens")?;
    let jwt = JwtOptions {
        algorithms: vec!["HS256".into()],
        key: Some(secret.into()),
        issuer: Some("https://login.example".into()),
        audience: Some("chat".into()),
        ..JwtOptions::default()
    };
    let mut options = Options::new(["http://localhost:3000"], Auth::Jwt(Box::new(jwt)));
    options.listen = wsguard_examples::listen();
    options.token_sources = Some(vec!["subprotocol".into()]);
    let nothing = EventOptions { schema: Some(json!({ "type": "null" })), ..EventOptions::default() };
    options.events.insert("sign_out_everywhere".into(), nothing);
    Ok(options)
}

fn handle(event: &Event<'_>, server: &Handle) -> Result<(), wsguard::Error> {
    match event {
        Event::Open(open) => {
            let user = open.user.as_deref().unwrap_or_default();
            // The room of a user is every device of theirs.
            server.conn(open.conn).join(user)?;
            server.conn(open.conn).emit("welcome", &Welcome { user, expires_at_ms: open.expires_at_ms })?;
            server.room(user).except(open.conn).emit("signed_in_elsewhere", &())?;
            println!("{user} has come");
        }
        Event::Violation(violation) => println!("refused or closed: {}", violation.code),
        _ => {}
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    wsguard::log_to_stderr();
    let mut server = Server::start(options()?)?;
    println!("listening on {}", server.address());
    let handle_of_server = server.handle();
    wsguard_examples::drain_on_signal(server.handle())?;
    let mut users = std::collections::HashMap::new();
    while let Some(event) = server.recv().await {
        match &event {
            Event::Open(open) => _ = users.insert(open.conn, open.user.clone()),
            Event::Close(close) => _ = users.remove(&close.conn),
            // The only event that the policy lets pass.
            Event::Message(message) => {
                if let Some(Some(user)) = users.get(&message.conn) {
                    handle_of_server.disconnect_user(user);
                }
            }
            _ => {}
        }
        handle(&event, &handle_of_server)?;
    }
    Ok(())
}
