//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the client's side, without channel binding (there is no TLS).
//!
//! Each side proves to the other that it knows the password. Making the key out of the
//! password is slow on purpose, so it is kept for the salt that the server had last,
//! made off the event loop, and never out of more than [`limits::SCRAM_ROUNDS_MAX`] rounds,
//! which the server chooses. A password outside of ASCII is used as it is (no SASLprep).

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use greenroom_core::limits;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::probe::Why;

/// Its name among those that a server offers.
pub(super) const MECHANISM: &[u8] = b"SCRAM-SHA-256";
/// "n,,": no channel binding, in base64.
const NO_BINDING: &str = "biws";
const BAD: Why = Why::Nonsense("PostgreSQL breaks the rules of SCRAM");

type Key = [u8; 32];

/// What is kept from look to look.
#[derive(Default)]
pub(super) struct Scram {
    known: Option<(Vec<u8>, u32, Key)>,
}

impl std::fmt::Debug for Scram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scram") // the key is as good as the password
    }
}

/// What the next message of the server is held against.
pub(super) enum Waiting {
    /// The server's first one.
    First { nonce: String },
    /// Its last one.
    Last { proof: Key },
}

/// The client's first message.
pub(super) fn begin() -> Result<(String, Waiting), Why> {
    let mut random = [0; 18];
    getrandom::fill(&mut random).map_err(|_| Why::Failed(std::io::ErrorKind::Other))?;
    let nonce = BASE64.encode(random);
    Ok((format!("n,,{}", first_bare(&nonce)), Waiting::First { nonce }))
}

/// The user's name is known from the startup message; PostgreSQL ignores this one.
fn first_bare(nonce: &str) -> String {
    format!("n=,r={nonce}")
}

impl Scram {
    /// The client's last message, to the server's first one.
    pub(super) async fn answer(&mut self, to: Waiting, first: &[u8], password: &str) -> Result<(String, Waiting), Why> {
        let Waiting::First { nonce } = to else { return Err(BAD) };
        let first = std::str::from_utf8(first).map_err(|_| BAD)?;
        let (both, salt, rounds) = read_first(first, &nonce)?;
        let key = self.key(password, salt, rounds).await?;
        let without_proof = format!("c={NO_BINDING},r={both}");
        let signed = format!("{},{first},{without_proof}", first_bare(&nonce));
        let client = hmac(&key, b"Client Key");
        let stored: Key = Sha256::digest(client).into();
        let mut proof = hmac(&stored, signed.as_bytes());
        proof.iter_mut().zip(client).for_each(|(byte, key)| *byte ^= key);
        let last = format!("{without_proof},p={}", BASE64.encode(proof));
        let server = hmac(&key, b"Server Key");
        let proof = hmac(&server, signed.as_bytes());
        Ok((last, Waiting::Last { proof }))
    }

    async fn key(&mut self, password: &str, salt: Vec<u8>, rounds: u32) -> Result<Key, Why> {
        if let Some((for_salt, for_rounds, key)) = &self.known
            && (for_salt, *for_rounds) == (&salt, rounds)
        {
            return Ok(*key);
        }
        let (word, grain) = (password.to_owned(), salt.clone());
        let made = tokio::task::spawn_blocking(move || derive(word.as_bytes(), &grain, rounds)).await;
        let key = made.map_err(|_| Why::Failed(std::io::ErrorKind::Other))?; // the runtime is ending
        self.known = Some((salt, rounds, key));
        Ok(key)
    }
}

impl Waiting {
    /// Whether the server's last message proves that it knows the password.
    pub(super) fn check(self, last: &[u8]) -> Result<(), Why> {
        let Self::Last { proof } = self else { return Err(BAD) };
        let said = last.strip_prefix(b"v=").and_then(|text| BASE64.decode(text).ok());
        if said.as_deref() == Some(&proof[..]) {
            Ok(())
        } else {
            Err(Why::Nonsense(
                "the server does not know the password: it is not the one it should be",
            ))
        }
    }
}

/// Nonce, salt and rounds of the server's first message.
fn read_first<'t>(first: &'t str, nonce: &str) -> Result<(&'t str, Vec<u8>, u32), Why> {
    let mut parts = first.split(',');
    let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name)).ok_or(BAD);
    let (both, salt, rounds) = (part("r=")?, part("s=")?, part("i=")?);
    if !both.starts_with(nonce) || both.len() == nonce.len() {
        return Err(BAD);
    }
    let salt = BASE64.decode(salt).map_err(|_| BAD)?;
    let rounds = rounds.parse().map_err(|_| BAD)?;
    if rounds == 0 || rounds > limits::SCRAM_ROUNDS_MAX {
        return Err(Why::Nonsense("PostgreSQL demands too many rounds of SCRAM"));
    }
    Ok((both, salt, rounds))
}

/// `Hi` of RFC 5802 §2.2: PBKDF2 with one block.
fn derive(password: &[u8], salt: &[u8], rounds: u32) -> Key {
    let keyed = Hmac::<Sha256>::new_from_slice(password);
    let Ok(keyed) = keyed else { return [0; 32] }; // HMAC takes keys of any length
    let first = keyed.clone().chain_update(salt).chain_update([0, 0, 0, 1]);
    let mut last: Key = first.finalize().into_bytes().into();
    let mut key = last;
    for _ in 1..rounds {
        last = keyed.clone().chain_update(last).finalize().into_bytes().into();
        key.iter_mut().zip(last).for_each(|(byte, next)| *byte ^= next);
    }
    key
}

fn hmac(key: &Key, text: &[u8]) -> Key {
    Hmac::<Sha256>::new_from_slice(key).map_or([0; 32], |keyed| keyed.chain_update(text).finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677 §3, but for the user's name, which PostgreSQL leaves empty.
    #[test]
    fn a_key_is_that_of_the_rfc() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let key = derive(b"pencil", &salt, 4096);
        let nonce = "rOprNGfwEbeRWgbNEkqO";
        let first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (both, _, rounds) = read_first(first, nonce).unwrap();
        assert_eq!(rounds, 4096);
        let signed = format!("n=user,r={nonce},{first},c={NO_BINDING},r={both}");
        let server = hmac(&hmac(&key, b"Server Key"), signed.as_bytes());
        assert_eq!(BASE64.encode(server), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[tokio::test]
    async fn a_server_that_breaks_the_rules_gets_no_proof() {
        assert_eq!(limits::SCRAM_ROUNDS_MAX, 100_000, "one more is in the list");
        for first in [
            "r=nonce,s=AAAA,i=4096",
            "r=other1,s=AAAA,i=4096",
            "r=nonce1,s=!,i=4096",
            "r=nonce1,s=AAAA,i=0",
            "r=nonce1,s=AAAA,i=100001",
            "m=x,r=nonce1,s=AAAA,i=4096",
            "",
        ] {
            let begun = Waiting::First { nonce: "nonce".into() };
            let answered = Scram::default().answer(begun, first.as_bytes(), "p").await;
            assert!(matches!(answered, Err(Why::Nonsense(_))), "{first}");
        }
        let begun = Waiting::First { nonce: "nonce".into() };
        let mut scram = Scram::default();
        let (_, last) = scram.answer(begun, b"r=nonce1,s=AAAA,i=2", "p").await.unwrap();
        assert!(matches!(last.check(b"v=AAAA"), Err(Why::Nonsense(_))));
    }
}
