//! The children of `greenroom run`: their lives, their words, their end.
//!
//! One task for each child lives one life after the other; this module's own
//! loop hears the signals. What a child ends with for good is greenroom's exit
//! code, once no child is left and no backend that something else started: until
//! then the others are served. A CMD that cannot be executed at all ends
//! greenroom at once, as somebody has to mend that first.

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use greenroom_core::backend::Input;
use greenroom_core::backoff::{Backoff, GiveUp, Next};
use greenroom_core::event::Generation;
use greenroom_core::limits::{KEYS_MAX, NOTIFY_PER_SECOND, OUTPUT_FLUSH, PORT_DOUBT, REASON_MAX, RESTART_DELAY};
use greenroom_core::phase::{self, Reason};
use greenroom_core::readiness;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::House;
use super::lives::{Lives, SeenLines};
use super::places::Places;
use super::station::Station;
use super::stop::{self, Asked, Emptied, Signals};
use crate::clock;
use crate::config::{self, Process, Ready};
use crate::driver::{EndLife, Inbox, Message};
use crate::supervise::{
    self, ChildId, Command, End, Happening, Key, ReservedPort, Signal, Supervisor, What, fill_port,
};
use crate::telemetry::{Event, Log};

/// What to do where our keeping of the port may be in CMD's way.
const PORT_HINT: &str = "; if CMD said that its address is in use, it binds without SO_REUSEADDR: give it a port of its own, with --backend or as `address` in the file";

/// How one life of a child ended.
struct Death {
    generation: Generation,
    end: End,
    interrupted: bool,
}

/// How a child's story ends.
enum Last {
    /// It ended for good, with this code.
    Ended(u8),
    /// It could not be executed at all.
    NeverStarted(u8),
    /// The user interrupted it at its terminal.
    Interrupted,
}

/// How the house's story ends.
enum Fate {
    /// greenroom is to stop, on this signal.
    Stop { name: &'static str, graceful: bool },
    /// Nothing is left to serve; the code.
    Ended(u8),
}

/// Runs the children until all have ended for good, or greenroom is told to stop. Gives the exit code.
pub(super) async fn live(house: &House) -> u8 {
    let (keys, pressed) = mpsc::channel(KEYS_MAX);
    let parts: Vec<(&Station, &Process)> = house
        .stations
        .iter()
        .filter_map(|station| station.process().map(|process| (station, process)))
        .collect();
    let (tellers, deaths): (Vec<_>, Vec<_>) = parts.iter().map(|(station, _)| Teller::new(station, &keys)).unzip();
    let commands = parts
        .iter()
        .map(|&(station, process)| command(house, station, process))
        .collect();
    let tell = move |happening: Happening| {
        if let Some(teller) = tellers.get(happening.child.0) {
            teller.tell(happening.generation, happening.what);
        }
    };
    let started = Signals::subscribe(Some(pressed))
        .map_err(|error| error.to_string())
        .and_then(|signals| {
            let supervisor = Supervisor::start(commands, tell).map_err(|error| error.to_string())?;
            Ok((signals, supervisor))
        });
    let (mut signals, supervisor) = match started {
        Ok(both) => both,
        Err(error) => {
            house.log.fatal(super::CANNOT_LISTEN, error);
            return super::CANNOT_LISTEN;
        }
    };
    let mut lives = JoinSet::new();
    for ((id, &(station, process)), died) in supervisor.children().zip(&parts).zip(deaths) {
        let life = Life {
            id,
            supervisor: supervisor.clone(),
            inbox: Arc::clone(&station.backend.inbox),
            log: station.log.clone(),
            lives: Arc::clone(&station.lives),
            backoff: Backoff::new(process.restart),
            grace: house.config.grace,
            is_only: house.stations.len() == 1,
            reserved: station.reserved.clone(),
            died,
            end: station.wants.end.clone(),
        };
        lives.spawn(life.live());
        Places::watch(station);
    }
    let fate = until_fate(house, &supervisor, &mut signals, &mut lives).await;
    lives.abort_all();
    let (name, graceful, own) = match fate {
        Fate::Stop { name, graceful } => (name, graceful, None),
        Fate::Ended(code) => ("the child's end", true, Some(code)),
    };
    let emptied = stop::empty(house, &mut signals, name, graceful).await;
    let grace = if graceful && emptied == Emptied::Closed {
        house.config.grace
    } else {
        Duration::ZERO
    };
    let ended = tokio::select! {
        ended = supervisor.terminate_all(grace) => ended,
        _ = signals.again() => supervisor.terminate_all(Duration::ZERO).await,
    };
    supervisor.flush_output(OUTPUT_FLUSH).await; // who does not read by now does not get the rest
    own.unwrap_or_else(|| u8::from(ended.killed))
}

/// Hears signals and ends, until one of them decides.
async fn until_fate(house: &House, supervisor: &Supervisor, signals: &mut Signals, lives: &mut JoinSet<Last>) -> Fate {
    let serves_others = house.stations.iter().any(|station| station.process().is_none());
    let mut code = 0;
    loop {
        tokio::select! {
            biased; // of a key and the end that it brought about, the key is the cause
            asked = signals.next() => match asked {
                Asked::Stop { name, graceful } => return Fate::Stop { name, graceful },
                Asked::Forward(signal) => {
                    for child in supervisor.children() {
                        supervisor.forward(child, signal);
                    }
                }
            },
            Some(last) = lives.join_next() => match last {
                Ok(Last::Interrupted) => return Fate::Stop { name: "the terminal", graceful: true },
                Ok(Last::NeverStarted(code)) => return Fate::Ended(code),
                Ok(Last::Ended(ended)) => {
                    code = if code == 0 { ended } else { code };
                    if lives.is_empty() && !serves_others {
                        return Fate::Ended(code);
                    }
                }
                Err(_) => return Fate::Ended(super::FAULT), // a fault of greenroom itself
            },
        }
    }
}

/// One child, life after life.
struct Life {
    id: ChildId,
    supervisor: Supervisor,
    inbox: Arc<Inbox>,
    log: Log,
    lives: Arc<Lives>,
    backoff: Backoff,
    /// Between the first signal and KILL.
    grace: Duration,
    /// There is no other backend: with it greenroom ends.
    is_only: bool,
    /// Its port, where we have chosen it.
    reserved: Option<Arc<ReservedPort>>,
    died: mpsc::UnboundedReceiver<Death>,
    /// Says which life is to be ended, as its start has failed or it has gone silent.
    end: watch::Receiver<Option<EndLife>>,
}

impl Life {
    async fn live(mut self) -> Last {
        let mut number = 0;
        loop {
            number += 1;
            let generation = Generation(number);
            // Told before it is started, so that its first word finds its generation known; and before a look can be of it.
            self.inbox.tell(Message::signal(Input::Started(generation), "start"));
            self.lives.begin(generation);
            let mut failed = None;
            let mut signal = None;
            let code = match self.supervisor.spawn(self.id, generation).await {
                Err(error) => {
                    if number == 1 {
                        self.log.fatal(error.exit_code(), error.to_string());
                        let code = error.exit_code();
                        let exited = Input::Exited {
                            generation,
                            restarts: false,
                            code,
                        };
                        self.inbox.tell(Message::signal(exited, "exit"));
                        return Last::NeverStarted(code);
                    }
                    self.log.warn(error.to_string()); // it is tried again
                    error.exit_code()
                }
                Ok(_) => match self.death(generation, &mut failed).await {
                    Some(death) if death.interrupted => return Last::Interrupted,
                    Some(death) => {
                        if let End::Signalled(number) = death.end {
                            signal = Some(number);
                        }
                        death.end.exit_code()
                    }
                    None => return Last::Ended(1), // the supervisor's thread is gone: nothing can be kept
                },
            };
            let is_failure = code != 0 || failed.is_some();
            if !self.between(generation, (code, signal), failed).await {
                return Last::Ended(if is_failure { code.max(1) } else { 0 });
            }
        }
    }

    /// Waits for the end of one life, and brings it about if it has failed: then `failed` says why.
    async fn death(&mut self, generation: Generation, failed: &mut Option<Box<str>>) -> Option<Death> {
        loop {
            tokio::select! {
                biased; // of a failure and an end, the failure came first
                reason = failure(&mut self.end, generation), if failed.is_none() => {
                    let signal = match reason {
                        Reason::Watchdog(_) => Signal::ABORT, // as systemd: whoever hangs may leave a core
                        Reason::Overran(_) | Reason::Errno(_) | Reason::Exited(_) | Reason::Said(_) => Signal::TERM,
                    };
                    self.log.warn(format!("CMD is ended, as it has failed: {reason}"));
                    self.supervisor.fail(self.id, generation, signal, self.grace);
                    *failed = Some(reason.to_string().into());
                }
                death = self.died.recv() => {
                    let death = death?;
                    if death.generation == generation {
                        return Some(death);
                    }
                }
            }
        }
    }

    /// After one life: tells its end, and waits until the next may begin, if there is one.
    async fn between(
        &mut self,
        generation: Generation,
        (code, signal): (u8, Option<i32>),
        failed: Option<Box<str>>,
    ) -> bool {
        let next = self.backoff.ended(clock::now(), code == 0 && failed.is_none());
        let restart_ms = match next {
            Next::Restart { at } => u64::try_from(at.since(clock::now()).as_millis()).ok(),
            Next::GiveUp(_) => None,
        };
        let restarts = restart_ms.is_some();
        let exited = Input::Exited {
            generation,
            restarts,
            code,
        };
        self.inbox.tell(Message::signal(exited, "exit"));
        let by_itself = code != 0 && signal.is_none() && failed.is_none();
        self.log.say(Event::Exited {
            generation: generation.0,
            code: code.into(),
            signal,
            reason: failed,
            restart_ms,
        });
        match next {
            Next::GiveUp(reason) => {
                let is_possible = by_itself && self.is_port_in_the_way();
                let hint = if is_possible { PORT_HINT } else { "" };
                let message = format!("CMD is not started again: {reason}{hint}");
                match reason {
                    GiveUp::TooOften if self.is_only => self.log.fatal(code, message),
                    GiveUp::TooOften | GiveUp::Never | GiveUp::Succeeded => self.log.warn(message),
                }
                false
            }
            Next::Restart { at } => {
                // What it left behind may hold its port: it is ended before the next life begins.
                self.supervisor.terminate(self.id, RESTART_DELAY).await;
                self.clear_the_way();
                clock::until(Some(at)).await;
                true
            }
        }
    }

    /// It ended soon, without ever having listened, at a port that we keep: a server that binds without
    /// SO_REUSEADDR cannot have it.
    fn is_port_in_the_way(&self) -> bool {
        let is_kept = self.reserved.as_ref().is_some_and(|reserved| reserved.is_kept());
        is_kept && self.lives.never_listened(PORT_DOUBT)
    }

    fn clear_the_way(&self) {
        if self.is_port_in_the_way() && self.reserved.as_ref().is_some_and(|reserved| reserved.give_up()) {
            self.log.warn(
                "CMD ended without having listened: greenroom keeps its port no longer, as a server that binds without SO_REUSEADDR cannot take a port that is kept",
            );
        }
    }
}

/// Waits until this life is to be ended, and says why.
async fn failure(end: &mut watch::Receiver<Option<EndLife>>, generation: Generation) -> Reason {
    let is_meant = |end: &Option<EndLife>| end.as_ref().is_some_and(|end| end.generation == generation);
    if let Ok(end) = end.wait_for(is_meant).await
        && let Some(end) = &*end
    {
        return end.reason.clone();
    }
    std::future::pending().await // the owner task is gone: greenroom ends
}

/// Where the happenings of one child go. READY goes to the owner task from the
/// very place where it was received.
struct Teller {
    inbox: Arc<Inbox>,
    log: Log,
    pid: Arc<AtomicU32>,
    lives: Arc<Lives>,
    deaths: mpsc::UnboundedSender<Death>,
    lines: Arc<SeenLines>,
    /// Whether READY=1 is what makes it ready. Many servers say it to whoever listens; where something else was
    /// configured to decide, that decides.
    awaits_ready: bool,
    keys: mpsc::Sender<Key>,
}

impl Teller {
    fn new(station: &Station, keys: &mpsc::Sender<Key>) -> (Self, mpsc::UnboundedReceiver<Death>) {
        let (deaths, died) = mpsc::unbounded_channel(); // one message for each life
        let teller = Self {
            inbox: Arc::clone(&station.backend.inbox),
            log: station.log.clone(),
            pid: Arc::clone(&station.pid),
            lives: Arc::clone(&station.lives),
            deaths,
            lines: Arc::clone(&station.lines),
            awaits_ready: matches!(station.settings().ready, Ready::Auto | Ready::Notify),
            keys: keys.clone(),
        };
        (teller, died)
    }

    fn tell(&self, generation: Generation, what: What) {
        match what {
            What::Started { pid } => {
                let pid = u32::try_from(pid).unwrap_or(0);
                self.pid.store(pid, Ordering::SeqCst);
                self.lines.begin(generation);
                let generation = generation.0;
                self.log.say(Event::Started { pid, generation });
            }
            What::Notified { message, barrier, .. } => {
                self.notified(generation, message);
                drop(barrier); // all that came before it is told
            }
            What::NotifyIgnored { pid, uid, why } => {
                self.log.warn(format!(
                    "ignored a notification from process {pid} of user {uid}: {why}"
                ));
            }
            What::NotifyFlooded => {
                self.log.warn(format!(
                    "more than {NOTIFY_PER_SECOND} notifications came within a second: the others wait until it is over"
                ));
            }
            What::NotifyUnavailable { error } => {
                self.log
                    .warn(format!("the backend is started without NOTIFY_SOCKET: {error}"));
            }
            What::Watchdog { silence } => {
                let failed = readiness::Input::Failed(generation, Reason::Watchdog(silence));
                self.inbox.tell(Message::Backend(failed, "watchdog"));
            }
            What::Line { pattern, .. } => self.lines.see(generation, pattern),
            What::Key(key) => {
                let _ = self.keys.try_send(key); // full: enough is known
            }
            What::Stopped { .. } | What::Continued => {}
            What::Ended { end, interrupted } => {
                self.pid.store(0, Ordering::SeqCst);
                self.lines.end(generation);
                let _ = self.deaths.send(Death {
                    generation,
                    end,
                    interrupted,
                }); // nobody listens: the house is ending
            }
        }
    }

    fn notified(&self, generation: Generation, message: supervise::Message) {
        let said = |phase: &str, status| {
            let phase = phase.into();
            self.log.say(Event::Phase { phase, status });
        };
        if message.ready {
            self.lives.says_ready(generation);
            if self.awaits_ready {
                self.inbox
                    .tell(Message::signal(Input::NotifiedReady(generation), "notify"));
            }
        } else if message.stopping || message.reloading {
            self.inbox
                .tell(Message::signal(Input::NotifiedStopping(generation), "notify"));
            let word = if message.stopping { "stopping" } else { "reloading" };
            said(word, message.status.clone());
            self.inbox.tell(Message::Said(word.into()));
        }
        for name in message.phases {
            let input = match (name.as_str(), &message.reason) {
                ("failed", Some(reason)) => {
                    readiness::Input::Failed(generation, Reason::Said(reason.chars().take(REASON_MAX).collect()))
                }
                _ => readiness::Input::Phase(generation, name.into()),
            };
            self.inbox.tell(Message::Backend(input, "notify"));
        }
        if let Some(errno) = message.errno {
            let failed = readiness::Input::Failed(generation, Reason::Errno(errno));
            self.inbox.tell(Message::Backend(failed, "notify"));
        }
        if let Some(by) = message.extend_timeout {
            let extend = readiness::Input::Extend(generation, by);
            self.inbox.tell(Message::Backend(extend, "notify"));
        }
        if let Some(words) = message.status {
            said("status", Some(words.clone()));
            self.inbox.tell(Message::Said(words));
        }
    }
}

/// The command with its port, its environment and the limits that we were given.
fn command(house: &House, station: &Station, process: &Process) -> Command {
    let mut words = process.command.clone();
    let mut env = Vec::new();
    if let Some(port) = station.chosen_port() {
        words = fill_port(&words, port);
        env.push((OsString::from("PORT"), OsString::from(port.to_string())));
    }
    if let Some(admin) = &house.admin {
        // So that `greenroom phase` within it speaks to us, and of itself.
        env.push((OsString::from("GREENROOM_ADMIN"), admin.path().into()));
        env.push((
            OsString::from("GREENROOM_BACKEND"),
            station.backend.name.as_str().into(),
        ));
    }
    env.extend(process.env.iter().cloned());
    let mut words = words.into_iter();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args = words.collect();
    command.env = env;
    command.nofile = house.nofile;
    command.watchdog = process.watchdog;
    command.notify = is_listened_to(station.settings());
    command.watch_output = station.log_lines().map(|line| line.0.clone()).collect();
    command.cwd.clone_from(&process.cwd);
    command.user.clone_from(&process.user);
    command.group.clone_from(&process.group);
    command
}

/// Whether what the child says of itself counts: its READY where that is awaited, its phases where
/// they are its own or have a time, its signs of life.
fn is_listened_to(settings: &config::Backend) -> bool {
    let speaks = matches!(settings.ready, Ready::Auto | Ready::Notify);
    let has_watchdog = settings
        .process
        .as_ref()
        .is_some_and(|process| process.watchdog.is_some());
    speaks || has_watchdog || settings.phases != phase::Rule::defaults()
}
