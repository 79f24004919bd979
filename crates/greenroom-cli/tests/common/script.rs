//! The clients of `tests/e2e/apps_client.js`.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use super::{Lines, e2e, fixture};

/// A run of them.
pub struct Script {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    what: String,
}

impl Script {
    /// `count` clients of a scenario, spread over `seconds`, against a URL.
    pub fn start(scenario: &str, url: &str, count: u32, seconds: f64) -> Self {
        let mut command = Command::new("node");
        command
            .arg(fixture("apps_client.js"))
            .args([scenario, url, &count.to_string(), &seconds.to_string()])
            .env("NODE_PATH", e2e().join("node/node_modules"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("node starts");
        let stdout = Lines::of(child.stdout.take().unwrap());
        let stderr = Lines::of(child.stderr.take().unwrap());
        let what = format!("{scenario} {url}");
        Self {
            child,
            stdout,
            stderr,
            what,
        }
    }

    /// The result of each, none of which failed.
    pub fn all_right(self, within: Duration) -> Vec<Value> {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.stdout.wait_for(0, within, |event| event["event"] == "result")
        }));
        let result = result.unwrap_or_else(|_| panic!("{}: no result:\n{}", self.what, self.stderr.all()));
        let results = result["results"].as_array().expect("results").clone();
        let failed: Vec<_> = results.iter().filter(|result| result["error"].is_string()).collect();
        assert!(
            failed.is_empty(),
            "{}: {} of {} failed: {failed:#?}",
            self.what,
            failed.len(),
            results.len()
        );
        results
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
