//! `wsguard serve`.

use crate::outcome::{Ended, Failure};

#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: Args) -> Ended {
    Err(Failure::new("not built yet"))
}
