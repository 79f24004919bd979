//! One client: connects once, speaks as soon as it is open, and writes down what comes of it.
//!
//! It never tries again: what is measured is the first attempt. It is patient for the whole
//! of its patience with the handshake, and again with an answer; when it gives up before that, [`super::unanswered`] decides.
//! It stays open for `linger`, so that a Close that comes a little later is seen.
//!
//! Bounds: whatever the server does, each client ends by its times; [`limits::AUDIT_CAME`] messages come to one, and
//! what `wire` and `socket` say. Where a bound of ours ends it, nothing is concluded from it.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_websockets::Message;

use super::crosstalk::whose;
use super::record::{ClientRecord, Ending, Foreign, Sent, Stage};
use super::socket::Socket;
use super::target::{Expect, Target, Words};
use super::unanswered::{Next, Waiting};
use super::wire::open;
use crate::{clock, limits};

/// What a client does.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Where to, what for, and with which header fields beside its own.
    pub target: Target,
    /// At which port.
    pub port: u16,
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

async fn connect(visit: &Visit, record: &mut ClientRecord, answered: impl FnMut(u64)) -> Ending {
    let deadline = Instant::now() + visit.patience;
    let opening = open(&visit.target, visit.port, deadline, &mut record.connected_at);
    let mut socket = match opening.await {
        Ok(socket) => socket,
        Err(ending) => return ending,
    };
    record.opened_at = Some(clock::now());
    let mut talk = Talk {
        visit,
        record,
        answered,
        opened: Instant::now(),
        came: 0,
        highest: 0,
        answers: Vec::new(),
    };
    let ending = talk.hold(&mut socket).await;
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
        socket.close(limits::CLOSE_WAIT).await;
    }
    ending
}

struct Talk<'a, F> {
    visit: &'a Visit,
    record: &'a mut ClientRecord,
    answered: F,
    opened: Instant,
    /// Messages that came, control frames included.
    came: usize,
    /// The highest number answered so far.
    highest: usize,
    /// Answers to messages that cannot be told apart.
    answers: Vec<u64>,
}

impl<F: FnMut(u64)> Talk<'_, F> {
    /// Speaks and listens until there is nothing more to be seen, and no longer than [`Talk::over_at`], whatever comes.
    async fn hold(&mut self, socket: &mut Socket) -> Ending {
        loop {
            let sending = self.next_send().filter(|_| !socket.is_speaking());
            let until = match sending {
                Some(sending) => sending.min(self.over_at()),
                None if socket.is_speaking() => self.over_at(), // nobody is done who has not said all
                None => self.done_at().min(self.over_at()),
            };
            // The time first: what comes may never end.
            let heard = tokio::select! {
                biased;
                () = sleep_until(until) => {
                    if sending.is_some_and(|sending| sending <= until) {
                        socket.say(self.next_words()).await;
                        continue;
                    }
                    let silent = self.expects() && self.heard() == 0;
                    return if silent { Ending::TimedOut(Stage::Open) } else { Ending::Done };
                }
                heard = socket.hear() => heard,
            };
            match heard {
                Ok(None) => {}
                Ok(Some(_)) if self.came == limits::AUDIT_CAME => {
                    return Ending::Failed(format!("more than {} messages came", limits::AUDIT_CAME));
                }
                Ok(Some(message)) => {
                    self.came += 1;
                    self.hear(&message);
                }
                Err(ending) => return ending,
            }
        }
    }

    /// When it ends, whatever there is: nothing that it waits for is later.
    fn over_at(&self) -> Instant {
        let asked = self.visit.sends.last().copied().unwrap_or_default() + limits::AUDIT_ANSWER_WAIT;
        self.opened + (asked + 2 * self.visit.patience).max(self.visit.linger) + limits::AUDIT_ANSWER_WAIT
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
        match self.next() {
            Next::Ask(at) => Some(self.instant(at)),
            Next::Done(_) => None,
        }
    }

    /// When there is nothing more to wait for, all messages being sent.
    fn done_at(&self) -> Instant {
        let stay = self.opened + self.visit.linger;
        match self.next() {
            Next::Done(at) => self.instant(at).max(stay),
            Next::Ask(_) => stay, // it asks before it is done
        }
    }

    fn next(&self) -> Next {
        let opened = self.record.opened_at.unwrap_or(self.record.started_at);
        if !self.expects() {
            return Next::Done(opened);
        }
        let waiting = Waiting {
            messages: &self.record.messages,
            answers: (!self.numbered()).then_some(self.answers.as_slice()),
            opened,
            asked: self.record.messages.len() > self.visit.sends.len(),
            patience_ns: super::plan::nanos(self.visit.patience),
        };
        waiting.next()
    }

    /// A moment of the measurements' clock that is not before the opening.
    fn instant(&self, at: u64) -> Instant {
        let opened = self.record.opened_at.unwrap_or(self.record.started_at);
        self.opened + Duration::from_nanos(at.saturating_sub(opened))
    }

    /// The next message, which counts as sent from here on.
    fn next_words(&mut self) -> Words {
        let number = self.record.messages.len();
        let words = self.visit.words.filled(self.visit.run, self.record.client, number);
        self.record.messages.push(Sent {
            at: clock::now(),
            answered_at: None,
            copies: 0,
        });
        words
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
                self.hear_other(payload, now);
                return;
            };
            let sent = &mut self.record.messages[number];
            sent.copies = sent.copies.saturating_add(1);
            if sent.answered_at.is_none() {
                sent.answered_at = Some(now);
                self.record.reordered |= number < self.highest;
                self.highest = self.highest.max(number);
            }
        } else if self.answers.len() < limits::AUDIT_MESSAGES && self.visit.expect.takes(&self.visit.words, payload) {
            self.answers.push(now);
        } else {
            self.record.others += 1;
            return;
        }
        if self.heard() == 1 {
            (self.answered)(now);
        }
    }

    /// A message that answers nothing of this client: it may be another's.
    fn hear_other(&mut self, payload: &[u8], at: u64) {
        self.record.others = self.record.others.saturating_add(1);
        let Some((client, message)) = whose(&self.visit.words, self.visit.run, payload) else {
            return;
        };
        if client == self.record.client {
            return; // an answer to what it has not said: nobody else's
        }
        if self.record.foreign.len() < limits::AUDIT_FOREIGN {
            self.record.foreign.push(Foreign { client, message, at });
        } else {
            self.record.foreign_more = true;
        }
    }

    /// Gives answers to messages that cannot be told apart: to all in order, or, where there are fewer, to the last.
    fn settle_answers(&mut self) {
        let sent = self.record.messages.len();
        let unanswered = sent.saturating_sub(self.answers.len());
        for (index, &at) in self.answers.iter().take(sent).enumerate() {
            let message = &mut self.record.messages[unanswered + index];
            message.answered_at = Some(at);
            message.copies = 1;
        }
        // More answers than messages say nothing: who cannot tell them apart may have heard another's.
    }
}
