//! The effective values, and where each comes from: `greenroom check --explain`.

use std::fmt::Write as _;

use greenroom_core::limits::CONFIG_MESSAGE_MAX;

use super::model::Config;
use super::source::Origin;
use super::units::count;
use crate::telemetry::printable;

/// A value in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Its key, such as `backend.app.ready`.
    pub key: String,
    /// The value, for a person.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether it may be a secret.
    pub is_secret: bool,
}

impl Effective {
    pub(super) fn new(key: &str, value: String, origin: Origin) -> Self {
        Self {
            key: key.into(),
            value,
            origin,
            is_secret: false,
        }
    }

    pub(super) fn secret(mut self) -> Self {
        self.is_secret = true;
        self
    }
}

/// Whether what may be a secret is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// Only that there is something.
    Hidden,
    /// As it is.
    Shown,
}

/// What stands in place of a secret.
pub(super) const HIDDEN: &str = "[hidden]";

/// The values as a table with aligned columns, and below it the routes in the order in which they are tried.
#[must_use]
pub fn explain(config: &Config, effective: &[Effective], secrets: Secrets) -> String {
    let rows: Vec<[String; 3]> = effective
        .iter()
        .map(|effective| {
            let value = if effective.is_secret && secrets == Secrets::Hidden {
                HIDDEN.to_owned()
            } else {
                printable(&effective.value, CONFIG_MESSAGE_MAX)
            };
            [
                printable(&effective.key, CONFIG_MESSAGE_MAX),
                value,
                effective.origin.to_string(),
            ]
        })
        .collect();
    let mut text = String::new();
    // One long value must not push the origins of all others out of sight.
    let width = |column: usize, most: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.filter(|&width| width <= most).max().unwrap_or(0)
    };
    let (keys, values) = (width(0, usize::MAX), width(1, 40));
    for [key, value, origin] in &rows {
        let _ = writeln!(text, "{key:<keys$}  {value:<values$}  {origin}");
    }
    let _ = writeln!(text, "\nroutes, in the order in which they are tried:");
    let name = |index: usize| config.backends.get(index).map_or("?", |backend| backend.name.as_str());
    let widest = config
        .routes
        .iter()
        .map(|route| route.name.chars().count())
        .max()
        .unwrap_or(0);
    for (count, route) in config.routes.iter().enumerate() {
        let _ = writeln!(
            text,
            "{:>3}. {:<widest$}  host {}, path {} -> {}",
            count + 1,
            route.name,
            route.host,
            route.path,
            name(route.backend)
        );
    }
    text
}

/// What there is, in a line.
#[must_use]
pub fn summary(config: &Config) -> String {
    let processes = config
        .backends
        .iter()
        .filter(|backend| backend.process.is_some())
        .count();
    format!(
        "ok: {}, {} ({} to start), {}",
        count(config.listeners.len(), "listener"),
        count(config.backends.len(), "backend"),
        processes,
        count(config.routes.len(), "route"),
    )
}
