//! How many there are on all nodes of a cluster: counted by other threads, and told to a function of the application.

use core::cell::Cell;
use core::ffi::{c_char, c_void};
use core::time::Duration;

use wsguard::binding::{Error, Everywhere, To};

use crate::boundary::foreign;
use crate::commands::{left_out, named, named_all};
use crate::pointers::{Str, Userdata};
use crate::running::{ServerHandle, running};
use crate::status::Status;

/// A function that receives a count: `WSG_OK` with the number of connections, those of this node among them, and the number
/// of nodes that have not answered in time; or `WSG_ERR_STOPPED` with zeros, where the server has ended meanwhile.
///
/// It is called exactly once if the call that it was given to has returned `WSG_OK`, and never otherwise: on the thread of
/// that call before it returns, where no other node has to be asked, or on a thread of the library. It must return soon,
/// and must not wait for the server: `wsg_server_free` and what takes events return `WSG_ERR_REENTRANT` in it.
pub type EverywhereFn =
    Option<extern "C-unwind" fn(userdata: *mut c_void, status: Status, connections: usize, missing: u32)>;

thread_local! {
    static IS_TOLD: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is in such a function: the server waits for it.
pub(crate) fn is_told() -> bool {
    IS_TOLD.get()
}

/// Who hears of a count.
#[derive(Clone, Copy)]
struct Listener {
    counted: extern "C-unwind" fn(*mut c_void, Status, usize, u32),
    userdata: Userdata,
}

impl Listener {
    fn tell(self, outcome: Result<Everywhere, Error>) {
        let (status, Everywhere { connections, missing, .. }) = match outcome {
            Ok(everywhere) => (Status::Ok, everywhere),
            Err(error) => (error.into(), Everywhere::default()),
        };
        let before = IS_TOLD.replace(true);
        foreign(|| (self.counted)(self.userdata.pointer(), status, connections, missing));
        IS_TOLD.set(before);
    }
}

fn count(
    server: *const ServerHandle,
    to: To<'_>,
    (except, except_len): (*const u64, usize),
    timeout_ms: u64,
    counted: EverywhereFn,
    userdata: *mut c_void,
) -> Result<Status, Status> {
    let listener = Listener { counted: counted.ok_or(Status::ErrNull)?, userdata: Userdata::new(userdata) };
    let except = left_out(except, except_len)?;
    let timeout = Duration::from_millis(timeout_ms);
    running(server)?.commands.count_everywhere(to, &except, timeout, move |outcome| listener.tell(outcome))?;
    Ok(Status::Ok)
}

exports! {
    /// Counts whoever is in at least one of these rooms (1 to 256 bytes each) on every node of the `cluster`, and calls
    /// `counted` with the number: `rooms` points at `rooms_len` of them. Who is in several counts once. `except` points at
    /// `except_len` connections of this node that are left out.
    ///
    /// Nodes have `timeout_ms` milliseconds to answer, a minute at most; what they have is not in the number when they do
    /// not. Without `cluster`, and where no other node has members, it counts this node and asks nobody.
    ///
    /// Any thread, callbacks and inline handlers included; the call does not wait. Returns `WSG_OK`: `counted` is called
    /// once, as `wsg_everywhere_fn` says; or `WSG_ERR_ARGUMENT`, `WSG_ERR_STOPPED`, `WSG_ERR_UTF8`, `WSG_ERR_NULL`,
    /// `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`: it is not.
    pub fn wsg_server_rooms_everywhere(server: *const ServerHandle, rooms: *const Str, rooms_len: usize,
        except: *const u64, except_len: usize, timeout_ms: u64, counted: EverywhereFn, userdata: *mut c_void,
    ) -> Status {
        let rooms = named_all(rooms, rooms_len)?;
        count(server, To::Rooms(&rooms), (except, except_len), timeout_ms, counted, userdata)
    }

    /// Counts the connections of a user (1 to 256 bytes) on every node. Otherwise as `wsg_server_rooms_everywhere`.
    pub fn wsg_server_user_everywhere(server: *const ServerHandle, user: *const c_char, user_len: usize,
        except: *const u64, except_len: usize, timeout_ms: u64, counted: EverywhereFn, userdata: *mut c_void,
    ) -> Status {
        let user = named(user, user_len)?;
        count(server, To::User(user), (except, except_len), timeout_ms, counted, userdata)
    }

    /// Counts all connections of every node. Otherwise as `wsg_server_rooms_everywhere`.
    pub fn wsg_server_all_everywhere(server: *const ServerHandle, except: *const u64, except_len: usize,
        timeout_ms: u64, counted: EverywhereFn, userdata: *mut c_void,
    ) -> Status {
        count(server, To::Everyone, (except, except_len), timeout_ms, counted, userdata)
    }
}
