//! Options on their way to a server: kept as JSON, which has the contract's own spelling, and checked at every step.

use core::ffi::{c_char, c_void};
use core::mem::MaybeUninit;
use std::sync::Mutex;

use serde_json::{Map, Value, json};
use wsguard::host::{ConfigError, Error, Options};

use crate::error::{ErrorHandle, explain};
use crate::handle::{self, Opaque, Registry, Userdata, lock, optional_text, text};
use crate::inline::{Inline, InlineFn};
use crate::status::Status;

/// Options and what belongs to them, to start servers with. `origins` and `auth` have no default: a server does not start
/// without them.
pub enum OptionsHandle {}

impl Opaque for OptionsHandle {
    type Object = Mutex<Stated>;
    const KIND: usize = 2;
    fn registry() -> &'static Registry<Mutex<Stated>> {
        static OPTIONS: Registry<Mutex<Stated>> = Registry::new();
        &OPTIONS
    }
}

/// What was stated so far.
#[derive(Clone, Debug, Default)]
pub struct Stated {
    values: Map<String, Value>,
    pub(crate) inline: Option<Inline>,
}

impl Stated {
    pub(crate) fn options(&self) -> Result<Options, Error> {
        Ok(Options::from_value(&Value::Object(self.values.clone()))?)
    }
}

/// Changes options; a change that is not accepted leaves them as they were.
fn change(options: *mut OptionsHandle, change: impl FnOnce(&mut Map<String, Value>)) -> Result<(), Error> {
    let stated = handle::find(options).map_err(|_| Error::InvalidArgument("options"))?;
    let mut stated = lock(&stated);
    let mut values = stated.values.clone();
    change(&mut values);
    Options::from_value(&Value::Object(values.clone()))?;
    stated.values = values;
    Ok(())
}

/// Sets one option.
fn set(options: *mut OptionsHandle, name: &str, value: Value) -> Result<Status, Status> {
    handle::find(options)?;
    change(options, |values| drop(values.insert(name.to_owned(), value)))?;
    Ok(Status::Ok)
}

/// The list at `name`, made when it is not there.
fn list<'v>(values: &'v mut Map<String, Value>, name: &str) -> Option<&'v mut Vec<Value>> {
    values.entry(name).or_insert_with(|| json!([])).as_array_mut()
}

/// Reads `name` and its JSON text as the core would, duplicate keys and all.
fn parse(name: &str, json: &str) -> Result<Value, Error> {
    let value: Value =
        serde_json::from_str(json).map_err(|error| ConfigError::invalid(name, format!("not JSON: {error}")))?;
    Options::from_json(&format!("{{{}:{json}}}", Value::from(name)))?;
    Ok(value)
}

exports! {
    /// Empty options: every default, and the two that have none still to be stated.
    ///
    /// On success `*options` is owned by the caller, who frees it with `wsg_options_free`. Options may be used from any
    /// thread. Returns `WSG_OK` or `WSG_ERR_NULL`.
    pub fn wsg_options_new(options: Option<&mut MaybeUninit<*mut OptionsHandle>>) -> Status {
        let place = handle::out(options)?;
        place.write(core::ptr::null_mut());
        place.write(handle::insert(Mutex::new(Stated::default()))?);
        Ok(Status::Ok)
    }

    /// Options from the text of a JSON object, `json_len` bytes: every option of the contract under its own name.
    ///
    /// On success `*options` is owned by the caller, else it is `NULL`. `error` may be `NULL`; when it is not, `*error` is
    /// `NULL` or an error that the caller frees. Returns `WSG_OK`, `WSG_ERR_UNKNOWN_OPTION`, `WSG_ERR_INVALID_OPTION`
    /// (wrong type, or not JSON), `WSG_ERR_NULL` or `WSG_ERR_UTF8`. Required options and contradictions are
    /// `wsg_server_start`'s to find.
    pub fn wsg_options_from_json(json: *const c_char, json_len: usize,
        options: Option<&mut MaybeUninit<*mut OptionsHandle>>, error: Option<&mut MaybeUninit<*mut ErrorHandle>>,
    ) -> Status {
        let place = handle::out(options)?;
        place.write(core::ptr::null_mut());
        let values = text(json, json_len).map(|json| {
            Options::from_json(json)?;
            let values: Map<String, Value> =
                serde_json::from_str(json).map_err(|error| ConfigError::invalid("options", error.to_string()))?;
            Ok::<_, Error>(values)
        });
        let values = explain(error, values?)?;
        place.write(handle::insert(Mutex::new(Stated { values, inline: None }))?);
        Ok(Status::Ok)
    }

    /// Frees options; servers that were started with them go on. Returns `WSG_OK`, `WSG_ERR_NULL` or `WSG_ERR_HANDLE`.
    pub fn wsg_options_free(options: *mut OptionsHandle) -> Status {
        handle::remove(options)?;
        Ok(Status::Ok)
    }

    /// Sets any option by its name, to a JSON text: `"rate_limit"`, `{"per_second": 5, "burst": 10}`.
    ///
    /// `error` as in `wsg_options_from_json`. Returns what that returns, and `WSG_ERR_HANDLE`. On an error the options are
    /// as they were.
    pub fn wsg_options_set(options: *mut OptionsHandle, name: *const c_char, name_len: usize, json: *const c_char,
        json_len: usize, error: Option<&mut MaybeUninit<*mut ErrorHandle>>,
    ) -> Status {
        handle::find(options)?;
        let (name, json) = (text(name, name_len)?, text(json, json_len)?);
        let outcome = parse(name, json)
            .and_then(|value| change(options, |values| drop(values.insert(name.to_owned(), value))));
        explain(error, outcome)?;
        Ok(Status::Ok)
    }

    /// Sets `listen`: `host:port` (port 0: any free one), `unix:PATH` or `fd:N`. Like every setter below it returns `WSG_OK`,
    /// `WSG_ERR_NULL`, `WSG_ERR_HANDLE`, `WSG_ERR_UTF8` or `WSG_ERR_INVALID_OPTION`, and on an error changes nothing.
    pub fn wsg_options_set_listen(options: *mut OptionsHandle, address: *const c_char, address_len: usize) -> Status {
        set(options, "listen", text(address, address_len)?.into())
    }

    /// Sets `threads`: how many I/O threads; 0 is one per core.
    pub fn wsg_options_set_threads(options: *mut OptionsHandle, threads: usize) -> Status {
        set(options, "threads", threads.into())
    }

    /// Adds one of the `origins` that may connect: `https://app.example.com`.
    pub fn wsg_options_add_origin(options: *mut OptionsHandle, origin: *const c_char, origin_len: usize) -> Status {
        handle::find(options)?;
        let origin = text(origin, origin_len)?;
        change(options, |values| {
            if let Some(origins) = list(values, "origins") {
                origins.push(origin.into());
            }
        })?;
        Ok(Status::Ok)
    }

    /// Sets `auth` to `callback`: every handshake that passes the other checks is a `WSG_EVENT_UPGRADE`, whose ticket
    /// wants an answer.
    pub fn wsg_options_set_auth_callback(options: *mut OptionsHandle) -> Status {
        set(options, "auth", "callback".into())
    }

    /// Sets `auth` to `none`: every peer that passes the other checks is accepted, without a user.
    pub fn wsg_options_set_auth_none(options: *mut OptionsHandle) -> Status {
        set(options, "auth", "none".into())
    }

    /// Adds a token of `user` to `auth`, which becomes a list of tokens if it was something else.
    pub fn wsg_options_add_token(options: *mut OptionsHandle, token: *const c_char, token_len: usize,
        user: *const c_char, user_len: usize,
    ) -> Status {
        handle::find(options)?;
        let entry = json!({"token": text(token, token_len)?, "user": text(user, user_len)?});
        change(options, |values| {
            let auth = values.entry("auth").or_insert_with(|| json!({}));
            if auth.get("tokens").is_none() {
                *auth = json!({"tokens": []});
            }
            if let Some(tokens) = auth["tokens"].as_array_mut() {
                tokens.push(entry);
            }
        })?;
        Ok(Status::Ok)
    }

    /// Sets `tls`: certificate chain and private key, each a PEM text or the path of one.
    pub fn wsg_options_set_tls(options: *mut OptionsHandle, cert: *const c_char, cert_len: usize, key: *const c_char,
        key_len: usize,
    ) -> Status {
        set(options, "tls", json!({"cert": text(cert, cert_len)?, "key": text(key, key_len)?}))
    }

    /// Sets `protocol`: `json` or `raw`.
    pub fn wsg_options_set_protocol(options: *mut OptionsHandle, protocol: *const c_char, protocol_len: usize
    ) -> Status {
        set(options, "protocol", text(protocol, protocol_len)?.into())
    }

    /// Adds one of the `events` a peer may send. `schema` is a JSON Schema for its data, or `NULL` for any data.
    pub fn wsg_options_add_event(options: *mut OptionsHandle, name: *const c_char, name_len: usize,
        schema: *const c_char, schema_len: usize,
    ) -> Status {
        handle::find(options)?;
        let name = text(name, name_len)?;
        let rules = match optional_text(schema, schema_len)? {
            Some(schema) => json!({"schema": parse_schema(name, schema)?}),
            None => json!({}),
        };
        change(options, |values| {
            if let Some(events) = values.entry("events").or_insert_with(|| json!({})).as_object_mut() {
                events.insert(name.to_owned(), rules);
            }
        })?;
        Ok(Status::Ok)
    }

    /// Sets `max_message_bytes`.
    pub fn wsg_options_set_max_message_bytes(options: *mut OptionsHandle, bytes: usize) -> Status {
        set(options, "max_message_bytes", bytes.into())
    }

    /// Answers messages on the library's own I/O threads, which is the fastest way to: `handler` is called between reading
    /// a message and writing the answer. `NULL` takes it away.
    ///
    /// It is for work of a few microseconds. **It must not block**: while it runs, every connection of its thread waits. It
    /// is called from several threads at once, `userdata` with it, until `wsg_server_next` has answered `WSG_STOPPED` or
    /// `wsg_server_free` has returned. It may call everything but `wsg_server_start`, `_next`, `_run` and `_free`.
    pub fn wsg_options_set_inline(options: *mut OptionsHandle, handler: InlineFn, userdata: *mut c_void
    ) -> Status {
        let options = handle::find(options)?;
        lock(&options).inline = handler.map(|_| Inline { handler, userdata: Userdata::new(userdata) });
        Ok(Status::Ok)
    }
}

/// Reads a schema as part of the options it belongs to.
fn parse_schema(event: &str, schema: &str) -> Result<Value, Error> {
    let value: Value = serde_json::from_str(schema)
        .map_err(|error| ConfigError::invalid(format!("events.{event}.schema"), format!("not JSON: {error}")))?;
    Options::from_json(&format!("{{\"events\":{{{}:{{\"schema\":{schema}}}}}}}", Value::from(event)))?;
    Ok(value)
}
