//! One request and its answer on one backend connection.
//!
//! The head is written, then two things go on side by side: the body goes up as it
//! comes, and the answer is waited for. Interim answers are passed on to whoever
//! knows them (HTTP/1.1), a 100 among them: so `Expect: 100-continue` is the
//! backend's to answer. A client that leaves ends the exchange and with it the
//! backend's connection, so that a handler that streams events hears of it.
//!
//! An answer that comes before the body was taken ends the client's connection: what
//! is left of the body cannot be told from a next request in good time.
//!
//! Bounds: `HTTP_ANSWER` for the answer's head once the request is whole, and for a
//! backend that takes nothing of it before; `INTERIM_MAX` interim answers, and those of `flow`.

use std::sync::atomic::{AtomicBool, Ordering};

use greenroom_core::event::{CloseCause, Refusal, State};
use greenroom_core::limits::{HTTP_ANSWER, HTTP_IDLE, INTERIM_MAX};
use greenroom_core::session::Answer;

use super::flow::{Cut, Download, Upload, write_to_client};
use super::{Connection, Request};
use crate::driver::{Message, Order, Orders};
use crate::head::{self, After, BodyFraming, BodyReader, Edits, Http};
use crate::opening::{NoHead, Place, next_head, refuse};
use crate::registry::Entry;
use crate::stream::Stream;

/// How an exchange ended.
pub(super) enum Outcome {
    /// The client has its answer, whole.
    Answered { persists: bool },
    /// The backend closed the connection without a byte. `untouched`: nothing of a body was sent.
    Dropped { untouched: bool },
    /// Back to its place, unseen by the client.
    Requeued,
    /// Nothing of an answer was sent.
    Refused(Refusal, Option<String>),
    /// The client left.
    Left,
    /// The client has a part of its answer, and no more will come.
    Cut(CloseCause, Option<String>),
    /// The same, where the answer would end with the connection.
    Torn(CloseCause, Option<String>),
}

/// The gate's side of an exchange on trial.
pub(super) struct Trial<'p> {
    /// Where to tell the answer.
    pub(super) place: &'p Place,
    /// Where its words come.
    pub(super) orders: &'p mut Orders,
    /// The books, where the request is on its way until the gate lets go of it.
    pub(super) entry: &'p mut Entry,
}

/// See the module's head.
pub(super) struct Exchange<'r> {
    request: &'r Request<'r>,
    http: Option<&'r Http>,
    connection: Connection,
    upload: Upload,
    /// All of the request is with the backend.
    is_sent: AtomicBool,
    answering: Answering,
}

/// How far the answer's head has come: kept, as the gate's word may interrupt the wait for it.
#[derive(Debug, Default)]
struct Answering {
    /// What the backend said and was not judged yet.
    bytes: Vec<u8>,
    /// What the client has not taken of an interim answer.
    interim: Vec<u8>,
    /// Interim answers so far.
    count: usize,
}

/// The answer's head, for the client, and what is known of the rest.
struct Begun {
    out: Vec<u8>,
    download: Download,
    answer: Answer,
    /// The backend's connection may carry another request.
    backend_persists: bool,
    /// The client's may.
    client_persists: bool,
    /// The end of the client's connection is the end of the answer.
    ends_by_close: bool,
}

/// What became of the first half, up to the answer's head.
enum First {
    Begun(Box<Begun>),
    /// The connection ended without a byte.
    Dropped,
    Nonsense(String),
    Cut(Cut),
    Left,
    Word(Option<Order>),
    Late,
}

impl<'r> Exchange<'r> {
    pub(super) fn new(request: &'r Request<'r>, connection: Connection, head: Vec<u8>) -> Self {
        let http = request.http();
        let upload = Upload {
            unsent: head,
            reader: BodyReader::of_request(http.map_or(BodyFraming::None, Http::body)),
            left: request.route.body_max,
            patience: HTTP_ANSWER,
            is_untouched: true,
            is_polled: false,
        };
        Self {
            request,
            http,
            connection,
            is_sent: AtomicBool::new(upload.is_done()), // the owner task has written the head
            upload,
            answering: Answering::default(),
        }
    }

    /// Runs to the end of the answer. With a trial the gate is told the answer first, and has the word.
    pub(super) async fn run(mut self, trial: Option<Trial<'_>>) -> Outcome {
        let (place, mut orders, mut entry) = match trial {
            Some(Trial { place, orders, entry }) => (Some(place), Some(orders), Some(entry)),
            None => (None, None, None),
        };
        let begun = loop {
            match self.first(orders.as_deref_mut()).await {
                First::Begun(begun) => break Ok(begun),
                // The gate is sure: it needs no answer.
                First::Word(Some(Order::Forward)) => {
                    orders = None;
                    if let Some(entry) = entry.take() {
                        entry.enter(State::Http);
                    }
                }
                First::Word(word) => return worded(word),
                First::Dropped => break Err(Answer::Dropped),
                First::Nonsense(why) => {
                    return self.refused(place.filter(|_| orders.is_some()), Refusal::BadAnswer, why);
                }
                First::Late => {
                    let why = "the backend did not answer in time".to_owned();
                    return self.refused(place.filter(|_| orders.is_some()), Refusal::Unanswered, why);
                }
                First::Cut(cut) => return cut_before(cut),
                First::Left => return Outcome::Left,
            }
        };
        let answer = match &begun {
            Ok(begun) => begun.answer,
            Err(answer) => *answer,
        };
        if let (Some(place), Some(orders)) = (place, orders) {
            place.tell(Message::Answered(place.id, answer));
            let word = tokio::select! {
                biased;
                word = orders.next() => word,
                () = self.request.client.gone(), if self.upload.reader.is_done() => return Outcome::Left,
            };
            if !matches!(word, Some(Order::Forward)) {
                return worded(word);
            }
        }
        if let Some(entry) = entry {
            entry.enter(State::Http);
        }
        match begun {
            Ok(begun) => self.second(*begun).await,
            Err(_) => Outcome::Dropped {
                untouched: self.upload.is_untouched,
            },
        }
    }

    /// A fault of the backend: the gate, where it waits for an answer, hears that it says nothing about readiness.
    fn refused(&self, place: Option<&Place>, refusal: Refusal, why: String) -> Outcome {
        if let Some(place) = place {
            place.tell(Message::Answered(place.id, Answer::Nonsense));
        }
        Outcome::Refused(refusal, Some(why))
    }

    /// Writes the head, lets the body go up, and waits for the answer's head.
    async fn first(&mut self, orders: Option<&mut Orders>) -> First {
        let Self {
            request,
            http,
            connection,
            upload,
            is_sent,
            answering,
        } = self;
        let (client, backend) = (&request.client, &connection.stream);
        let up = async {
            match upload.run(client.socket(), backend).await {
                // The backend has all that it needs for an answer: its time begins.
                Ok(()) => {
                    is_sent.store(true, Ordering::Relaxed);
                    tokio::select! {
                        () = client.gone() => First::Left,
                        () = tokio::time::sleep(HTTP_ANSWER) => First::Late,
                    }
                }
                // It closed its side while it was written to: what it said before may still be there to read.
                Err(Cut::Backend(_)) => {
                    tokio::time::sleep(HTTP_ANSWER).await;
                    First::Late
                }
                Err(cut) => First::Cut(cut),
            }
        };
        let word = async {
            match orders {
                Some(orders) => orders.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            word = word => First::Word(word),
            first = answering.head(request, *http, backend, is_sent) => first,
            ended = up => ended,
        }
    }

    /// Passes the answer on, to its end.
    async fn second(mut self, begun: Begun) -> Outcome {
        let Begun {
            mut out,
            mut download,
            backend_persists,
            client_persists,
            ends_by_close,
            ..
        } = begun;
        let (client, backend) = (&self.request.client, &self.connection.stream);
        self.upload.patience = HTTP_IDLE; // it answers: it may take the rest as it likes
        let passed = {
            let up = async {
                let result = self.upload.run(client.socket(), backend).await;
                if result.is_ok() {
                    client.gone().await;
                }
                result
            };
            let down = async {
                write_to_client(client.socket(), &mut out).await?;
                download.run(backend, client.socket()).await
            };
            tokio::pin!(up, down);
            tokio::select! {
                biased;
                passed = &mut down => passed,
                up = &mut up => match up {
                    // The backend may end its side before it has read all of a body.
                    Err(Cut::Backend(_)) => down.await,
                    Err(cut) => Err(cut),
                    Ok(()) => Err(Cut::Client),
                },
            }
        };
        match passed {
            Ok(()) => {
                if backend_persists && self.upload.is_done() && !download.has_surplus {
                    let Connection {
                        stream,
                        descriptor,
                        era,
                        ..
                    } = self.connection;
                    self.request.backend.pool.give(stream, descriptor, era);
                }
                Outcome::Answered {
                    persists: client_persists,
                }
            }
            Err(cut) => cut_within(cut, ends_by_close),
        }
    }
}

impl Answering {
    /// Reads the answer's head, passing interim ones on.
    async fn head(
        &mut self,
        request: &Request<'_>,
        http: Option<&Http>,
        backend: &Stream,
        is_sent: &AtomicBool,
    ) -> First {
        let Some(http) = http else { return First::Dropped };
        while self.count <= INTERIM_MAX {
            if let Err(cut) = write_to_client(request.client.socket(), &mut self.interim).await {
                return First::Cut(cut);
            }
            let len = match next_head(backend, &mut self.bytes, self.count == 0).await {
                Ok(len) => len,
                Err(NoHead::Dropped) => return First::Dropped,
                Err(NoHead::Nonsense(why)) => return First::Nonsense(why),
            };
            let behind = self.bytes.split_off(len);
            match head::parse_answer(&self.bytes, http) {
                head::Answer::Status(status) => {
                    return started(request, http, &status, &behind, is_sent.load(Ordering::Relaxed));
                }
                head::Answer::Interim(interim) if http.is_http11() => interim.to_client(&mut self.interim),
                head::Answer::Interim(_) => {} // HTTP/1.0 knows none
                head::Answer::Nonsense(why) => return First::Nonsense(why.to_string()),
                head::Answer::Switched(_) | head::Answer::Partial => {
                    return First::Nonsense("the backend's answer is none to a plain request".into());
                }
            }
            self.count += 1;
            self.bytes = behind;
        }
        First::Nonsense(format!("the backend gave more than {INTERIM_MAX} interim answers"))
    }
}

/// The answer's head as the client gets it.
fn started(request: &Request<'_>, http: &Http, status: &head::Status<'_>, behind: &[u8], is_sent: bool) -> First {
    let dechunk = status.body() == BodyFraming::Chunked && !http.is_http11();
    let ends_by_close = dechunk || status.body() == BodyFraming::UntilClose;
    let draining = request.front.drain.borrow().is_some();
    let client_persists = http.persists() && is_sent && !ends_by_close && !draining;
    let after = match (client_persists, http.is_http11()) {
        (false, _) => After::Close,
        (true, true) => After::Persist,
        (true, false) => After::PersistHttp10,
    };
    let mut out = Vec::new();
    let degraded = request.front.degraded_field(request.route_index);
    let edits = Edits {
        route: &request.route.response_headers,
        degraded: degraded.as_deref().map(|degraded| degraded.field.as_str()),
    };
    status.to_client(edits, after, dechunk, &mut out);
    let mut download = Download {
        reader: BodyReader::new(status.body()),
        dechunk,
        has_surplus: false,
    };
    if let Err(cut) = download.judge(behind, &mut out) {
        return First::Cut(cut);
    }
    First::Begun(Box::new(Begun {
        out,
        download,
        answer: match status.status() {
            200..=399 => Answer::Served,
            code => Answer::Status(code),
        },
        backend_persists: status.persists(),
        client_persists,
        ends_by_close,
    }))
}

/// A word of the gate that is not "forward".
fn worded(word: Option<Order>) -> Outcome {
    match word {
        Some(Order::Requeued | Order::Dialled(_) | Order::Look | Order::Accept | Order::Tell { .. }) => {
            Outcome::Requeued
        }
        Some(Order::Refuse(refusal, _)) => Outcome::Refused(refusal, refuse::why(refusal)),
        Some(Order::Forward) => Outcome::Refused(Refusal::BadAnswer, None), // taken before
        None => Outcome::Refused(Refusal::Draining, None),
    }
}

/// Before anything of the answer was sent, most ends can still be told.
fn cut_before(cut: Cut) -> Outcome {
    match cut {
        Cut::Client => Outcome::Left,
        Cut::Malformed(fault) => Outcome::Refused(Refusal::BadRequest, Some(fault.to_string())),
        Cut::TooLong => Outcome::Refused(Refusal::BodyTooLarge, None),
        Cut::ClientSilent => Outcome::Refused(Refusal::BodyTimeout, None),
        Cut::Backend(why) => Outcome::Refused(Refusal::BadAnswer, Some(why)),
        Cut::BackendSilent => Outcome::Refused(Refusal::Unanswered, None),
    }
}

/// A client that has a part of its answer can only be cut: that is how HTTP says "incomplete".
fn cut_within(cut: Cut, ends_by_close: bool) -> Outcome {
    let (cause, detail) = match cut {
        Cut::Client => (CloseCause::ClientLost, None),
        Cut::Malformed(fault) => (CloseCause::ClientViolation, Some(fault.to_string())),
        Cut::TooLong => (CloseCause::ClientViolation, Some("its body is too large".into())),
        Cut::ClientSilent => (CloseCause::TimedOut, Some("the client was silent".into())),
        Cut::Backend(why) => (CloseCause::BackendLost, Some(why)),
        Cut::BackendSilent => (CloseCause::TimedOut, Some("the backend was silent".into())),
    };
    if ends_by_close {
        return Outcome::Torn(cause, detail);
    }
    Outcome::Cut(cause, detail)
}
