//! `redis`: PING is answered with PONG.
//!
//! A server that loads its data answers -LOADING: down. One that asks for a password gets it,
//! and without one in the check its asking counts as an answer, which is noted once.

use super::Why;
use super::dial::Dialer;
use super::talk::Talk;
use super::verdict::{Note, Once, Said};
use crate::config::{Address, Secret};

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// The probe `redis`.
#[derive(Debug)]
pub(super) struct Redis {
    dialer: Dialer,
    password: Option<Secret>,
    pub(super) notes: Once,
}

impl Redis {
    pub(super) fn new(address: &Address, password: Option<&Secret>) -> Self {
        Self {
            dialer: Dialer::new(address),
            password: password.cloned(),
            notes: Once::default(),
        }
    }

    pub(super) async fn look(&mut self) -> Result<(), Why> {
        let mut talk = Talk::new(self.dialer.connection().await?);
        match ask(&mut talk, PING).await? {
            Ok(()) => return Ok(()),
            Err(code) if code.as_str() == "NOAUTH" => {}
            Err(code) => return Err(why(code)),
        }
        let Some(Secret(password)) = &self.password else {
            self.notes.tell(Note::LoadingUnseen);
            return Ok(());
        };
        let auth = format!("*2\r\n$4\r\nAUTH\r\n${}\r\n{password}\r\n", password.len());
        ask(&mut talk, auth.as_bytes()).await?.map_err(why)?;
        ask(&mut talk, PING).await?.map_err(why)
    }
}

fn why(code: Said) -> Why {
    match code.as_str() {
        "LOADING" => Why::Loading,
        "WRONGPASS" => Why::Login,
        _ => Why::Redis(code),
    }
}

/// Sends a command and reads its answer: good, or the first word of an error.
async fn ask(talk: &mut Talk, command: &[u8]) -> Result<Result<(), Said>, Why> {
    talk.send(command).await?;
    let line = talk.line().await?;
    match line.as_slice() {
        b"+PONG" | b"+OK" => Ok(Ok(())),
        [b'-', error @ ..] => Ok(Err(Said::new(error.split(|&b| b == b' ').next().unwrap_or_default()))),
        _ => Err(Why::Nonsense("not what Redis answers to PING")),
    }
}
