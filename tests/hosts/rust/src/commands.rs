//! Commands of the console that the server carries out at once.

use serde_json::{Value, json};
use wsguard::{ConnectionId, Error, Handle, Options, Whom};

/// Carries out a command; returns its answer.
pub(crate) fn run(server: &Handle, name: &str, command: &Value) -> Value {
    match answer(server, name, command) {
        Ok(answer) => answer,
        Err(error) => json!({"type": "done", "do": name, "ok": false, "code": error.code(), "option": error.option(),
            "message": error.to_string(), "error": error.to_string()}),
    }
}

fn answer(server: &Handle, name: &str, command: &Value) -> Result<Value, Error> {
    let text = |key: &str| command[key].as_str().unwrap_or_default();
    match name {
        "reload" => {
            crate::keep_who(&command["options"]);
            let generation = server.reload(Options::from_value(&command["options"])?)?;
            return Ok(json!({"type": "done", "do": name, "ok": true, "generation": generation}));
        }
        "metrics" => return Ok(json!({"type": "metrics", "text": server.metrics()})),
        "reload_tls" => server.reload_tls()?,
        "disconnect_user" => server.disconnect_user(text("user")),
        "broadcast" => _ = server.room(text("room")).emit(text("event"), &command["data"])?,
        "ban" => server.ban(whom(command), command["for_ms"].as_u64(), text("reason"))?,
        "unban" => _ = server.unban(whom(command))?,
        "to_user" => _ = server.to_user(text("user")).emit(text("event"), &command["data"])?,
        "ping" => {
            // As the host prints it.
            let id = u64::from_str_radix(text("conn"), 16).unwrap_or(0);
            if server.conn(ConnectionId::from_u64(id)).ping()?.is_closed() {
                return Err(Error::ConnectionClosed);
            }
        }
        _ => return Err(Error::InvalidArgument("unknown command")),
    }
    Ok(json!({"type": "done", "do": name, "ok": true}))
}

/// The address, or the user.
fn whom(command: &Value) -> Whom<'_> {
    match command["ip"].as_str() {
        Some(ip) => Whom::Ip(ip),
        None => Whom::User(command["user"].as_str().unwrap_or_default()),
    }
}
