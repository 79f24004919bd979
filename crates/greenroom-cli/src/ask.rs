//! The commands that ask a greenroom that runs, or tell it something: `status`, `phase`.

use std::io::Write;

use greenroom::admin::client::{Client, ClientError, Push};
use greenroom::admin::report;

use crate::args::{Phase, Status};
use crate::{configure, fail};

/// Exit code when a backend that was asked about is not ready.
const NOT_READY: u8 = 3;

/// `greenroom status`.
pub(crate) fn status(asked: &Status) -> u8 {
    match try_status(asked) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

fn try_status(asked: &Status) -> Result<u8, ClientError> {
    let mut all = Client::find(asked.admin.as_deref())?.report()?;
    if let Some(name) = &asked.backend {
        let names: Vec<_> = all.backends.iter().map(|status| status.backend.clone()).collect();
        all.backends.retain(|status| status.backend == *name);
        all.old.retain(|status| status.backend == *name);
        if all.backends.is_empty() && all.old.is_empty() {
            let _ = writeln!(
                std::io::stderr(),
                "error: there is no backend {name:?}; the backends are {}",
                names.join(", ")
            );
            return Ok(1);
        }
    }
    let printed = configure::print(&if asked.json { json(&all) } else { report::text(&all) });
    let ready = all.backends.iter().all(|status| status.condition == "ready");
    Ok(match (printed, ready || !asked.exit_code) {
        (0, false) => NOT_READY,
        (code, _) => code,
    })
}

pub(crate) fn json(value: &impl serde::Serialize) -> String {
    // Strings, numbers and lists: it cannot fail.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

/// `greenroom phase`.
pub(crate) fn phase(said: &Phase) -> u8 {
    let push = Push {
        phase: said.phase.clone(),
        reason: said.reason.clone(),
        generation: said.generation,
    };
    let told = Client::find(said.admin.as_deref()).and_then(|client| client.push(said.backend.as_deref(), &push));
    match told {
        Ok(_) => 0,
        Err(error) => fail(&error),
    }
}
