//! One client: connects once, speaks as soon as it is open, and writes down what comes of it.
//!
//! It never tries again: what is measured is the first attempt. It is patient for the whole
//! of its patience with the handshake, and again with the first answer; when some answers have come
//! and others have not, it waits `answer_wait` more after the last thing that happened. It stays
//! open for `linger`, so that a Close that comes a little later is seen.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::{HeaderName, HeaderValue, Uri};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_websockets::{ClientBuilder, CloseCode, Error, Limits, Message, WebSocketStream, upgrade};

use super::record::{ClientRecord, Ending, Sent, Stage};
use super::target::{Expect, Words};
use crate::{clock, limits};

/// What a client does.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Where to.
    pub address: SocketAddr,
    /// What for.
    pub uri: Uri,
    /// With which header fields beside its own.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What it says.
    pub words: Words,
    /// What is right to hear.
    pub expect: Expect,
    /// In which run.
    pub run: u32,
    /// After how long from its opening each message is sent.
    pub sends: Vec<Duration>,
    /// What it waits for its 101, and then for its first answer.
    pub patience: Duration,
    /// What it waits for a missing answer when others have come.
    pub answer_wait: Duration,
    /// How long it stays open at the least.
    pub linger: Duration,
}

/// Visits, and tells what it saw; `answered` is called with the first right answer, or, where none is expected, with
/// the opening of a connection that stood as long as it was to.
pub async fn visit(visit: &Visit, client: u32, answered: impl FnMut(u64)) -> ClientRecord {
    let mut record = ClientRecord::new(client, clock::now());
    record.ending = connect(visit, &mut record, answered).await;
    if record.ended_at == record.started_at {
        record.ended_at = clock::now();
    }
    record
}

/// Connects and asks for a WebSocket, until `deadline`. `connected_at` is when there was a connection.
pub(super) async fn open(
    address: SocketAddr,
    uri: &Uri,
    headers: &[(HeaderName, HeaderValue)],
    deadline: Instant,
    connected_at: &mut Option<u64>,
) -> Result<WebSocketStream<TcpStream>, Ending> {
    let stream = match timeout_at(deadline, TcpStream::connect(address)).await {
        Err(_late) => return Err(Ending::TimedOut(Stage::Connecting)),
        Ok(Err(error)) => return Err(of_io(&error, Stage::Connecting)),
        Ok(Ok(stream)) => stream,
    };
    *connected_at = Some(clock::now());
    stream.set_nodelay(true).ok();
    let mut builder =
        ClientBuilder::from_uri(uri.clone()).limits(Limits::default().max_payload_len(Some(limits::MESSAGE_MAX)));
    for (name, value) in headers {
        builder = builder
            .add_header(name.clone(), value.clone())
            .map_err(|error| Ending::Failed(error.to_string()))?;
    }
    match timeout_at(deadline, builder.connect_on(stream)).await {
        Err(_late) => Err(Ending::TimedOut(Stage::Opening)),
        Ok(Err(error)) => Err(of_error(&error, Stage::Opening)),
        Ok(Ok((socket, _))) => Ok(socket),
    }
}

async fn connect(visit: &Visit, record: &mut ClientRecord, answered: impl FnMut(u64)) -> Ending {
    let deadline = Instant::now() + visit.patience;
    let opening = open(
        visit.address,
        &visit.uri,
        &visit.headers,
        deadline,
        &mut record.connected_at,
    );
    let socket = match opening.await {
        Ok(socket) => socket,
        Err(ending) => return ending,
    };
    record.opened_at = Some(clock::now());
    let mut talk = Talk {
        visit,
        record,
        answered,
        opened: Instant::now(),
        last: Instant::now(),
        highest: 0,
        answers: Vec::new(),
    };
    let (ending, mut socket) = talk.hold(socket).await;
    talk.settle_answers();
    if ending == Ending::Done
        && !talk.expects()
        && let Some(opened) = talk.record.opened_at
    {
        (talk.answered)(opened);
    }
    record.ended_at = clock::now();
    if ending == Ending::Done {
        // It has seen enough; what becomes of the close handshake is not its concern any more.
        let close = Message::close(Some(CloseCode::NORMAL_CLOSURE), "");
        let closing = async {
            if socket.send(close).await.is_ok() {
                while let Some(Ok(_)) = socket.next().await {}
            }
        };
        tokio::time::timeout(limits::CLOSE_WAIT, closing).await.ok();
    }
    ending
}

struct Talk<'a, F> {
    visit: &'a Visit,
    record: &'a mut ClientRecord,
    answered: F,
    opened: Instant,
    /// When something was sent or answered last.
    last: Instant,
    /// The highest number answered so far.
    highest: usize,
    /// Answers to messages that cannot be told apart.
    answers: Vec<u64>,
}

impl<F: FnMut(u64)> Talk<'_, F> {
    /// Speaks and listens until there is nothing more to be seen.
    async fn hold(&mut self, mut socket: WebSocketStream<TcpStream>) -> (Ending, WebSocketStream<TcpStream>) {
        let ending = loop {
            let sending = self.next_send();
            let until = sending.unwrap_or_else(|| self.done_at());
            let message = tokio::select! {
                biased;
                message = socket.next() => message,
                () = sleep_until(until) => {
                    if sending.is_some() {
                        match self.send(&mut socket).await {
                            Ok(()) => continue,
                            Err(error) => break last_words(&mut socket, &error).await,
                        }
                    }
                    let silent = self.expects() && self.heard() == 0;
                    break if silent { Ending::TimedOut(Stage::Open) } else { Ending::Done };
                }
            };
            match message {
                Some(Ok(message)) => match of_close(&message) {
                    Some(closed) => break closed,
                    None => self.hear(&message),
                },
                Some(Err(error)) => break of_error(&error, Stage::Open),
                None => break Ending::Cut(Stage::Open),
            }
        };
        (ending, socket)
    }

    fn expects(&self) -> bool {
        !matches!(self.visit.expect, Expect::Nothing)
    }

    fn numbered(&self) -> bool {
        matches!(self.visit.expect, Expect::Echo) && self.visit.words.is_numbered()
    }

    /// How many messages were answered.
    fn heard(&self) -> usize {
        let numbered = self.record.messages.iter().filter(|sent| sent.answered_at.is_some());
        numbered.count() + self.answers.len()
    }

    /// When the next message is due, if one is left.
    fn next_send(&self) -> Option<Instant> {
        let sent = self.record.messages.len();
        if let Some(&delay) = self.visit.sends.get(sent) {
            return Some(self.opened + delay);
        }
        // Messages that cannot be told apart: a second one shows whether only the first was lost.
        let again = !self.numbered() && self.expects() && sent == self.visit.sends.len() && self.heard() == 0;
        again.then(|| self.last + self.visit.answer_wait)
    }

    /// When there is nothing more to wait for, all messages being sent.
    fn done_at(&self) -> Instant {
        let stay = self.opened + self.visit.linger;
        if !self.expects() || self.heard() >= self.record.messages.len() {
            return stay;
        }
        let missing = match self.heard() {
            0 => self.opened + self.visit.patience,
            _ => self.last + self.visit.answer_wait,
        };
        missing.max(stay)
    }

    async fn send(&mut self, socket: &mut WebSocketStream<TcpStream>) -> Result<(), Error> {
        let number = self.record.messages.len();
        let message = match self.visit.words.filled(self.visit.run, self.record.client, number) {
            Words::Text(text) => Message::text(text),
            Words::Binary(bytes) => Message::binary(bytes),
        };
        self.record.messages.push(Sent {
            at: clock::now(),
            answered_at: None,
            copies: 0,
        });
        self.last = Instant::now();
        socket.send(message).await
    }

    fn hear(&mut self, message: &Message) {
        if !message.is_text() && !message.is_binary() {
            return;
        }
        let now = clock::now();
        let payload: &[u8] = message.as_payload();
        if self.numbered() {
            let words = &self.visit.words;
            let (run, client) = (self.visit.run, self.record.client);
            let is = |number: &usize| words.filled(run, client, *number).bytes() == payload;
            let Some(number) = (0..self.record.messages.len()).find(is) else {
                self.record.others += 1;
                return;
            };
            let sent = &mut self.record.messages[number];
            sent.copies = sent.copies.saturating_add(1);
            if sent.answered_at.is_none() {
                sent.answered_at = Some(now);
                self.record.reordered |= number < self.highest;
                self.highest = self.highest.max(number);
            }
        } else if !self.record.messages.is_empty()
            && self.answers.len() < limits::AUDIT_MESSAGES
            && self.visit.expect.takes(&self.visit.words, payload)
        {
            self.answers.push(now);
        } else {
            self.record.others += 1;
            return;
        }
        self.last = Instant::now();
        if self.heard() == 1 {
            (self.answered)(now);
        }
    }

    /// Gives answers to messages that cannot be told apart: to all in order, or, where there are fewer, to the last.
    fn settle_answers(&mut self) {
        let sent = self.record.messages.len();
        let extra = self.answers.len().saturating_sub(sent);
        let unanswered = sent.saturating_sub(self.answers.len());
        for (index, &at) in self.answers.iter().take(sent).enumerate() {
            let message = &mut self.record.messages[unanswered + index];
            message.answered_at = Some(at);
            message.copies = 1;
        }
        // Who expects an echo and gets one more has got it twice; who takes any message may be greeted.
        if matches!(self.visit.expect, Expect::Echo)
            && let Some(last) = self.record.messages.last_mut()
        {
            last.copies = last.copies.saturating_add(u16::try_from(extra).unwrap_or(u16::MAX));
        }
    }
}

/// What the other side had said before a write to it failed: the Close that explains it may already be there.
pub(super) async fn last_words(socket: &mut WebSocketStream<TcpStream>, error: &Error) -> Ending {
    let reading = async {
        while let Some(Ok(message)) = socket.next().await {
            if let Some(closed) = of_close(&message) {
                return Some(closed);
            }
        }
        None
    };
    let said = tokio::time::timeout(limits::CLOSE_WAIT, reading).await;
    said.ok().flatten().unwrap_or_else(|| of_error(error, Stage::Open))
}

pub(super) fn of_close(message: &Message) -> Option<Ending> {
    let (code, reason) = message.as_close()?;
    let code = u16::from(code);
    Some(Ending::Closed {
        code: (code != 1005).then_some(code),
        reason: cut(reason),
    })
}

/// A reason, in its bound.
fn cut(reason: &str) -> String {
    reason.chars().take(limits::AUDIT_REASON).collect()
}

fn of_io(error: &io::Error, stage: Stage) -> Ending {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Ending::Refused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Ending::Reset(stage),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionAborted => Ending::Cut(stage),
        io::ErrorKind::TimedOut => Ending::TimedOut(stage),
        _ if stage == Stage::Connecting => Ending::Failed(error.to_string()),
        _ => Ending::Broken(error.to_string()),
    }
}

pub(super) fn of_error(error: &Error, stage: Stage) -> Ending {
    match error {
        Error::Io(error) => of_io(error, stage),
        Error::AlreadyClosed => Ending::Cut(stage),
        Error::Upgrade(upgrade::Error::DidNotSwitchProtocols(status)) => Ending::Status(*status),
        other => Ending::Broken(cut(&other.to_string())),
    }
}
