//! The commands about connections of a greenroom that runs: `ps`, `show`, `why`.
//!
//! What is printed is fit for a terminal: no control characters, whatever a client or a backend chose for a path or a reason.

use std::collections::BTreeSet;
use std::io::Write;

use greenroom::admin::client::{Client, ClientError, Connection};
use greenroom::admin::report::{self, connection, reason, table};

use crate::args::{One, Ps};
use crate::ask::json;
use crate::{configure, fail};

/// `greenroom ps`.
pub(crate) fn ps(asked: &Ps) -> u8 {
    let text = |value: &Option<String>| value.clone();
    let which = asked.which.filter();
    let filter = [
        ("state", text(&asked.state)),
        ("backend", which.backend),
        ("route", which.route),
        ("user", which.user),
        ("tag", which.tag),
        ("address", which.address.map(|address| address.to_string())),
        ("older_than", which.older_than),
        ("cause", text(&asked.cause)),
        ("limit", asked.limit.map(|limit| limit.to_string())),
        ("after", asked.after.map(|after| after.to_string())),
    ];
    let filter: Vec<_> = (filter.into_iter())
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    let found = Client::find(asked.admin.as_deref()).and_then(|client| client.connections(asked.closed, &filter));
    match found {
        Ok(found) if asked.json => configure::print(&json(&found)),
        Ok(found) => configure::print(&table(&found)),
        Err(error) => fail(&error),
    }
}

/// `greenroom show`.
pub(crate) fn show(asked: &One) -> u8 {
    tell(asked, connection)
}

/// `greenroom why`.
pub(crate) fn why(asked: &One) -> u8 {
    tell(asked, reason)
}

fn tell(asked: &One, text: impl Fn(&Connection) -> String) -> u8 {
    match find(asked) {
        Err(error) => fail(&error),
        Ok(Found::Of(names)) => {
            let session = asked.session.unwrap_or_default();
            let _ = writeln!(
                std::io::stderr(),
                "error: several backends have had a session {session}: {}; say which one with --backend NAME",
                report::harmless(&names.into_iter().collect::<Vec<_>>().join(", "))
            );
            1
        }
        Ok(Found::One(found)) if asked.json => configure::print(&json(&found)),
        Ok(Found::One(found)) => configure::print(&text(&found)),
        Ok(Found::Nothing) => {
            let session = asked.session.unwrap_or_default();
            let _ = writeln!(
                std::io::stderr(),
                "error: no connection with session {session} is open or among the last that ended; `greenroom ps` and `greenroom ps --closed` list them"
            );
            1
        }
    }
}

/// What is found by a number.
enum Found {
    One(Box<Connection>),
    Nothing,
    /// Sessions of this number, of several backends: their names.
    Of(BTreeSet<String>),
}

/// The connection of a number, or the latest of a session.
fn find(asked: &One) -> Result<Found, ClientError> {
    let client = Client::find(asked.admin.as_deref())?;
    if let Some(number) = asked.number {
        return client.connection(number).map(|found| Found::One(found.into()));
    }
    let session = asked.session.map(|session| ("session", session.to_string()));
    let backend = asked.backend.clone().map(|backend| ("backend", backend));
    let filter: Vec<_> = session.into_iter().chain(backend).collect();
    // Closed first: one that ends in between is in both, and else in neither.
    let closed = client.connections(true, &filter)?.connections;
    let mut open = client.connections(false, &filter)?.connections;
    let names: BTreeSet<_> = (closed.iter().chain(&open))
        .filter_map(|one| one.backend.clone())
        .collect();
    if names.len() > 1 {
        return Ok(Found::Of(names));
    }
    if let Some(open) = open.pop() {
        // Asked for by its number it says what it waits for; it may have ended meanwhile.
        return Ok(Found::One(client.connection(open.number).unwrap_or(open).into()));
    }
    Ok(match closed.into_iter().next() {
        Some(closed) => Found::One(closed.into()),
        None => Found::Nothing,
    })
}
