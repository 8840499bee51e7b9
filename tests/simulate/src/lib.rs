//! A cluster on fake time: real `Node`s and real buckets, over a model of what they keep on Redis that is proved beside a real one.

pub mod model;
pub mod random;
pub mod world;
