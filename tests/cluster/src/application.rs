//! An application in Rust for what the console of the test hosts has no words for: everyone, and all but one. It is this
//! program under another name; no test uses anything of it but its standard input and output.

use std::io::{BufRead, Write as _};
use std::process::ExitCode;

use serde_json::{Value, json};
use wsguard::{Builder, Error, Event, Handle, Options};
use wsguard_test_support::outcome::Outcome;
use wsguard_test_support::setup::Setup;

const VARIABLE: &str = "WSGUARD_CLUSTER_APPLICATION";

/// Starts it as a node.
pub(crate) fn start(setup: Setup) -> Outcome<wsguard_test_support::host::Host> {
    setup.with_events().environment(VARIABLE, "1").start(&std::env::current_exe()?)
}

/// Whether this process is to be it.
pub(crate) fn is_wanted() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

pub(crate) fn main() -> ExitCode {
    wsguard::log_to_stderr();
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print(&json!({"type": "error", "code": error.code(), "message": error.to_string()}));
            ExitCode::from(2)
        }
    }
}

fn print(line: &Value) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

fn serve() -> Result<(), Error> {
    let mut first = String::new();
    let _ = std::io::stdin().lock().read_line(&mut first);
    let input: Value = serde_json::from_str(&first).unwrap_or_default();
    let server = Builder::new().start(Options::from_value(&input["options"])?)?;
    print(&json!({"type": "listening", "addr": server.address()}));
    let commands = server.handle();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let command: Value = serde_json::from_str(&line).unwrap_or_default();
            let ok = carry_out(&commands, &command).is_ok();
            if command["do"] != "metrics" {
                print(&json!({"type": "done", "do": command["do"], "ok": ok}));
            }
        }
        commands.stop();
    });
    server.run(|event, server| {
        if let Event::Message(message) = event {
            let data: Value = message.data()?;
            let room = data["room"].as_str().unwrap_or_default();
            match message.event {
                "join" => {
                    server.conn(message.conn).join(room)?;
                    server.reply(&message, "joined", &message.data)?;
                }
                "echo" => _ = server.reply(&message, "echo", &message.data)?,
                // All others hear it, wherever they are.
                "say" => _ = server.room(room).except(message.conn).emit("said", &message.data)?,
                _ => {}
            }
        }
        Ok(())
    });
    Ok(())
}

fn carry_out(server: &Handle, command: &Value) -> Result<(), Error> {
    let event = command["event"].as_str().unwrap_or_default();
    match command["do"].as_str() {
        Some("metrics") => print(&json!({"type": "metrics", "text": server.metrics()})),
        Some("everyone") => _ = server.everyone().emit(event, &command["data"])?,
        _ => return Err(Error::InvalidArgument("unknown command")),
    }
    Ok(())
}
