//! What came of a reload, as events, and in a sentence.

use schemars::JsonSchema;
use serde::Serialize;

use crate::config::units::count;

/// Another configuration is in effect, or the same again.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Reloaded {
    /// `admin`, `signal` or `file`.
    pub by: &'static str,
    /// The keys that are others now; none: nothing is another.
    pub changed: Vec<String>,
    /// Connections whose route or backend is not there any more: they stay until they end.
    pub orphaned: usize,
}

/// A reload was refused: everything is as it was.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ReloadFailed {
    /// `admin`, `signal` or `file`.
    pub by: &'static str,
    /// Why.
    pub reason: String,
    /// All that is wrong with the file, as `greenroom check` shows it: several lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problems: Option<String>,
    /// The keys for which greenroom has to be restarted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub restart_needed: Vec<String>,
}

impl Reloaded {
    pub(super) fn sentence(&self) -> String {
        let keys = self.changed.join(", ");
        match (self.changed.is_empty(), self.orphaned) {
            (true, _) => "reloaded: nothing changed".into(),
            (false, 0) => format!("reloaded: {keys}"),
            (false, stay) => {
                let (connections, stay) = (count(stay, "connection"), if stay == 1 { "stays" } else { "stay" });
                format!("reloaded: {keys}; {connections} {stay} whose route or backend is gone")
            }
        }
    }
}

impl ReloadFailed {
    /// What is wrong with the file takes several lines.
    pub(super) fn sentence(&self) -> String {
        let mut sentence = format!("the reload is refused, and everything is as it was: {}", self.reason);
        if let Some(problems) = &self.problems {
            sentence.push('\n');
            sentence.push_str(problems.trim_end());
        }
        sentence
    }
}
