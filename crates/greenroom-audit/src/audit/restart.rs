//! Restarts a running server with clients connected, and writes down what each of them goes through;
//! [`super::restarted`] says what it means.
//!
//! Here the clients are those that people have: each sends a message every 50 ms, and connects
//! again, every 50 ms, when it is dropped. CMD gets its signal once all are in; by itself it is started again as soon
//! as it has ended, behind greenroom that does it. In the end nobody sends any more, and what is still
//! unanswered has the time for an answer left.
//!
//! Bounds: [`limits::AUDIT_RESTART_CLIENTS`], [`limits::AUDIT_RESTART_EVERY`], the time for a start; of what is written
//! down, those of [`super::restarted`].

use std::sync::Arc;
use std::time::Duration;

use greenroom::supervise::{Signal, procfs};
use rustix::process::kill_process;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_websockets::Message;

use super::judge::of_ending;
use super::launcher::{Launcher, PortError, Way};
use super::process::{Program, Running, StartError};
use super::record::{Ending, Sent, Stage as Reached};
use super::restarted::{Connection, Life, RestartRecord};
use super::run::Manner;
use super::socket::Socket;
use super::target::{Expect, Words};
use super::wire::open;
use super::{Progress, Show};
use crate::{clock, limits};

/// Why it could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    /// CMD could not be executed.
    #[error(transparent)]
    Start(#[from] StartError),
    /// No port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// It did not come so far.
    #[error("the restart could not be measured: {0}")]
    NotReady(String),
}

/// How far a restart has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Clients come.
    In,
    /// All are in; it is quiet for a moment.
    Steady,
    /// The signal was sent; CMD ends, and is started again.
    Down,
    /// Clients come back.
    Back,
}

/// What is restarted, and how.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Builds what is started.
    pub launcher: &'a Launcher,
    /// What clients do.
    pub manner: &'a Manner,
    /// Which side.
    pub way: Way,
    /// What CMD gets.
    pub signal: Signal,
    /// Clients.
    pub count: u32,
    /// How long a start takes, as far as is known: for the time left.
    pub start: Duration,
}

/// Restarts CMD once, on this side, with clients connected. `None`: it was told to stop.
///
/// # Errors
/// When CMD does not start, or is not ready in time.
pub async fn restart(
    plan: &Plan<'_>,
    stop: &mut watch::Receiver<bool>,
    show: Show<'_>,
) -> Result<Option<RestartRecord>, RestartError> {
    let port = plan.launcher.port(&plan.manner.target, plan.way).await?;
    let program = plan.launcher.program(plan.way, &plan.manner.target, port.number);
    let mut running = Running::start(&program)?;
    let scene = Scene {
        plan,
        program: &program,
        port: port.number,
        began: Instant::now(),
        show,
    };
    let played = tokio::select! {
        played = scene.play(&mut running) => Some(played),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    running.stop(plan.manner.grace).await;
    played.transpose()
}

/// One restart.
struct Scene<'a> {
    plan: &'a Plan<'a>,
    program: &'a Program,
    port: u16,
    began: Instant,
    show: Show<'a>,
}

/// When each client was answered last; 0: not yet.
type News = watch::Sender<Vec<u64>>;

impl Scene<'_> {
    async fn play(&self, running: &mut Running) -> Result<RestartRecord, RestartError> {
        let manner = self.plan.manner;
        let (over, is_over) = watch::channel(false);
        let (news, mut heard) = watch::channel(vec![0_u64; self.plan.count as usize]);
        let (news, told) = (Arc::new(news), heard.clone());
        let mut set = JoinSet::new();
        for client in 0..self.plan.count {
            let (manner, over, news, port) = (manner.clone(), is_over.clone(), Arc::clone(&news), self.port);
            set.spawn(async move { live(&manner, port, client, over, &news).await });
        }
        let all_since = |since: u64| move |last: &Vec<u64>| last.iter().all(|&at| at > since);
        let coming = timeout(manner.start_timeout, heard.wait_for(all_since(0)));
        if self.showing(Step::In, 0, &told, coming).await.is_err() {
            let there = there(&told, 0);
            return Err(RestartError::NotReady(format!(
                "{there} of {} clients were answered within {:?}, the time for a start; raise --start-timeout if it is too short",
                self.plan.count, manner.start_timeout
            )));
        }
        let steady = sleep(limits::AUDIT_RESTART_STEADY);
        self.showing(Step::Steady, 0, &told, steady).await;
        let at = clock::now();
        // Some may never notice: they go on being answered.
        let down = async {
            self.again(running).await?;
            sleep(limits::AUDIT_RESTART_STEADY).await;
            Ok::<(), RestartError>(())
        };
        self.showing(Step::Down, at, &told, down).await?;
        let noticed = clock::now();
        let coming = timeout(manner.start_timeout, heard.wait_for(all_since(noticed)));
        self.showing(Step::Back, noticed, &told, coming).await.ok(); // who is not back is in the record
        over.send_replace(true);
        let mut lives = Vec::new();
        while let Some(joined) = set.join_next().await {
            lives.extend(joined);
        }
        lives.sort_by_key(|life: &Life| life.client);
        Ok(RestartRecord {
            way: self.plan.way,
            signal: if self.plan.signal == Signal::KILL {
                "KILL"
            } else {
                "TERM"
            }
            .to_owned(),
            at,
            over_at: clock::now(),
            lives,
        })
    }

    /// Ends CMD, and starts it again where nobody else does.
    async fn again(&self, running: &mut Running) -> Result<(), RestartError> {
        match self.plan.way {
            Way::Plain => {
                running.signal_one(self.plan.signal);
                timeout(self.plan.manner.grace, running.ended()).await.ok();
                running.stop(self.plan.manner.grace).await; // what it left behind, or itself where it does not end
                *running = Running::start(self.program)?;
                Ok(())
            }
            Way::Greenroom if signal_child(running.pid(), self.plan.signal) => Ok(()),
            Way::Greenroom => Err(RestartError::NotReady(
                "the server's process was not found behind greenroom".into(),
            )),
        }
    }

    /// Waits, and tells meanwhile how many clients were answered since `since`.
    async fn showing<T>(
        &self,
        step: Step,
        since: u64,
        told: &watch::Receiver<Vec<u64>>,
        waiting: impl Future<Output = T>,
    ) -> T {
        let mut waiting = std::pin::pin!(waiting);
        let mut ticks = interval(limits::AUDIT_RESTART_SHOWN);
        loop {
            tokio::select! {
                waited = &mut waiting => return waited,
                _ = ticks.tick() => (self.show)(Progress::Restart {
                    way: self.plan.way,
                    step,
                    there: there(told, since),
                    of: self.plan.count,
                    spent: self.began.elapsed(),
                    expected: expected(self.plan.start),
                }),
            }
        }
    }
}

/// How long a restart takes, where a start takes `start`: two starts, and the quiet moments.
#[must_use]
pub fn expected(start: Duration) -> Duration {
    2 * (start + limits::AUDIT_RESTART_STEADY) + limits::AUDIT_RESTART_EVERY
}

/// How many were answered since.
fn there(told: &watch::Receiver<Vec<u64>>, since: u64) -> u32 {
    let there = told.borrow().iter().filter(|&&at| at > since).count();
    u32::try_from(there).unwrap_or(u32::MAX)
}

/// Sends the signal to the child of greenroom's warden, which is CMD.
fn signal_child(gateway: i32, signal: Signal) -> bool {
    let below = procfs::descendants(gateway, |_| false);
    let wardens: Vec<i32> = below.iter().filter(|p| p.parent == gateway).map(|p| p.pid).collect();
    let mut found = false;
    for process in below.iter().filter(|process| wardens.contains(&process.parent)) {
        found |= process.id().is_some_and(|pid| kill_process(pid, signal).is_ok());
    }
    found
}

/// One client, until it is over.
async fn live(manner: &Manner, port: u16, client: u32, over: watch::Receiver<bool>, news: &News) -> Life {
    let mut life = Life {
        client,
        ..Life::default()
    };
    let (mut sent, mut until_over) = (0, over.clone());
    loop {
        let began_at = clock::now();
        let deadline = Instant::now() + manner.patience;
        let mut connected_at = None;
        let opening = open(&manner.target, port, deadline, &mut connected_at);
        let opened = tokio::select! {
            opened = opening => opened,
            _ = until_over.wait_for(|over| *over) => return life,
        };
        match opened {
            Ok(socket) => {
                let mut talk = Talk {
                    manner,
                    client,
                    connection: Connection {
                        opened_at: clock::now(),
                        messages: Vec::new(),
                        ended: None,
                    },
                    sent,
                    waiting: Vec::new(),
                    opened: Instant::now(),
                    heard: Instant::now(),
                    news,
                };
                talk.hold(socket, over.clone()).await;
                sent = talk.sent;
                life.add(talk.connection);
            }
            Err(ending) => life.add_failed(began_at, of_ending(&ending)),
        }
        tokio::select! {
            () = sleep(limits::AUDIT_RESTART_EVERY) => {}
            _ = until_over.wait_for(|over| *over) => return life,
        }
    }
}

/// Waits until it is over.
async fn told(over: &mut watch::Receiver<bool>) {
    over.wait_for(|over| *over).await.ok();
}

/// One connection.
struct Talk<'a> {
    manner: &'a Manner,
    client: u32,
    connection: Connection,
    /// Messages of this client so far, over all its connections.
    sent: usize,
    /// What is unanswered: words, and when they were sent, which names the message.
    waiting: Vec<(Words, u64)>,
    opened: Instant,
    /// When the last answer came.
    heard: Instant,
    news: &'a News,
}

impl Talk<'_> {
    /// Speaks and listens until it ends, or until it is over.
    async fn hold(&mut self, mut socket: Socket, mut over: watch::Receiver<bool>) {
        let mut ticks = interval(limits::AUDIT_RESTART_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_call: Option<Instant> = None;
        let ending = loop {
            if last_call.is_some() && self.waiting.is_empty() {
                break None;
            }
            tokio::select! {
                _ = ticks.tick(), if last_call.is_none() => {
                    if !self.waiting.is_empty() && self.heard.elapsed() > self.manner.patience {
                        break Some(Ending::TimedOut(Reached::Open));
                    }
                    if !socket.is_speaking() {
                        socket.say(self.next_words()).await;
                    }
                }
                heard = socket.hear() => match heard {
                    Ok(Some(message)) => self.hear(&message),
                    Ok(None) => self.stands(),
                    Err(ending) => break Some(ending),
                },
                () = told(&mut over), if last_call.is_none() => {
                    last_call = Some(Instant::now() + limits::AUDIT_ANSWER_WAIT);
                }
                () = sleep_until(last_call.unwrap_or(self.opened)), if last_call.is_some() => break None,
            }
        };
        self.connection.ended = ending.map(|how| (clock::now(), how));
        socket.close(limits::AUDIT_RESTART_PARTING).await;
    }

    /// The next message, which counts as sent from here on.
    fn next_words(&mut self) -> Words {
        let words = self.manner.words.filled(0, self.client, self.sent);
        let at = clock::now();
        self.sent += 1;
        self.connection.add(Sent {
            at,
            answered_at: None,
            copies: 0,
        });
        if !matches!(self.manner.expect, Expect::Nothing) {
            self.waiting.push((words.clone(), at));
            if self.waiting.len() > limits::AUDIT_RESTART_MESSAGES {
                self.waiting.remove(0);
            }
        }
        words
    }

    /// What it said is written: where no answer is expected, it is enough that the connection stands.
    fn stands(&self) {
        if matches!(self.manner.expect, Expect::Nothing) && self.opened.elapsed() >= limits::AUDIT_LINGER {
            self.tell(clock::now());
        }
    }

    fn hear(&mut self, message: &Message) {
        if !message.is_text() && !message.is_binary() {
            return;
        }
        let payload: &[u8] = message.as_payload();
        let expect = &self.manner.expect;
        // Whoever was asked before and is not the one that is answered may still come.
        let Some(index) = self.waiting.iter().position(|(words, _)| expect.takes(words, payload)) else {
            return;
        };
        let (_, at) = self.waiting.remove(index);
        let now = clock::now();
        if let Some(sent) = self.connection.messages.iter_mut().rev().find(|sent| sent.at == at) {
            (sent.answered_at, sent.copies) = (Some(now), 1);
        }
        self.heard = Instant::now();
        self.tell(now);
    }

    fn tell(&self, now: u64) {
        self.news.send_modify(|last| last[self.client as usize] = now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::target::Target;
    use tokio::net::TcpListener;
    use tokio_websockets::ServerBuilder;

    /// What a busy machine may add.
    const SLACK: Duration = Duration::from_secs(8);

    #[tokio::test]
    async fn a_server_that_reads_nothing_keeps_no_client_beyond_its_patience() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let manner = Manner {
            target: Target::default(),
            words: Words::new(vec![b'a'; limits::MESSAGE_MAX]),
            expect: Expect::Echo,
            patience: Duration::from_millis(300),
            start_timeout: SLACK,
            grace: SLACK,
            gives_up: true,
        };
        let (over, is_over) = watch::channel(false);
        let (news, _) = watch::channel(vec![0; 1]);
        let client = live(&manner, port, 0, is_over, &news);
        let server = async {
            let mut held = Vec::new();
            while held.len() < 2 {
                let (stream, _) = listener.accept().await.unwrap();
                held.push(ServerBuilder::new().accept(stream).await.unwrap());
            }
            over.send_replace(true); // it has come again
            std::future::pending::<()>().await;
        };
        let life = tokio::select! {
            life = timeout(SLACK, client) => life.unwrap(),
            () = server => unreachable!(),
        };
        let ended = life.connections[0].ended.as_ref().map(|(_, how)| how);
        assert_eq!(ended, Some(&Ending::TimedOut(Reached::Open)));
    }
}
