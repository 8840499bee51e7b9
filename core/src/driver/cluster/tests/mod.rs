//! The driver against real servers of Redis.

mod redis;
mod sessions;
