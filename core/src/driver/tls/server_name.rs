//! The name that a client asks for (SNI, RFC 6066 section 3). rustls tells it to the resolver of certificates only, where its
//! connections are unbuffered, so that this one notes it for the connection that is at work on the thread.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

thread_local! {
    static ASKED: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// The name that was asked for in what this thread has just read, if that was a client's first words.
pub(super) fn take_server_name() -> Option<Box<str>> {
    ASKED.take()
}

/// A resolver that notes the name.
#[derive(Debug)]
pub(super) struct NotesServerName(pub(super) Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for NotesServerName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        ASKED.set(hello.server_name().map(Into::into));
        self.0.resolve(hello)
    }
}
