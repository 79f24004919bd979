//! Reads the event stream of a greenroom that runs, as `greenroom events` shows it.
//!
//! Bounded: `ADMIN_TIMEOUT` until the stream begins, `ADMIN_BODY_MAX` bytes of one line. A stream that gives no sign of
//! life for `EVENTS_STALL` has broken off.

use std::io;
use std::ops::ControlFlow;

use greenroom_core::limits::{ADMIN_BODY_MAX, ADMIN_TIMEOUT, EVENTS_AGAIN, EVENTS_KEPT, EVENTS_STALL};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::task::AbortHandle;

use super::{Client, ClientError, encoded};

/// What is to be told.
#[derive(Clone, Debug, Default)]
pub struct Follow {
    /// Filters and the form, by the names of the admin API.
    pub query: Vec<(&'static str, String)>,
    /// The id to go on behind.
    pub after: Option<String>,
    /// How many of those that are kept come first.
    pub last: Option<usize>,
    /// Whether it goes on with what happens from now on.
    pub follows: bool,
    /// Whether to come again when the stream has ended: another greenroom may be there soon.
    pub comes_again: bool,
}

/// What is said to who follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// An event: its name, and its data.
    Event(String, String),
    /// The stream has ended; it is asked for again each second, until a greenroom answers.
    Waits,
}

/// How following ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All that was asked for is told, greenroom has stopped, or who listens has heard enough.
    Told,
    /// Ctrl-C.
    Interrupted,
    /// The stream broke off without greenroom's last word.
    Broken,
}

impl Client {
    /// Tells what happens until it ends.
    pub fn follow(&self, what: &Follow, mut each: impl FnMut(Said) -> ControlFlow<()>) -> Result<Ended, ClientError> {
        let unreachable = |error| ClientError::Unreachable(self.socket.clone(), error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(unreachable)?.block_on(async {
            tokio::select! {
                ended = self.streams(what, &mut each) => ended,
                _ = tokio::signal::ctrl_c() => Ok(Ended::Interrupted),
            }
        })
    }

    /// One stream after the other, as long as there is a reason to come again.
    async fn streams(
        &self,
        what: &Follow,
        each: &mut impl FnMut(Said) -> ControlFlow<()>,
    ) -> Result<Ended, ClientError> {
        let (mut reading, mut is_first) = (Reading::default(), true);
        reading.id = what.after.clone();
        loop {
            let begun = match self.open(&path(what, &reading, is_first)).await {
                Err(ClientError::Unreachable(..)) if !is_first => None,
                begun => Some(begun?),
            };
            if let Some((body, _connection)) = begun {
                is_first = false;
                reading.is_over = !what.follows;
                if reading.run(body, each).await.is_break() {
                    return Ok(Ended::Told);
                }
                if !what.comes_again || !what.follows {
                    return Ok(if reading.is_over { Ended::Told } else { Ended::Broken });
                }
                if each(Said::Waits).is_break() {
                    return Ok(Ended::Told);
                }
            }
            tokio::time::sleep(EVENTS_AGAIN).await;
        }
    }

    async fn open(&self, path: &str) -> Result<(Incoming, Aborted), ClientError> {
        let unreachable = |error| ClientError::Unreachable(self.socket.clone(), error);
        let begins = async {
            let stream = UnixStream::connect(&self.socket).await?;
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .map_err(io::Error::other)?;
            let connection = Aborted(tokio::spawn(connection).abort_handle());
            let request = Request::builder()
                .uri(path)
                .header("host", "greenroom")
                .body(Empty::<Bytes>::new())
                .map_err(io::Error::other)?;
            let answer = sender.send_request(request).await.map_err(io::Error::other)?;
            Ok((answer, connection))
        };
        let begun = tokio::time::timeout(ADMIN_TIMEOUT, begins).await;
        let begun = begun.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)));
        let (answer, connection) = begun.map_err(unreachable)?;
        let status = answer.status();
        if status.is_success() {
            return Ok((answer.into_body(), connection));
        }
        let body = Limited::new(answer.into_body(), ADMIN_BODY_MAX).collect();
        let body = tokio::time::timeout(ADMIN_TIMEOUT, body).await;
        let problem = match body {
            Ok(Ok(body)) => serde_json::from_slice(&body.to_bytes()).ok(),
            Ok(Err(_)) | Err(_) => None,
        };
        Err(match problem {
            Some(problem) => ClientError::Refused(problem),
            None => self.nonsense(&format!("it answered with status {status}")),
        })
    }
}

/// What to ask for: the first time as was said, then behind what was told last.
fn path(what: &Follow, reading: &Reading, is_first: bool) -> String {
    let mut query = what.query.clone();
    query.push(("follow", what.follows.to_string()));
    match (&reading.id, what.last) {
        (Some(id), _) => query.push(("after", id.clone())),
        (None, Some(last)) if is_first => query.push(("last", last.to_string())),
        (None, _) if is_first => {}
        (None, _) => query.push(("last", EVENTS_KEPT.to_string())), // nothing was told yet: all of the new one's life
    }
    let query: Vec<_> = query
        .iter()
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .collect();
    format!("/v1/events?{}", query.join("&"))
}

/// A connection's task, which ends with this.
struct Aborted(AbortHandle);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The lines of a stream (WHATWG HTML §9.2.6), as far as greenroom says them.
#[derive(Debug, Default)]
struct Reading {
    rest: Vec<u8>,
    /// The id of the last message.
    id: Option<String>,
    event: String,
    data: Option<String>,
    /// greenroom has said its last word.
    is_over: bool,
}

impl Reading {
    /// Until the stream ends, or who listens has heard enough.
    async fn run(&mut self, mut body: Incoming, each: &mut impl FnMut(Said) -> ControlFlow<()>) -> ControlFlow<()> {
        self.rest.clear();
        (self.event, self.data) = (String::new(), None);
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(EVENTS_STALL, body.frame()).await {
            let Ok(piece) = frame.into_data() else { continue };
            self.rest.extend_from_slice(&piece);
            while let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                self.line(String::from_utf8_lossy(&line).trim_end_matches('\n'), each)?;
            }
            if self.rest.len() > ADMIN_BODY_MAX {
                break; // no line of greenroom's is so long
            }
        }
        ControlFlow::Continue(())
    }

    fn line(&mut self, line: &str, each: &mut impl FnMut(Said) -> ControlFlow<()>) -> ControlFlow<()> {
        match line.split_once(": ") {
            _ if line.is_empty() => {
                let event = std::mem::take(&mut self.event);
                if let Some(data) = self.data.take() {
                    self.is_over |= event == "stopped";
                    return each(Said::Event(event, data));
                }
            }
            Some(("id", id)) => self.id = Some(id.to_owned()),
            Some(("event", event)) => event.clone_into(&mut self.event),
            Some(("data", data)) => match &mut self.data {
                Some(before) => {
                    before.push('\n');
                    before.push_str(data);
                }
                None => self.data = Some(data.to_owned()),
            },
            Some(_) | None => {} // a comment, or when to come again
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_and_the_last_id_is_known() {
        let (mut reading, mut told) = (Reading::default(), Vec::new());
        let text = "retry: 1000\n\nid: a-1\nevent: held\ndata: {\"x\": \"y: z\"}\n\n: still here\nid: a-9\n\nid: a-10\nevent: stopped\ndata: {}\n\n";
        for line in text.split('\n') {
            let _ = reading.line(line, &mut |said| {
                told.push(said);
                ControlFlow::Continue(())
            });
        }
        assert_eq!(
            told,
            [
                Said::Event("held".into(), "{\"x\": \"y: z\"}".into()),
                Said::Event("stopped".into(), "{}".into())
            ]
        );
        assert_eq!((reading.id.as_deref(), reading.is_over), (Some("a-10"), true));
    }

    #[test]
    fn several_lines_of_data_are_one_text() {
        let (mut reading, mut told) = (Reading::default(), Vec::new());
        for line in [
            "event: reload_failed",
            "data: wrong:",
            "data:   grace = 5",
            "data: ",
            "data:   ^ no unit",
            "",
        ] {
            let _ = reading.line(line, &mut |said| {
                told.push(said);
                ControlFlow::Continue(())
            });
        }
        let text = "wrong:\n  grace = 5\n\n  ^ no unit";
        assert_eq!(told, [Said::Event("reload_failed".into(), text.into())]);
    }

    #[test]
    fn who_comes_again_goes_on_behind_what_was_told() {
        let what = Follow {
            query: vec![("event", "closed,refused".into())],
            last: Some(3),
            follows: true,
            ..Follow::default()
        };
        let mut reading = Reading::default();
        let begins = "/v1/events?event=closed%2Crefused&follow=true";
        assert_eq!(path(&what, &reading, true), format!("{begins}&last=3"));
        assert_eq!(path(&what, &reading, false), format!("{begins}&last={EVENTS_KEPT}"));
        reading.id = Some("a-7".into());
        assert_eq!(path(&what, &reading, false), format!("{begins}&after=a-7"));
    }
}
