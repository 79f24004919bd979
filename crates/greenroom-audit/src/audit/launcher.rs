//! What is started for a run, and on which port: CMD by itself, or greenroom in front of it.
//!
//! The port is fresh for each run and kept by a socket that does not listen, as `greenroom run` keeps it. A server that
//! does not set SO_REUSEADDR cannot take it: after a start that ended without listening it is given up, for good.
//! With a fixed port in `--url`, that is used, and must be free.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use greenroom::supervise::{ReservedPort, fill_port};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::observe;
use super::process::Program;
use super::target::Target;
use crate::limits;

/// Which side is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// The server by itself.
    Plain,
    /// Behind greenroom.
    Greenroom,
}

/// Why there is no port.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// None is free.
    #[error("cannot reserve a port")]
    None(#[from] io::Error),
    /// Somebody else listens there.
    #[error("somebody listens at {0} already; give --url another port, or none, and the audit takes a free one")]
    Taken(SocketAddr),
}

/// Builds what is started.
#[derive(Debug)]
pub struct Launcher {
    /// CMD, with `{port}` in it.
    pub command: Vec<OsString>,
    /// The program greenroom, for what stands in front.
    pub gateway: PathBuf,
    /// Its arguments between `run` and what is decided here.
    pub gateway_flags: Vec<OsString>,
    given_up: AtomicBool,
}

/// A port for one run.
#[derive(Debug)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// Dropped with this, if it is still kept.
    _reserved: Option<ReservedPort>,
}

impl Launcher {
    /// For this command, and greenroom at this path.
    #[must_use]
    pub const fn new(command: Vec<OsString>, gateway: PathBuf) -> Self {
        Self {
            command,
            gateway,
            gateway_flags: Vec::new(),
            given_up: AtomicBool::new(false),
        }
    }

    /// A port for a run of this kind. Waits a moment for a fixed port that the run before has just left.
    ///
    /// # Errors
    /// When there is none.
    pub async fn port(&self, target: &Target, way: Way) -> Result<Port, PortError> {
        if let (Some(number), Way::Plain) = (target.port(), way) {
            let address = target.address(number);
            let deadline = Instant::now() + limits::AUDIT_KILL;
            while observe::is_taken(address).await {
                if Instant::now() > deadline {
                    return Err(PortError::Taken(address));
                }
                tokio::time::sleep(limits::AUDIT_SWEEP).await;
            }
            return Ok(Port {
                number,
                _reserved: None,
            });
        }
        let (reserved, number) = ReservedPort::new()?;
        if way == Way::Plain && self.given_up.load(Ordering::Relaxed) {
            reserved.give_up();
        }
        Ok(Port {
            number,
            _reserved: Some(reserved),
        })
    }

    /// Keeps no port any more: CMD may be one that cannot share it. False if that was so already.
    pub fn give_up(&self) -> bool {
        !self.given_up.swap(true, Ordering::Relaxed)
    }

    /// What is started for a run at `port`.
    #[must_use]
    pub fn program(&self, way: Way, target: &Target, port: u16) -> Program {
        let word = |text: &str| OsString::from(text);
        match way {
            Way::Plain => Program {
                words: fill_port(&self.command, port),
                env: vec![("PORT".into(), port.to_string().into())],
            },
            Way::Greenroom => {
                let mut words = vec![self.gateway.clone().into_os_string(), word("run")];
                words.extend(self.gateway_flags.iter().cloned());
                words.extend([word("--log-format"), word("json"), word("--listen")]);
                words.push(target.address(port).to_string().into());
                if let Some(fixed) = target.port() {
                    words.extend([word("--backend"), target.address(fixed).to_string().into()]);
                }
                words.push(word("--"));
                words.extend(self.command.iter().cloned());
                Program { words, env: Vec::new() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_start_the_same_command() {
        let command = ["server", "--port", "{port}"].map(OsString::from).to_vec();
        let launcher = Launcher::new(command, "greenroom".into());
        let target = Target::default();
        let plain = launcher.program(Way::Plain, &target, 7);
        assert_eq!(plain.words, ["server", "--port", "7"]);
        assert_eq!(plain.env, [("PORT".into(), "7".into())]);
        let behind = launcher.program(Way::Greenroom, &target, 7);
        let expected = "greenroom run --log-format json --listen 127.0.0.1:7 -- server --port {port}";
        assert_eq!(behind.words.join(std::ffi::OsStr::new(" ")), expected);
        let fixed = Target::parse("ws://127.0.0.1:9000/ws").unwrap();
        let behind = launcher.program(Way::Greenroom, &fixed, 7);
        assert!(behind.words.iter().any(|word| word == "127.0.0.1:9000"), "{behind:?}");
    }

    #[tokio::test]
    async fn a_fixed_port_that_is_taken_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let launcher = Launcher::new(vec!["x".into()], "greenroom".into());
        let target = Target::parse(&format!("ws://{address}/")).unwrap();
        let error = launcher.port(&target, Way::Plain).await.unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        drop(listener);
        assert_eq!(launcher.port(&target, Way::Plain).await.unwrap().number, address.port());
    }
}
