//! Questions across the nodes of a cluster. An answer comes on any thread of the core's: it is noted, and JavaScript is woken to
//! take it.

use std::sync::{Arc, Mutex, PoisonError};

use napi_derive::napi;
use wsguard::binding::{Error, Everywhere, Wake};

use crate::error::message;

/// An answer, as JavaScript takes it.
#[napi(object)]
pub struct Counted {
    pub ticket: u32,
    pub connections: f64,
    pub missing: u32,
    /// The code of the error that it is instead, and its message.
    pub code: Option<String>,
    pub message: Option<String>,
}

/// The number of a question, and its answer.
type Answer = (u32, Result<Everywhere, Error>);

/// Answers that JavaScript has not taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts(Arc<Mutex<Vec<Answer>>>);

impl Counts {
    /// What takes the answer to a question. `wake` is called when it has come.
    pub(crate) fn answer<W: Wake>(
        &self,
        ticket: u32,
        wake: W,
    ) -> impl FnOnce(Result<Everywhere, Error>) + Send + use<W> {
        let answers = self.clone();
        move |outcome| {
            answers.0.lock().unwrap_or_else(PoisonError::into_inner).push((ticket, outcome));
            wake.wake();
        }
    }

    /// The answers that have come.
    pub(crate) fn take(&self) -> Vec<Counted> {
        let came = core::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        came.into_iter().map(counted).collect()
    }
}

fn counted((ticket, outcome): Answer) -> Counted {
    let (counted, error) = match outcome {
        Ok(everywhere) => (everywhere, None),
        Err(error) => (Everywhere::default(), Some(error)),
    };
    Counted {
        ticket,
        connections: counted.connections as f64,
        missing: counted.missing,
        code: error.as_ref().map(|error| error.code().to_owned()),
        message: error.as_ref().map(message),
    }
}
