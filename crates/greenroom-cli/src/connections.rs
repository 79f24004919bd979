//! The commands about connections of a greenroom that runs: `ps`, `show`, `why`.
//!
//! What is printed is fit for a terminal: no control characters, whatever a client or a backend chose for a path or a reason.

use std::io::Write;

use greenroom::admin::client::{Client, ClientError, Connection};
use greenroom::admin::report::{connection, reason, table};

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
        Ok(Some(found)) if asked.json => configure::print(&json(&found)),
        Ok(Some(found)) => configure::print(&text(&found)),
        Ok(None) => {
            let session = asked.session.unwrap_or_default();
            let _ = writeln!(
                std::io::stderr(),
                "error: no connection with session {session} is open or among the last that ended; `greenroom ps` and `greenroom ps --closed` list them"
            );
            1
        }
        Err(error) => fail(&error),
    }
}

/// The connection of a number, or the latest of a session.
fn find(asked: &One) -> Result<Option<Connection>, ClientError> {
    let client = Client::find(asked.admin.as_deref())?;
    if let Some(number) = asked.number {
        return client.connection(number).map(Some);
    }
    let session = asked.session.map(|session| ("session", session.to_string()));
    let backend = asked.backend.clone().map(|backend| ("backend", backend));
    let filter: Vec<_> = session.into_iter().chain(backend).collect();
    // Closed first: one that ends in between is in both, and else in neither.
    let closed = client.connections(true, &filter)?.connections.into_iter().next();
    let open = client.connections(false, &filter)?.connections.pop();
    Ok(open.or(closed))
}
