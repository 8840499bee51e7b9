//! The driver against real servers of Redis.

mod nodes;
mod redis;
mod sessions;
