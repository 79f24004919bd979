//! The child of `greenroom run`: its lives, its words, its end.

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use greenroom_core::backend::Input;
use greenroom_core::backoff::{Backoff, GiveUp, Next};
use greenroom_core::event::Generation;
use greenroom_core::limits::{ELSEWHERE_EVERY, KEYS_MAX, NOTIFY_PER_SECOND, RESTART_DELAY};
use tokio::sync::{mpsc, watch};

use super::prober::Prober;
use super::stop::{self, Asked, Signals};
use super::{Child, House};
use crate::clock;
use crate::config::{Address, Ready};
use crate::driver::{Inbox, Message};
use crate::probe::{Elsewhere, Of, elsewhere};
use crate::supervise::{self, ChildId, Command, End, Happening, Key, Supervisor, What, fill_port};
use crate::telemetry::{Event, Log};

/// The only child there is.
const CHILD: ChildId = ChildId(0);

/// How one life of the child ended.
struct Death {
    generation: Generation,
    end: End,
    interrupted: bool,
}

/// How the child's story ends.
enum Fate {
    /// greenroom is to stop, on this signal.
    Stop { name: &'static str, graceful: bool },
    /// The child ended for good, with this code.
    Ended(u8),
}

/// Runs the child until it ends for good, or greenroom is told to stop. Gives the exit code.
pub(super) async fn live(house: &House, child: &Child, wants: watch::Receiver<bool>) -> u8 {
    let pid = Arc::new(AtomicU32::new(0));
    let generation = Arc::new(AtomicU64::new(0));
    let (deaths, mut died) = mpsc::unbounded_channel(); // one message for each life
    let (keys, pressed) = mpsc::channel(KEYS_MAX);
    let tell = teller(Teller {
        inbox: Arc::clone(&house.front.inbox),
        log: house.log.clone(),
        pid: Arc::clone(&pid),
        deaths,
        keys,
    });
    let started = Signals::subscribe(Some(pressed))
        .map_err(|error| error.to_string())
        .and_then(|signals| {
            let commands = vec![command(house, child)];
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
    let prober = Prober {
        ready: house.settings.ready.clone(),
        address: house.backend.clone(),
        of: Of::Children(Arc::clone(&pid)),
        generation: Arc::clone(&generation),
        inbox: Arc::clone(&house.front.inbox),
        log: house.log.clone(),
    };
    tokio::spawn(prober.run(wants.clone()));
    tokio::spawn(watch_elsewhere(
        house.backend.clone(),
        house.settings.backend.is_none(),
        Arc::clone(&pid),
        wants,
        house.log.clone(),
    ));

    let fate = lives(house, child, &supervisor, &mut signals, &mut died, &generation).await;
    let (name, graceful, own) = match fate {
        Fate::Stop { name, graceful } => (name, graceful, None),
        Fate::Ended(code) => ("the child's end", true, Some(code)),
    };
    stop::empty(house, &mut signals, name, graceful).await;
    let grace = if graceful { house.settings.grace } else { Duration::ZERO };
    let ended = tokio::select! {
        ended = supervisor.terminate_all(grace) => ended,
        () = signals.again() => supervisor.terminate_all(Duration::ZERO).await,
    };
    own.unwrap_or_else(|| u8::from(ended.killed))
}

/// One life after the other.
async fn lives(
    house: &House,
    child: &Child,
    supervisor: &Supervisor,
    signals: &mut Signals,
    died: &mut mpsc::UnboundedReceiver<Death>,
    current: &AtomicU64,
) -> Fate {
    let mut backoff = Backoff::new(child.restart);
    let mut number = 0;
    loop {
        number += 1;
        let generation = Generation(number);
        current.store(number, Ordering::SeqCst);
        // Told before it is started, so that its first word finds its generation known.
        house
            .front
            .inbox
            .tell(Message::Backend(Input::Started(generation), "start"));
        let code = match supervisor.spawn(CHILD, generation).await {
            Err(error) => {
                if number == 1 {
                    house.log.fatal(error.exit_code(), error.to_string());
                    house.front.inbox.tell(Message::Backend(
                        Input::Exited {
                            generation,
                            restarts: false,
                        },
                        "exit",
                    ));
                    return Fate::Ended(error.exit_code());
                }
                house.log.warn(error.to_string()); // it is tried again
                error.exit_code()
            }
            Ok(_) => match life(supervisor, signals, died, generation).await {
                Ok(death) if death.interrupted => {
                    return Fate::Stop {
                        name: "the terminal",
                        graceful: true,
                    };
                }
                Ok(death) => death.end.exit_code(),
                Err(fate) => return fate,
            },
        };
        if let Some(fate) = between(house, supervisor, signals, generation, code, &mut backoff).await {
            return fate;
        }
    }
}

/// After one life: tells its end, and waits until the next may begin, if there is one.
async fn between(
    house: &House,
    supervisor: &Supervisor,
    signals: &mut Signals,
    generation: Generation,
    code: u8,
    backoff: &mut Backoff,
) -> Option<Fate> {
    let next = backoff.ended(clock::now(), code == 0);
    let restart_ms = match next {
        Next::Restart { at } => u64::try_from(at.since(clock::now()).as_millis()).ok(),
        Next::GiveUp(_) => None,
    };
    let input = Input::Exited {
        generation,
        restarts: restart_ms.is_some(),
    };
    house.front.inbox.tell(Message::Backend(input, "exit"));
    house.log.say(Event::Exited {
        generation: generation.0,
        code: code.into(),
        restart_ms,
    });
    match next {
        Next::GiveUp(reason) => {
            let message = format!("CMD is not started again: {reason}");
            match reason {
                GiveUp::TooOften => house.log.fatal(code, message),
                GiveUp::Never | GiveUp::Succeeded => house.log.warn(message),
            }
            Some(Fate::Ended(code))
        }
        Next::Restart { at } => {
            // What it left behind may hold its port: it is ended before the next life begins.
            let pause = async {
                supervisor.terminate(CHILD, RESTART_DELAY).await;
                clock::until(Some(at)).await;
            };
            tokio::select! {
                () = pause => None,
                fate = asked_to_stop(supervisor, signals) => Some(fate),
            }
        }
    }
}

/// Waits for the end of one life, handing on the child's signals meanwhile.
async fn life(
    supervisor: &Supervisor,
    signals: &mut Signals,
    died: &mut mpsc::UnboundedReceiver<Death>,
    generation: Generation,
) -> Result<Death, Fate> {
    loop {
        tokio::select! {
            biased; // of a key and the end that it brought about, the key is the cause
            fate = asked_to_stop(supervisor, signals) => return Err(fate),
            death = died.recv() => match death {
                Some(death) if death.generation == generation => return Ok(death),
                Some(_) => {}
                None => return Err(Fate::Ended(1)), // the supervisor's thread is gone: nothing can be kept
            },
        }
    }
}

async fn asked_to_stop(supervisor: &Supervisor, signals: &mut Signals) -> Fate {
    loop {
        match signals.next().await {
            Asked::Stop { name, graceful } => return Fate::Stop { name, graceful },
            Asked::Forward(signal) => supervisor.forward(CHILD, signal),
        }
    }
}

/// Where the supervisor's happenings go.
struct Teller {
    inbox: Arc<Inbox>,
    log: Log,
    pid: Arc<AtomicU32>,
    deaths: mpsc::UnboundedSender<Death>,
    keys: mpsc::Sender<Key>,
}

/// What the supervisor's happenings mean to the house. READY goes to the owner
/// task from the very place where it was received.
fn teller(to: Teller) -> impl Fn(Happening) + Send + Sync + 'static {
    move |Happening { generation, what, .. }| match what {
        What::Started { pid } => {
            let pid = u32::try_from(pid).unwrap_or(0);
            to.pid.store(pid, Ordering::SeqCst);
            let generation = generation.0;
            to.log.say(Event::Started { pid, generation });
        }
        What::Notified { message, barrier, .. } => {
            to.notified(generation, message);
            drop(barrier); // all that came before it is told
        }
        What::NotifyIgnored { pid, uid, why } => {
            to.log.warn(format!(
                "ignored a notification from process {pid} of user {uid}: {why}"
            ));
        }
        What::NotifyFlooded => {
            to.log.warn(format!(
                "more than {NOTIFY_PER_SECOND} notifications came within a second: the others wait until it is over"
            ));
        }
        What::NotifyUnavailable { error } => {
            to.log
                .warn(format!("the backend is started without NOTIFY_SOCKET: {error}"));
        }
        What::Key(key) => {
            let _ = to.keys.try_send(key); // full: enough is known
        }
        What::Stopped { .. } | What::Continued => {}
        What::Ended { end, interrupted } => {
            to.pid.store(0, Ordering::SeqCst);
            let _ = to.deaths.send(Death {
                generation,
                end,
                interrupted,
            }); // nobody listens: the house is ending
        }
    }
}

impl Teller {
    fn notified(&self, generation: Generation, message: supervise::Message) {
        let phase = |phase: &str, status| {
            let phase = phase.into();
            self.log.say(Event::Phase { phase, status });
        };
        if message.ready {
            self.inbox
                .tell(Message::Backend(Input::NotifiedReady(generation), "notify"));
        } else if message.stopping || message.reloading {
            self.inbox
                .tell(Message::Backend(Input::NotifiedStopping(generation), "notify"));
            let word = if message.stopping { "stopping" } else { "reloading" };
            phase(word, message.status.clone());
        }
        for name in message.phases {
            phase(&name, None);
        }
        if message.status.is_some() {
            phase("status", message.status);
        }
    }
}

/// The command with its port, its environment and the limits that we were given.
fn command(house: &House, child: &Child) -> Command {
    let mut words = child.command.clone();
    let mut env = Vec::new();
    if let (None, Address::Tcp { port, .. }) = (&house.settings.backend, &house.backend) {
        words = fill_port(&words, *port);
        env.push((OsString::from("PORT"), OsString::from(port.to_string())));
    }
    let mut words = words.into_iter();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args = words.collect();
    command.env = env;
    command.nofile = house.nofile;
    command.notify = matches!(house.settings.ready, Ready::Auto | Ready::Notify);
    command
}

/// Says so when the child listens somewhere else than where it is waited for.
async fn watch_elsewhere(
    expected: Address,
    chosen: bool,
    pid: Arc<AtomicU32>,
    mut wants: watch::Receiver<bool>,
    log: Log,
) {
    let mut decider = Elsewhere::new(&expected, chosen);
    loop {
        if wants.wait_for(|wanted| *wanted).await.is_err() {
            return;
        }
        let child = pid.load(Ordering::SeqCst);
        if child != 0 {
            let places = elsewhere(child).await;
            if let Some(sentence) = decider.observe(clock::now(), !*wants.borrow(), &places) {
                log.warn(sentence);
                return; // once is enough
            }
        }
        tokio::time::sleep(ELSEWHERE_EVERY).await;
    }
}
