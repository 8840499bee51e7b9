//! Nodes over a model of Redis: what they promise to one another, in whatever order things come.

mod buckets;
mod hostile;
mod sequences;
mod store;
mod walks;
mod world;
