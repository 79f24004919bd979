//! What can be done to connections: close them, and send them a message.
//!
//! | | |
//! |---|---|
//! | `POST /v1/connections/close` | [`CloseThese`] → [`Closing`] |
//! | `POST /v1/connections/NUMBER/close` | [`CloseOne`] → [`Closing`] |
//! | `POST /v1/connections/send` | [`SendThese`] → [`Sending`] |
//!
//! Nothing here touches a socket: each connection's own task is told, and those who are sent something are heard of at
//! the same time, so that a slow one delays nobody. What was begun is done and said, also where who asked hangs up. To close what is closing or closed changes nothing and is no error. Whoever
//! names nobody means nobody: all are meant only by `"all": true`.
//!
//! Bounded: `ACT_MATCHED_MAX` connections of one request, `ACT_NUMBERS_MAX` numbers, `ACT_BODY_MAX` bytes of a body,
//! `SEND_MAX` bytes of a message, `SEND_PATIENCE` for its place between two of the backend, `ACTS_MAX` requests at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use base64::engine::general_purpose::STANDARD;
use base64::{DecodeError, Engine as _};
use greenroom_core::event::{CloseCause, Refusal, State as Where, Unsent};
use greenroom_core::limits::{
    ACT_BODY_MAX, ACT_MATCHED_MAX, ACT_NUMBERS_MAX, ACT_OUTCOMES_MAX, ACTS_MAX, CLOSE_REASON_MAX, SEND_MAX,
    SEND_PATIENCE,
};
use greenroom_core::wire::{CloseCode, Data, message};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::time::{Instant, timeout_at};

use super::Asked;
use super::api::{Refused, refuse};
use super::audited;
use super::by::{By, to_the_end};
use super::filter::{Filter, breath, object};
use super::openapi::Api;
use super::said::{Body, InPath, Sent};
use crate::clock;
use crate::config::units::{self, show_size};
use crate::registry::{Close, Notice, Outcome, OwnMessage, Record};

pub(super) fn routes(api: Api) -> Api {
    api.post_up_to(
        ACT_BODY_MAX,
        "/v1/connections/close",
        "Close connections",
        &[404, 429, 503],
        close,
    )
    .post(
        "/v1/connections/{number}/close",
        "Close one connection",
        &[404, 429, 503],
        close_one,
    )
    .post_up_to(
        ACT_BODY_MAX,
        "/v1/connections/send",
        "Send WebSocket clients a message, between two of their server",
        &[404, 429, 503],
        send,
    )
}

/// Connections that are to be closed.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct CloseThese {
    /// Those of these numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub numbers: Vec<u64>,
    /// Those that fit this filter.
    #[serde(deserialize_with = "object")]
    pub filter: Filter,
    /// All; of the filter only `after` may stand beside it.
    pub all: bool,
    /// The close code of a WebSocket: 1000 to 1003, 1007 to 1014, 3000 to 4999; 1001 without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// The reason beside it, of at most 123 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only count them.
    pub dry_run: bool,
}

/// How one connection is to be closed; see [`CloseThese`].
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct CloseOne {
    /// The close code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// The reason beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only say whether it would be.
    pub dry_run: bool,
}

/// A message that is to be sent to WebSocket clients: `text` or `base64`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct SendThese {
    /// To those of these numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub numbers: Vec<u64>,
    /// To those that fit this filter.
    #[serde(deserialize_with = "object")]
    pub filter: Filter,
    /// To all; of the filter only `after` may stand beside it.
    pub all: bool,
    /// A text message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A binary message, in base64 (RFC 4648 §4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// Only count them.
    pub dry_run: bool,
}

impl Sent for CloseThese {
    const EXAMPLE: &'static str = r#"{"filter": {"backend": "app"}, "code": 1001, "reason": "maintenance"}"#;
}

impl Sent for CloseOne {
    const EXAMPLE: &'static str = r#"{"code": 1001, "reason": "maintenance"}"#;

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

impl Sent for SendThese {
    const EXAMPLE: &'static str = r#"{"filter": {"backend": "app"}, "text": "hello"}"#;
}

impl SendThese {
    /// The same with this binary message.
    #[must_use]
    pub fn binary(self, message: &[u8]) -> Self {
        let base64 = Some(STANDARD.encode(message));
        Self { base64, ..self }
    }
}

/// What came of closing.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct Closing {
    /// How many were meant.
    pub matched: usize,
    /// How many were told to close: a WebSocket does so at once, a plain request is answered first.
    pub closed: usize,
    /// How many were closing or closed already.
    pub already: usize,
    /// How many were refused, by name.
    pub refused: BTreeMap<String, usize>,
    /// Each of them that was not simply closed, up to 100.
    pub outcomes: Vec<One>,
    /// How many more there are than one request may change: ask again.
    pub left: usize,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// What came of sending.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct Sending {
    /// How many were meant.
    pub matched: usize,
    /// To how many it was sent.
    pub sent: usize,
    /// How many were refused, by name.
    pub refused: BTreeMap<String, usize>,
    /// Each of these, up to 100.
    pub outcomes: Vec<One>,
    /// How many more there are than one request may reach: ask again with `after` …
    pub left: usize,
    /// … and this number.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<u64>,
    /// Nothing was sent.
    pub dry_run: bool,
}

/// What came of one connection.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct One {
    /// Its number.
    pub number: u64,
    /// `already`, or the name of a refusal.
    pub outcome: String,
}

/// Requests that are under way.
static ACTS: Semaphore = Semaphore::const_new(ACTS_MAX);

fn place() -> Result<SemaphorePermit<'static>, Refused> {
    match ACTS.try_acquire() {
        Ok(place) => Ok(place),
        Err(_) => refuse(
            StatusCode::TOO_MANY_REQUESTS,
            format!("{ACTS_MAX} requests that close or send are under way"),
            "ask again in a moment",
        ),
    }
}

/// Which connections are meant. These keys stand in [`CloseThese`] and in [`SendThese`], and not in a part that both have: serde
/// cannot flatten one into a body whose unknown keys are refused, and a key with a slip in it must not mean others.
struct Which {
    numbers: Vec<u64>,
    filter: Filter,
    all: bool,
}

/// Those that are meant.
struct Matched {
    /// As many as one request may change.
    records: Vec<Arc<Record>>,
    /// How many more there are.
    left: usize,
    /// Of the numbers, those of connections that are over.
    over: Vec<u64>,
}

impl Which {
    /// What is meant, in a few words.
    fn words(&self) -> String {
        let first = match (&*self.numbers, self.all, self.filter.is_choice()) {
            ([], true, _) => Some("all connections".into()),
            ([], false, true) => None,
            ([], false, false) => Some("no connections".into()),
            ([one], ..) => Some(format!("connection {one}")),
            (several, ..) => Some(format!("{} by number", units::count(several.len(), "connection"))),
        };
        let words: Vec<_> = first.into_iter().chain(self.filter.words()).collect();
        words.join(" ")
    }

    async fn matched(self, asked: &Asked) -> Result<Matched, Refused> {
        let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
        match (!self.numbers.is_empty() || self.filter.is_choice(), self.all) {
            (false, false) => {
                return refuse(
                    unprocessable,
                    "nothing says which connections are meant",
                    "name them with `numbers`, choose them with `filter` (`after` alone chooses nobody), or say \"all\": true",
                );
            }
            (true, true) => {
                return refuse(
                    unprocessable,
                    "all connections are meant, and some are chosen too",
                    "leave out `all`, or `numbers` and `filter`; only `after` may stand beside `all`",
                );
            }
            (true, false) | (false, true) => {}
        }
        if self.numbers.len() > ACT_NUMBERS_MAX {
            let error = format!("there are {} numbers", self.numbers.len());
            return refuse(
                unprocessable,
                error,
                format!("name at most {ACT_NUMBERS_MAX} at a time"),
            );
        }
        let wanted = self.filter.chosen(asked)?;
        let now = clock::now();
        if self.numbers.is_empty() {
            let mut records = wanted.of_open(asked.registry.all(), now).await;
            let left = records.len().saturating_sub(ACT_MATCHED_MAX);
            records.truncate(ACT_MATCHED_MAX);
            let over = Vec::new();
            return Ok(Matched { records, left, over });
        }
        let (mut records, mut over) = (Vec::new(), Vec::new());
        for number in BTreeSet::from_iter(self.numbers) {
            match asked.registry.find(number) {
                Some(record) => records.push(record),
                None if number == 0 || number > asked.registry.accepted() => return unknown(number),
                None => over.push(number),
            }
        }
        let records = wanted.of_open(records, now).await;
        Ok(Matched { records, left: 0, over })
    }
}

fn unknown<T>(number: u64) -> Result<T, Refused> {
    refuse(
        StatusCode::NOT_FOUND,
        format!("there was no connection {number} yet"),
        "`greenroom ps` (GET /v1/connections) lists those that are open",
    )
}

/// Counts what came of each, and names as many as may be shown.
fn count(refused: &mut BTreeMap<String, usize>, outcomes: &mut Vec<One>, number: u64, word: &str) {
    if word != ALREADY {
        *refused.entry(word.to_owned()).or_default() += 1;
    }
    if outcomes.len() < ACT_OUTCOMES_MAX {
        let outcome = word.to_owned();
        outcomes.push(One { number, outcome });
    }
}

const ALREADY: &str = "already";
/// Its task has not taken what it was told before.
const BUSY: &str = "busy";

async fn close(
    State(asked): State<Arc<Asked>>,
    by: By,
    Body(these): Body<CloseThese>,
) -> Result<Json<Closing>, Refused> {
    let which = Which {
        numbers: these.numbers,
        filter: these.filter,
        all: these.all,
    };
    let one = CloseOne {
        code: these.code,
        reason: these.reason,
        dry_run: these.dry_run,
    };
    to_the_end(closes(asked, by, which, one)).await
}

async fn close_one(
    State(asked): State<Arc<Asked>>,
    by: By,
    InPath(number): InPath<u64>,
    Body(one): Body<CloseOne>,
) -> Result<Json<Closing>, Refused> {
    let which = Which {
        numbers: vec![number],
        filter: Filter::default(),
        all: false,
    };
    to_the_end(closes(asked, by, which, one)).await
}

async fn closes(asked: Arc<Asked>, by: By, which: Which, one: CloseOne) -> Result<Json<Closing>, Refused> {
    let (words, dry_run) = (which.words(), one.dry_run);
    let answer = try_close(&asked, which, &one).await;
    if dry_run {
        audited::told();
    } else {
        let change = by.change("close", words);
        match &answer {
            Ok(closing) => change.count(closing.closed).done(&asked.log),
            Err(_) => change.of(&asked.log, &answer),
        }
    }
    answer.map(Json)
}

async fn try_close(asked: &Asked, which: Which, one: &CloseOne) -> Result<Closing, Refused> {
    let _place = place()?;
    let close = by_hand(one)?;
    let Matched { records, left, over } = which.matched(asked).await?;
    let mut closing = Closing {
        matched: records.len() + over.len(),
        left,
        dry_run: one.dry_run,
        ..Closing::default()
    };
    if one.dry_run {
        return Ok(closing);
    }
    let told = records.iter().map(|record| (record.number, tell(record, &close)));
    let over = over.into_iter().map(|number| (number, Err(ALREADY)));
    for (index, (number, told)) in told.chain(over).enumerate() {
        breath(index).await;
        match told {
            Ok(()) => closing.closed += 1,
            Err(word) => {
                closing.already += usize::from(word == ALREADY);
                count(&mut closing.refused, &mut closing.outcomes, number, word);
            }
        }
    }
    Ok(closing)
}

/// The code of a Close, if it is one that somebody may say; without it `usual`.
pub(super) fn close_code(code: Option<u16>, usual: CloseCode) -> Result<CloseCode, Refused> {
    match code.map(|code| (code, CloseCode::new(code))) {
        None => Ok(usual),
        Some((_, Some(code))) => Ok(code),
        Some((code, None)) => refuse(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("{code} is no code that a Close may have (RFC 6455 §7.4)"),
            "write 1000 to 1003, 1007 to 1014, or 3000 to 4999, such as 1001 (going away), 1012 (restart) or 4000 (your own)",
        ),
    }
}

/// How connections are closed by hand, if that is how one may be.
fn by_hand(one: &CloseOne) -> Result<Close, Refused> {
    let code = close_code(one.code, CloseCode::GOING_AWAY)?;
    let reason = one.reason.as_deref().unwrap_or_default();
    if reason.len() > CLOSE_REASON_MAX {
        return refuse(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("the reason has {}", units::count(reason.len(), "byte")),
            format!("a Close has room for {CLOSE_REASON_MAX} (RFC 6455 §5.5)"),
        );
    }
    let detail = if reason.is_empty() {
        format!("code {code}")
    } else {
        format!("code {code}, {reason:?}")
    };
    Ok(Close {
        cause: CloseCause::Admin,
        refusal: Refusal::ByHand,
        code,
        reason: reason.into(),
        detail: Some(detail.into()),
    })
}

/// Tells a connection's task to close it.
fn tell(record: &Record, close: &Close) -> Result<(), &'static str> {
    let is_over = || matches!(record.state().0, Where::Closing | Where::Closed);
    if is_over() {
        return Err(ALREADY);
    }
    match record.mailbox.tell(Notice::Close(close.clone())) {
        Ok(()) => Ok(()),
        Err(_) if is_over() => Err(ALREADY), // meanwhile
        Err(_) => Err(BUSY),
    }
}

async fn send(State(asked): State<Arc<Asked>>, by: By, Body(these): Body<SendThese>) -> Result<Json<Sending>, Refused> {
    to_the_end(sends(asked, by, these)).await
}

async fn sends(asked: Arc<Asked>, by: By, these: SendThese) -> Result<Json<Sending>, Refused> {
    let which = Which {
        numbers: these.numbers,
        filter: these.filter,
        all: these.all,
    };
    let (words, dry_run) = (which.words(), these.dry_run);
    let frame = framed(these.text, these.base64);
    let bytes = frame.as_ref().map_or(0, |frame| frame.len());
    let answer = match frame {
        Ok(frame) => try_send(&asked, which, &frame, dry_run).await,
        Err(refused) => Err(refused),
    };
    if dry_run {
        audited::told();
    } else {
        let change = by.change("send", words);
        match &answer {
            Ok(sending) => change
                .count(sending.sent)
                .detail(units::count(bytes, "byte"))
                .done(&asked.log),
            Err(_) => change.of(&asked.log, &answer),
        }
    }
    answer.map(Json)
}

/// The message as one frame, for all who get it.
fn framed(text: Option<String>, base64: Option<String>) -> Result<Arc<[u8]>, Refused> {
    let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
    let (data, payload) = match (text, base64) {
        (Some(text), None) => (Data::Text, text.into_bytes()),
        (None, Some(base64)) => match STANDARD.decode(base64) {
            Ok(bytes) => (Data::Binary, bytes),
            Err(error) => {
                let error = match error {
                    DecodeError::InvalidByte(at, byte) => {
                        format!("byte {at} of `base64` is {byte:#04x}, which stands for nothing")
                    }
                    DecodeError::InvalidLength(_)
                    | DecodeError::InvalidLastSymbol { .. }
                    | DecodeError::InvalidPadding => "`base64` has an end that stands for nothing".into(),
                };
                return refuse(
                    unprocessable,
                    error,
                    "use the alphabet with + and /, and = at the end (RFC 4648 §4)",
                );
            }
        },
        (Some(_), Some(_)) | (None, None) => {
            return refuse(
                unprocessable,
                "a message is either `text` or `base64`",
                "say one of them",
            );
        }
    };
    if payload.len() > SEND_MAX {
        return refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("too_large: the message has {} bytes", payload.len()),
            format!("send at most {}", show_size(SEND_MAX as u64)),
        );
    }
    let mut frame = Vec::new();
    message(data, &payload, &mut frame);
    Ok(frame.into())
}

async fn try_send(asked: &Asked, which: Which, frame: &Arc<[u8]>, dry_run: bool) -> Result<Sending, Refused> {
    let _place = place()?;
    let Matched { records, left, over } = which.matched(asked).await?;
    let mut sending = Sending {
        matched: records.len() + over.len(),
        left,
        after: records.last().map(|record| record.number).filter(|_| left > 0),
        dry_run,
        ..Sending::default()
    };
    if dry_run {
        return Ok(sending);
    }
    // All are told before any is waited for.
    let mut told = Vec::with_capacity(records.len());
    for (index, record) in records.into_iter().enumerate() {
        breath(index).await;
        told.push((hand(&record, frame), record));
    }
    let until = Instant::now() + SEND_PATIENCE;
    for (told, record) in told {
        let outcome = match told {
            Ok(hears) => heard(&record, hears, until).await,
            Err(why) => Err(why),
        };
        match outcome {
            Ok(()) => sending.sent += 1,
            Err(why) => count(&mut sending.refused, &mut sending.outcomes, record.number, why.word()),
        }
    }
    for number in over {
        count(&mut sending.refused, &mut sending.outcomes, number, Unsent::Gone.word());
    }
    Ok(sending)
}

/// Gives the message to a connection's task, where it has a client to send it to.
fn hand(record: &Record, frame: &Arc<[u8]>) -> Result<oneshot::Receiver<Outcome>, Unsent> {
    can_send(record)?;
    let (message, hears) = OwnMessage::new(frame);
    match record.mailbox.tell(Notice::Send(message)) {
        Ok(()) => Ok(hears),
        Err(_) => Err(can_send(record).err().unwrap_or(Unsent::Slow)), // it has not taken so many before
    }
}

/// Whether a message can be sent to a connection in its state.
fn can_send(record: &Record) -> Result<(), Unsent> {
    match record.state().0 {
        Where::Relaying => Ok(()),
        Where::Held | Where::Dialing if record.accepted().is_some() => Ok(()),
        Where::Opening | Where::Http | Where::Held | Where::Dialing | Where::Parked | Where::Closing => {
            Err(Unsent::NotRelaying)
        }
        Where::Closed => Err(Unsent::Gone),
    }
}

/// Waits until it is known what became of the message. When it is too late, the message is taken back.
async fn heard(record: &Record, mut hears: oneshot::Receiver<Outcome>, until: Instant) -> Outcome {
    if let Ok(outcome) = timeout_at(until, &mut hears).await {
        return outcome.unwrap_or(Err(Unsent::Gone));
    }
    hears.close(); // from here on it cannot be sent any more
    match hears.try_recv() {
        Ok(outcome) => outcome,
        Err(_) => Err(can_send(record).err().unwrap_or(Unsent::UnfinishedMessage)),
    }
}
