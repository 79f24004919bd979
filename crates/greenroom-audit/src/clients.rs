//! Clients that come over a span of time while a server starts.
//!
//! Each connects once, sends messages that only it sends, checks the echo, and
//! closes. None tries again: what is measured is the first attempt. Arrival
//! times come from a seed, one client per equal slice of the span, so that
//! client `n` always starts before client `n + 1`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::Uri;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_websockets::{ClientBuilder, CloseCode, Error, Message, WebSocketStream, upgrade};

use crate::audit::plan::Dice;
use crate::{clock, limits};

/// Who comes, when, and to do what.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to.
    pub address: SocketAddr,
    /// Request path; `client=N` is added as its query.
    pub path: String,
    /// How many.
    pub count: usize,
    /// Over which span they come.
    pub over: Duration,
    /// Messages that each sends, one after the other.
    pub messages: usize,
    /// What each waits for, all in all, from its start to the last echo.
    pub patience: Duration,
    /// Chooses the moments of arrival.
    pub seed: u64,
}

/// What became of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// In, and every echo was right.
    Echoed,
    /// No connection.
    Refused(String),
    /// An HTTP answer other than 101.
    Status(u16),
    /// Closed before the last echo, with this code (none: the connection just ended).
    ClosedEarly(Option<u16>),
    /// Its patience ended.
    TimedOut,
    /// An echo was not what was sent.
    WrongEcho,
    /// The other side broke the protocol.
    Broken(String),
}

/// What one client saw. Moments are of [`crate::clock`].
#[derive(Clone, Debug, Serialize)]
pub struct ClientRecord {
    /// Its number, from 0, in order of arrival.
    pub client: usize,
    /// When it began to connect.
    pub started_at: u64,
    /// When it had its 101.
    pub opened_at: Option<u64>,
    /// When it had its first right echo.
    pub echoed_at: Option<u64>,
    /// Messages that it sent.
    pub sent: usize,
    /// Right echoes that it got.
    pub echoed: usize,
    /// What became of it.
    pub outcome: Outcome,
    /// The code of the Close that it got: before its last echo, or in answer to its own.
    pub close_code: Option<u16>,
}

/// How far a client is, for who draws it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has begun to connect.
    Waiting,
    /// It has its 101.
    Open,
    /// It is done.
    Done(Outcome),
}

/// Runs the plan to its end; `progress` is called with each client's number and
/// stage as it comes. Records are in order of the clients.
pub async fn arrive(plan: &Plan, progress: impl Fn(usize, Stage) + Send + Sync + 'static) -> Vec<ClientRecord> {
    let progress = Arc::new(progress);
    let began = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for (client, after) in arrivals(plan.count, plan.over, plan.seed).into_iter().enumerate() {
        let (plan, progress) = (plan.clone(), Arc::clone(&progress));
        running.spawn(async move {
            sleep_until(began + after).await;
            progress(client, Stage::Waiting);
            let record = one(&plan, client, || progress(client, Stage::Open)).await;
            progress(client, Stage::Done(record.outcome.clone()));
            record
        });
    }
    let mut records = Vec::with_capacity(plan.count);
    while let Some(joined) = running.join_next().await {
        // A task that panicked is a client without a record: the checks count who is missing.
        records.extend(joined);
    }
    records.sort_by_key(|record: &ClientRecord| record.client);
    records
}

/// When each client comes: one in each equal slice of the span.
fn arrivals(count: usize, over: Duration, seed: u64) -> Vec<Duration> {
    let slices = u32::try_from(count.max(1)).unwrap_or(u32::MAX);
    let slice = over / slices;
    let mut dice = Dice::new(seed, 0);
    let at = |index: usize| {
        let within = dice.next_u64() % u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX).max(1);
        slice * u32::try_from(index).unwrap_or(u32::MAX) + Duration::from_nanos(within)
    };
    (0..count).map(at).collect()
}

async fn one(plan: &Plan, client: usize, open: impl Fn()) -> ClientRecord {
    let mut record = ClientRecord {
        client,
        started_at: clock::now(),
        opened_at: None,
        echoed_at: None,
        sent: 0,
        echoed: 0,
        outcome: Outcome::TimedOut,
        close_code: None,
    };
    if let Ok(outcome) = timeout(plan.patience, talk(plan, &mut record, open)).await {
        record.outcome = outcome;
    }
    record
}

async fn talk(plan: &Plan, record: &mut ClientRecord, open: impl Fn()) -> Outcome {
    let client = record.client;
    let Ok(uri) = format!("ws://{}{}?client={client}", plan.address, plan.path).parse::<Uri>() else {
        return Outcome::Broken(format!("{:?} is not a path", plan.path));
    };
    let stream = match TcpStream::connect(plan.address).await {
        Ok(stream) => stream,
        Err(error) => return Outcome::Refused(error.kind().to_string()),
    };
    stream.set_nodelay(true).ok();
    let mut socket = match ClientBuilder::from_uri(uri).connect_on(stream).await {
        Ok((socket, _)) => socket,
        Err(error) => return of_error(&error),
    };
    record.opened_at = Some(clock::now());
    open();
    for number in 0..plan.messages {
        let text = format!("client {client}, message {number}, seed {}", plan.seed);
        if let Err(error) = socket.send(Message::text(text.clone())).await {
            // The Close that explains it may already be in our hands.
            return match next_data(&mut socket, record).await {
                Err(Outcome::ClosedEarly(Some(code))) => Outcome::ClosedEarly(Some(code)),
                Ok(_) | Err(_) => of_error(&error),
            };
        }
        record.sent += 1;
        match next_data(&mut socket, record).await {
            Ok(message) if message.as_text() == Some(text.as_str()) => record.echoed += 1,
            Ok(_) => return Outcome::WrongEcho,
            Err(outcome) => return outcome,
        }
        record.echoed_at.get_or_insert_with(clock::now);
    }
    // It is in and has its echo; a close handshake that fails now is noted in the code and no more.
    let close = Message::close(Some(CloseCode::NORMAL_CLOSURE), "");
    let closing = async {
        socket.send(close).await?;
        while next_data(&mut socket, record).await.is_ok() {}
        Ok::<(), Error>(())
    };
    timeout(limits::CLOSE_WAIT, closing).await.ok();
    Outcome::Echoed
}

/// The next text or binary message, or what ended the connection.
async fn next_data(socket: &mut WebSocketStream<TcpStream>, record: &mut ClientRecord) -> Result<Message, Outcome> {
    loop {
        match socket.next().await {
            Some(Ok(message)) if message.is_text() || message.is_binary() => return Ok(message),
            Some(Ok(message)) => {
                if let Some((code, _)) = message.as_close() {
                    let code = u16::from(code);
                    record.close_code = Some(code);
                    return Err(Outcome::ClosedEarly(Some(code)));
                }
            }
            Some(Err(error)) => return Err(of_error(&error)),
            None => return Err(Outcome::ClosedEarly(None)),
        }
    }
}

fn of_error(error: &Error) -> Outcome {
    match error {
        Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Outcome::Refused(error.kind().to_string())
        }
        Error::Io(_) | Error::AlreadyClosed => Outcome::ClosedEarly(None),
        Error::Upgrade(upgrade::Error::DidNotSwitchProtocols(status)) => Outcome::Status(*status),
        other => Outcome::Broken(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_keep_their_order_and_the_span() {
        for seed in 0..50 {
            let times = arrivals(24, Duration::from_millis(2_500), seed);
            assert_eq!(times.len(), 24);
            assert!(times.is_sorted(), "seed {seed}");
            assert!(times[23] < Duration::from_millis(2_500), "seed {seed}");
        }
        assert_ne!(
            arrivals(5, Duration::from_secs(1), 1),
            arrivals(5, Duration::from_secs(1), 2)
        );
    }

    #[test]
    fn nobody_and_no_span_are_no_trouble() {
        assert!(arrivals(0, Duration::from_secs(1), 1).is_empty());
        assert_eq!(arrivals(2, Duration::ZERO, 1), [Duration::ZERO; 2]);
    }
}
