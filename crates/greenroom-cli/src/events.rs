//! `greenroom events`: what happens in a greenroom that runs, as it happens.
//!
//! Each event is a line: a sentence, or with `--json` the line of the log with its id. Where a socket was named, it waits
//! there for the next greenroom when one has ended, and goes on behind the last event.

use std::io::{self, Write};
use std::ops::ControlFlow;

use greenroom::admin::client::{Client, Ended, Follow, Said};
use greenroom::telemetry::is_safe;

use crate::args::Events;
use crate::fail;

/// Exit code where the stream breaks off.
const BROKEN: u8 = 1;

/// `greenroom events`.
pub(crate) fn events(asked: &Events) -> u8 {
    let named = asked.admin.is_some() || std::env::var_os("GREENROOM_ADMIN").is_some_and(|path| !path.is_empty());
    let text = |value: &Option<String>| value.clone();
    let query = [
        ("event", (!asked.event.is_empty()).then(|| asked.event.join(","))),
        ("backend", text(&asked.backend)),
        ("session", asked.session.map(|number| number.to_string())),
        ("connection", asked.connection.map(|number| number.to_string())),
        ("form", Some(if asked.json { "json" } else { "text" }.to_owned())),
    ];
    let what = Follow {
        query: query
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect(),
        after: asked.after.clone(),
        last: asked.last,
        follows: asked.follow || asked.last.is_none(),
        comes_again: named,
    };
    let mut failed = None;
    let followed = Client::find(asked.admin.as_deref()).and_then(|client| {
        client.follow(&what, |said| match tell(said, asked.json) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })
    });
    match (followed, failed) {
        (_, Some(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr(), "error: cannot write to standard output: {error}");
            BROKEN
        }
        (Ok(Ended::Broken), None) => {
            let _ = writeln!(
                io::stderr(),
                "error: the stream broke off: greenroom ended without a word"
            );
            BROKEN
        }
        (Ok(_), _) => 0,
        (Err(error), _) => fail(&error),
    }
}

fn tell(said: Said, as_json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match said {
        Said::Event(_, data) if as_json => writeln!(out, "{data}")?,
        Said::Event(_, data) => {
            // What takes several lines is shown as it is, below its first.
            for (index, line) in data.split('\n').enumerate() {
                let line: String = line.chars().filter(|&c| is_safe(c)).collect();
                writeln!(out, "{}{line}", if index == 0 { "" } else { "    " })?;
            }
        }
        Said::Waits => {
            drop(out);
            let _ = writeln!(
                io::stderr(),
                "the stream has ended; waiting for a greenroom at the same socket"
            );
            return Ok(());
        }
    }
    out.flush()
}
