//! The driver against real servers of Redis.
#![cfg(unix)]

mod nodes;
mod redis;
mod sessions;
