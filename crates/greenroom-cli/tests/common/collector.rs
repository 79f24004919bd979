//! A collector of traces: `tests/e2e/otlp_collector.py`.

use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{Lines, fixture, python, raw::SOON};

/// See the module's head. Killed, by its own process id, when dropped.
pub struct Collector {
    child: Child,
    stdout: Lines,
    /// Where it takes traces.
    pub endpoint: String,
}

impl Collector {
    /// `take`, `refuse` or `hang`.
    pub fn start(how: &str) -> Self {
        let mut child = Command::new(python("python"))
            .args([&fixture("otlp_collector.py"), how])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let stdout = Lines::of(child.stdout.take().unwrap());
        let listening = stdout.wait_for(0, SOON, |event| event["event"] == "listening");
        Self {
            child,
            stdout,
            endpoint: format!("http://127.0.0.1:{}", listening["port"]),
        }
    }

    /// What it got last of this kind that fits, once it is there.
    pub fn got(&self, event: &str, fits: impl Fn(&Value) -> bool) -> Value {
        self.stdout
            .wait_for(0, SOON, |each| each["event"] == event && fits(each))
    }

    /// All that it got.
    pub fn all(&self) -> String {
        self.stdout.all()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
