//! `postgres`: logs in as a client would, and sees whether the server is in recovery.
//!
//! ```text
//!  StartupMessage ──▶ error 57P03: starting up, shutting down, not yet consistent
//!                 ──▶ login asked for ──▶ password known: log in; else: it takes connections
//!                 ──▶ parameters, ready for a query ──▶ in_hot_standby (from version 14 on),
//!                                                        or SELECT pg_is_in_recovery()
//! ```
//!
//! Logins: trust, clear text, MD5, SCRAM-SHA-256. Without TLS. Every other error than
//! 57P03 is down as well, with its SQLSTATE: the application, too, would get no connection.

mod scram;

use greenroom_core::limits;
use md5::{Digest, Md5};

use super::Why;
use super::dial::Dialer;
use super::talk::Talk;
use super::verdict::{Note, Once, Said};
use crate::config::{Address, Secret};
use scram::{Scram, Waiting};

/// Protocol 3.0, which every server since 7.4 speaks.
const PROTOCOL: i32 = 196_608;

/// The probe `postgres`.
#[derive(Debug)]
pub(super) struct Postgres {
    dialer: Dialer,
    user: String,
    startup: Vec<u8>,
    password: Option<Secret>,
    recovery: bool,
    scram: Scram,
    pub(super) notes: Once,
}

/// A message of the server: its kind and what is in it.
type Message = (u8, Vec<u8>);

/// How the login went.
enum Login {
    Done,
    /// A password is asked for, and there is none.
    Asked,
}

impl Postgres {
    pub(super) fn new(
        address: &Address,
        user: &str,
        database: &str,
        password: Option<&Secret>,
        recovery: bool,
    ) -> Self {
        Self {
            dialer: Dialer::new(address),
            user: user.to_owned(),
            startup: startup(user, database),
            password: password.cloned(),
            recovery,
            scram: Scram::default(),
            notes: Once::default(),
        }
    }

    pub(super) async fn look(&mut self) -> Result<(), Why> {
        let mut talk = Talk::new(self.dialer.connection().await?);
        talk.send(&self.startup).await?;
        let verdict = match self.log_in(&mut talk).await? {
            Login::Asked => {
                self.notes.tell(Note::RecoveryUnseen);
                return Ok(());
            }
            Login::Done => self.see_recovery(&mut talk).await,
        };
        if !matches!(verdict, Err(Why::NoAnswer)) {
            let _ = talk.send(&message(b'X', b"")).await; // its own good-bye: the verdict stands
        }
        verdict
    }

    async fn log_in(&mut self, talk: &mut Talk) -> Result<Login, Why> {
        let mut waiting: Option<Waiting> = None;
        let mut proved = true;
        loop {
            let (kind, body) = read(talk, BEFORE_LOGIN).await?;
            if kind != b'R' {
                continue; // a notice: `read` gives errors as such
            }
            let (code, rest) = body.split_at_checked(4).ok_or(NONSENSE)?;
            let code = i32::from_be_bytes(code.try_into().map_err(|_| NONSENSE)?);
            if code == 0 {
                return if proved {
                    Ok(Login::Done)
                } else {
                    Err(Why::Nonsense("PostgreSQL lets us in without its SCRAM proof"))
                };
            }
            let Some(Secret(password)) = &self.password else {
                return Ok(Login::Asked);
            };
            let answer = match code {
                3 => text(password),
                5 => text(&md5(&self.user, password, rest.get(..4).ok_or(NONSENSE)?)),
                10 => {
                    if !rest.split(|&b| b == 0).any(|mechanism| mechanism == scram::MECHANISM) {
                        return Err(Why::LoginKind);
                    }
                    let (first, begun) = scram::begin()?;
                    (waiting, proved) = (Some(begun), false);
                    let length = i32::try_from(first.len()).map_err(|_| NONSENSE)?;
                    [scram::MECHANISM, &[0], &length.to_be_bytes(), first.as_bytes()].concat()
                }
                11 => {
                    let begun = waiting.take().ok_or(NONSENSE)?;
                    let (last, next) = self.scram.answer(begun, rest, password).await?;
                    waiting = Some(next);
                    last.into_bytes()
                }
                12 => {
                    waiting.take().ok_or(NONSENSE)?.check(rest)?;
                    proved = true;
                    continue;
                }
                _ => return Err(Why::LoginKind),
            };
            talk.send(&message(b'p', &answer)).await?;
        }
    }

    async fn see_recovery(&self, talk: &mut Talk) -> Result<(), Why> {
        let mut standby = None;
        loop {
            match read(talk, AFTER_LOGIN).await? {
                (b'S', body) => standby = parameter(&body).or(standby),
                (b'Z', _) if self.recovery => return Ok(()),
                (b'Z', _) => break,
                _ => {}
            }
        }
        if standby.is_none() {
            talk.send(&message(b'Q', b"SELECT pg_is_in_recovery()\0")).await?;
            loop {
                match read(talk, AFTER_LOGIN).await? {
                    // One column: its length and `t` or `f`.
                    (b'D', row) => standby = row.last().map(|&value| value == b't'),
                    (b'Z', _) => break,
                    _ => {}
                }
            }
        }
        match standby {
            Some(false) => Ok(()),
            Some(true) => Err(Why::InRecovery),
            None => Err(NONSENSE),
        }
    }
}

const NONSENSE: Why = Why::Nonsense("not what PostgreSQL answers");

/// Messages that a server may send before it has let us in: authentication, error, notice, its protocol.
const BEFORE_LOGIN: &[u8] = b"RENv";
/// And after that: parameters and a key, a query's answer, errors and notices, notifications.
const AFTER_LOGIN: &[u8] = b"SKZTDCIENA";

/// The next message; an error as what it means.
async fn read(talk: &mut Talk, expected: &[u8]) -> Result<Message, Why> {
    let head = talk.exactly(5).await?;
    let &[kind, a, b, c, d] = head.as_slice() else {
        return Err(NONSENSE);
    };
    let length = u32::from_be_bytes([a, b, c, d]).checked_sub(4).ok_or(NONSENSE)?;
    if !expected.contains(&kind) {
        return Err(NONSENSE);
    }
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > limits::CHECK_BODY_MAX {
        return Err(Why::TooLong);
    }
    let body = talk.exactly(length).await?;
    if kind == b'E' {
        Err(error(&body))
    } else {
        Ok((kind, body))
    }
}

/// What an ErrorResponse means, by its SQLSTATE.
fn error(body: &[u8]) -> Why {
    let mut fields = body.split(|&b| b == 0);
    let code = fields.find_map(|field| field.strip_prefix(b"C")).unwrap_or_default();
    match code {
        b"57P03" => Why::NotNow,
        b"28P01" => Why::Login,
        b"" => NONSENSE,
        other => Why::Postgres(Said::new(other)),
    }
}

/// What a ParameterStatus says of recovery, if it is the one that does.
fn parameter(body: &[u8]) -> Option<bool> {
    match body {
        b"in_hot_standby\0on\0" => Some(true),
        b"in_hot_standby\0off\0" => Some(false),
        _ => None,
    }
}

fn startup(user: &str, database: &str) -> Vec<u8> {
    let mut body = PROTOCOL.to_be_bytes().to_vec();
    for (name, value) in [
        ("user", user),
        ("database", database),
        ("application_name", "greenroom-probe"),
    ] {
        body.extend([text(name), text(value)].concat());
    }
    body.push(0);
    [&length(body.len()).to_be_bytes()[..], &body].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &length(body.len()).to_be_bytes(), body].concat()
}

/// Of a message: it counts itself.
fn length(of_body: usize) -> i32 {
    i32::try_from(of_body + 4).unwrap_or(i32::MAX) // a configuration is far shorter
}

/// A text as the protocol has it. It ends at a NUL, so what stands behind one is not sent.
fn text(text: &str) -> Vec<u8> {
    let shown = text.split('\0').next().unwrap_or_default();
    [shown.as_bytes(), &[0]].concat()
}

/// The answer to a demand for MD5.
fn md5(user: &str, password: &str, salt: &[u8]) -> String {
    let inner = hex(&Md5::new().chain_update(password).chain_update(user).finalize());
    let outer = hex(&Md5::new().chain_update(inner).chain_update(salt).finalize());
    format!("md5{outer}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_the_protocol_has_them() {
        let startup = startup("u", "d");
        assert_eq!(
            startup,
            b"\0\0\0\x3c\0\x03\0\0user\0u\0database\0d\0application_name\0greenroom-probe\0\0"
        );
        assert_eq!(startup.len(), 0x3c);
        assert_eq!(message(b'X', b""), b"X\0\0\0\x04");
        assert_eq!(text("a\0b"), b"a\0");
    }

    #[test]
    fn errors_are_told_apart_by_their_sqlstate_in_any_language() {
        let of = |code: &str| error(format!("SFATAL\0VFATAL\0C{code}\0Mdas Datenbanksystem startet\0\0").as_bytes());
        assert_eq!(of("57P03"), Why::NotNow);
        assert_eq!(of("28P01"), Why::Login);
        assert_eq!(of("3D000"), Why::Postgres(Said::new(b"3D000")));
        assert_eq!(error(b""), NONSENSE);
    }

    #[test]
    fn md5_is_that_of_the_manual() {
        // echo -n "$(echo -n secretjoe | md5sum | cut -c-32)"; with the salt behind it once more.
        let inner = hex(&Md5::digest(b"secretjoe"));
        let outer = hex(&Md5::digest([inner.as_bytes(), b"salt"].concat()));
        assert_eq!(md5("joe", "secret", b"salt"), format!("md5{outer}"));
    }
}
