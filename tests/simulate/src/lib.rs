//! A cluster on fake time: real `Node`s, and a model of what they keep on Redis that is proved beside a real one.

pub mod model;
pub mod random;
