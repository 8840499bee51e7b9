//! wsguard beside the servers a user would pick instead: what they cost on one core, measured in one run.
//!
//! [`plan`] says what is measured and on whom, [`server`] starts a candidate and reads its cost from the operating
//! system, [`generator`] is the load, [`report`] makes the table. [`peer`] is what the peer servers share.
//! How to read the figures is in `bench/README.md`.

pub mod candidates;
pub mod generator;
pub mod goals;
pub mod install;
pub mod machine;
pub mod peer;
pub mod plan;
pub mod plot;
pub mod plots;
pub mod policy;
pub mod process;
pub mod redis;
pub mod report;
pub mod results;
pub mod sample;
pub mod server;
