//! The connections of a run, by id and by user.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use wsguard::binding::{ConnectionId, ConnectionMap};

use crate::connection::Connection;

/// The open connections that the application knows.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    all: ConnectionMap<Py<Connection>>,
    of_users: HashMap<Arc<str>, BTreeSet<ConnectionId>>,
}

impl Connections {
    pub(crate) fn insert(&mut self, id: ConnectionId, user: Option<&Arc<str>>, conn: Py<Connection>) {
        self.all.insert(id, conn);
        if let Some(user) = user {
            self.of_users.entry(Arc::clone(user)).or_default().insert(id);
        }
    }

    pub(crate) fn get<'py>(&self, py: Python<'py>, id: ConnectionId) -> Option<Bound<'py, Connection>> {
        self.all.get(id).map(|conn| conn.bind(py).clone())
    }

    /// The connection of an id as text.
    pub(crate) fn find<'py>(&self, py: Python<'py>, id: &str) -> Option<Bound<'py, Connection>> {
        let found = ConnectionId::from_u64(u64::from_str_radix(id, 16).ok()?);
        if found.to_string() == id { self.get(py, found) } else { None }
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Py<Connection>> {
        let conn = self.all.remove(id)?;
        if let Some(user) = conn.get().user_name()
            && let Some(own) = self.of_users.get_mut(user)
        {
            own.remove(&id);
            if own.is_empty() {
                self.of_users.remove(user);
            }
        }
        Some(conn)
    }

    pub(crate) fn every<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, Connection>> {
        self.all.values().map(|conn| conn.bind(py).clone()).collect()
    }

    pub(crate) fn of_user<'py>(&self, py: Python<'py>, user: &str) -> Vec<Bound<'py, Connection>> {
        let ids = self.of_users.get(user).into_iter().flatten();
        ids.filter_map(|id| self.get(py, *id)).collect()
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.all.values().try_for_each(|conn| visit.call(conn))
    }
}
