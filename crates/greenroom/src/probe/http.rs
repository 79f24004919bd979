//! `http:/path`: asks as a client would, and believes no more than the gate does.
//!
//! Answers are read by the parser for all answers of backends ([`crate::head`]). The body is
//! read only if something is looked for in it, and [`limits::CHECK_BODY_MAX`] of it at the
//! most, head included: a pattern is looked for in what was read, JSON must be there as a whole. No redirect
//! is followed.

use greenroom_core::limits;
use greenroom_core::phase::is_name;
use serde_json::Value;

use super::Why;
use super::dial::Dialer;
use super::talk::Talk;
use crate::config::{Address, HttpProbe};
use crate::head::{Answer, BodyFraming, BodyReader, Kind, Nonsense, Request, answer_end, parse_answer, parse_request};

pub(super) const USER_AGENT: &str = "greenroom-probe";

/// The probe `http`.
#[derive(Debug)]
pub(super) struct Http {
    dialer: Dialer,
    request: Box<str>,
    expected: HttpProbe,
    /// What the last look's body said of the phase.
    pub(super) phase: Option<Box<str>>,
}

impl Http {
    pub(super) fn new(address: &Address, expected: &HttpProbe) -> Self {
        let address = expected.address.as_ref().unwrap_or(address);
        let host = host_of(address, expected.host.as_deref());
        let path = &expected.path;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        Self {
            dialer: Dialer::new(address),
            request: request.into(),
            expected: expected.clone(),
            phase: None,
        }
    }

    pub(super) async fn look(&mut self) -> Result<(), Why> {
        self.phase = None;
        let asked = asked(&self.request)?;
        let mut talk = Talk::new(self.dialer.connection().await?);
        talk.send(self.request.as_bytes()).await?;
        let Final { status, body } = answer(&mut talk, &asked).await?;
        let (first, last) = self.expected.status;
        let good = if (first..=last).contains(&status) {
            Ok(())
        } else {
            Err(Why::Status(status))
        };
        let (pattern, pointer) = (&self.expected.body, &self.expected.pointer);
        if pointer.is_none() && (pattern.is_none() || good.is_err()) {
            return good; // no word of the body would change it
        }
        let (body, whole) = match read_body(&mut talk, body).await {
            Ok(read) => read,
            Err(why) => return good.and(Err(why)), // the status says more
        };
        // Before the status: who answers 503 while starting may well say how far it has come.
        let found = pointer.as_deref().map(|pointer| match whole {
            true => phase(&body, pointer),
            false => Err(Why::TooLong),
        });
        let found = found.transpose();
        if let Ok(Some(phase)) = &found {
            self.phase.clone_from(phase);
        }
        good?;
        found?;
        match pattern {
            Some(pattern) if !pattern.0.is_match(&String::from_utf8_lossy(&body)) => Err(Why::NoMatch),
            Some(_) | None => Ok(()),
        }
    }
}

/// The Host of a request: without a name for it, `localhost` on a Unix socket.
pub(super) fn host_of(address: &Address, given: Option<&str>) -> String {
    match (given, address) {
        (Some(host), _) => host.to_owned(),
        (None, Address::Tcp { .. }) => address.to_string(),
        (None, Address::Unix(_)) => "localhost".to_owned(),
    }
}

/// What is asked, as the parser of answers wants to know it.
pub(super) fn asked(request: &str) -> Result<Kind, Why> {
    match parse_request(request.as_bytes()) {
        Request::Complete { len, kind } if len == request.len() => Ok(kind),
        Request::Complete { .. } | Request::Partial | Request::Bad(_) => Err(Why::Unaskable),
    }
}

/// The final answer; what is there of its body was not taken yet.
pub(super) struct Final {
    pub(super) status: u16,
    pub(super) body: BodyFraming,
}

/// Reads heads up to that of the final answer. A valid 101 is one.
pub(super) async fn answer(talk: &mut Talk, asked: &Kind) -> Result<Final, Why> {
    let (mut interim, mut scanned) = (0, 0);
    loop {
        let there = talk.there();
        let Some(len) = answer_end(there, scanned).map_err(Why::Head)? else {
            if there.len() > limits::BACKEND_HEAD_MAX {
                return Err(Why::Head(Nonsense::TooLong));
            }
            scanned = there.len();
            talk.must_get_more().await?;
            continue;
        };
        let found = match parse_answer(there.get(..len).unwrap_or_default(), asked) {
            Answer::Switched(_) => Some(Final {
                status: 101,
                body: BodyFraming::None,
            }),
            Answer::Status(status) => Some(Final {
                status: status.status(),
                body: status.body(),
            }),
            Answer::Interim(_) => None,
            Answer::Nonsense(nonsense) => return Err(Why::Head(nonsense)),
            Answer::Partial => return Err(Why::Head(Nonsense::Malformed)), // not with a whole head
        };
        talk.take(len);
        if let Some(found) = found {
            return Ok(found);
        }
        (interim, scanned) = (interim + 1, 0);
        if interim > limits::INTERIM_MAX {
            return Err(Why::Nonsense("too many interim answers"));
        }
    }
}

/// The data of the body, and whether that is all of it.
async fn read_body(talk: &mut Talk, framing: BodyFraming) -> Result<(Vec<u8>, bool), Why> {
    let (mut reader, mut body) = (BodyReader::new(framing), Vec::new());
    loop {
        while !talk.there().is_empty() && !reader.is_done() {
            let run = reader
                .run(talk.there())
                .map_err(|_| Why::Nonsense("its body is not in legal chunks"))?;
            if run.is_data {
                body.extend_from_slice(talk.there().get(..run.bytes).unwrap_or_default());
            }
            talk.take(run.bytes);
        }
        if reader.is_done() {
            return Ok((body, true));
        }
        match talk.more().await {
            Ok(true) => {}
            Ok(false) if reader.may_end() => return Ok((body, true)),
            Ok(false) => return Err(Why::NoAnswer),
            Err(Why::TooLong) => return Ok((body, false)),
            Err(why) => return Err(why),
        }
    }
}

/// The name of a phase in a JSON text; `null` says that none is finished.
fn phase(body: &[u8], pointer: &str) -> Result<Option<Box<str>>, Why> {
    let value: Value = serde_json::from_slice(body).map_err(|_| Why::Nonsense("its body is not JSON"))?;
    match value.pointer(pointer) {
        Some(Value::Null) => Ok(None),
        Some(Value::String(name)) if is_name(name.as_bytes()) => Ok(Some(name.as_str().into())),
        Some(_) | None => Err(Why::NoPhase),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_leads_to_a_name_by_the_rules_of_rfc_6901() {
        let body = br#"{"a/b": [{"m~n": "cache"}, null, 7, ""], "": "root", "phase": "database"}"#;
        let name = |text: &str| Ok(Some(text.into()));
        assert_eq!(phase(body, "/phase"), name("database"));
        assert_eq!(phase(body, "/a~1b/0/m~0n"), name("cache"));
        assert_eq!(phase(body, "/"), name("root"));
        assert_eq!(phase(body, "/a~1b/1"), Ok(None), "null: none is finished");
        for nowhere in ["", "/a~1b/2", "/a~1b/3", "/a~1b/00", "/a~1b/9", "/none"] {
            assert_eq!(phase(body, nowhere), Err(Why::NoPhase), "{nowhere}");
        }
        assert_eq!(phase(b"\"complete\"", ""), name("complete"));
        assert!(matches!(phase(b"{", ""), Err(Why::Nonsense(_))));
        let long = format!("\"{}\"", "x".repeat(limits::PHASE_NAME_MAX + 1));
        for no_name in [&long, r#""a\r\n\u001b[2Jb""#, r#""two words""#, "\"\u{202e}\""] {
            assert_eq!(phase(no_name.as_bytes(), ""), Err(Why::NoPhase), "{no_name}");
        }
    }

    #[test]
    fn what_cannot_stand_in_a_request_is_not_sent() {
        let expected = |path: &str| HttpProbe {
            address: None,
            path: path.into(),
            host: None,
            status: (200, 399),
            body: None,
            pointer: None,
        };
        let http = |path: &str| Http::new(&"127.0.0.1:1".parse().unwrap(), &expected(path));
        assert!(asked(&http("/health?a=b").request).is_ok());
        for bad in ["/a b", "/a\r\nX: y", "", "/\u{fc}"] {
            assert_eq!(asked(&http(bad).request).err(), Some(Why::Unaskable), "{bad}");
        }
    }
}
