//! `nats`: the server greets with INFO and answers PING with PONG.
//!
//! A server that asks for a login gets the configured one; without one its asking counts
//! as an answer, which is noted once.

use serde::Deserialize;
use serde_json::json;

use super::Why;
use super::dial::Dialer;
use super::talk::Talk;
use super::verdict::{Note, Once, Said};
use crate::config::{Address, Secret};

/// The probe `nats`.
#[derive(Debug)]
pub(super) struct Nats {
    dialer: Dialer,
    login: Option<(String, Secret)>,
    pub(super) notes: Once,
}

/// What matters of INFO.
#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    auth_required: bool,
    #[serde(default)]
    tls_required: bool,
}

impl Nats {
    pub(super) fn new(address: &Address, login: Option<&(String, Secret)>) -> Self {
        Self {
            dialer: Dialer::new(address),
            login: login.cloned(),
            notes: Once::default(),
        }
    }

    pub(super) async fn look(&mut self) -> Result<(), Why> {
        let mut talk = Talk::new(self.dialer.connection().await?);
        let greeting = talk.line().await?;
        let info = greeting.strip_prefix(b"INFO ").unwrap_or_default();
        let info: Info =
            serde_json::from_slice(info).map_err(|_| Why::Nonsense("it does not greet with INFO, as NATS does"))?;
        if info.tls_required {
            return Err(Why::NeedsTls);
        }
        let mut connect = json!({"verbose": false, "pedantic": false, "tls_required": false,
            "name": "greenroom-probe", "lang": "rust", "version": env!("CARGO_PKG_VERSION"), "protocol": 1});
        match (&self.login, info.auth_required) {
            (Some((user, Secret(password))), true) => {
                connect["user"] = json!(user);
                connect["pass"] = json!(password);
            }
            (None, true) => {
                self.notes.tell(Note::NatsLogin);
                return Ok(());
            }
            (_, false) => {}
        }
        talk.send(format!("CONNECT {connect}\r\nPING\r\n").as_bytes()).await?;
        loop {
            match talk.line().await?.as_slice() {
                b"PONG" => return Ok(()),
                b"PING" => talk.send(b"PONG\r\n").await?,
                b"+OK" => {}
                line if line.starts_with(b"INFO ") => {}
                line => return Err(refusal(line)),
            }
        }
    }
}

fn refusal(line: &[u8]) -> Why {
    let Some(error) = line.strip_prefix(b"-ERR ") else {
        return Why::Nonsense("not what NATS answers to PING");
    };
    let error = error.trim_ascii();
    let error = error
        .strip_prefix(b"'")
        .and_then(|e| e.strip_suffix(b"'"))
        .unwrap_or(error);
    let said = Said::new(error);
    match said.as_str() {
        "Authorization Violation" => Why::Login,
        _ => Why::Nats(said),
    }
}
