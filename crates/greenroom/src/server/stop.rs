//! How the house ends: signals, draining, the order of things.
//!
//! 1. Whoever is held is refused with 503, at once; so is whoever still comes.
//! 2. The relayed are closed as `[drain]` says, within the grace (in `drains`).
//! 3. The child gets TERM, its grace, and KILL (in `child`).
//! 4. Whoever is left, as it has not answered its Close, is cut, and has its line in the ledger.
//!
//! HUP of a house without a child is a reload where there is a file to read, unless a terminal is gone.
//! Ctrl-C and Ctrl-\ at a terminal that the child has are INT and QUIT, told by its
//! warden. A second signal hurries: who is left is closed at once, each still with its code, and the child gets its TERM. A
//! third ends: what is left is cut, and the child killed. Where no client is left, the second ends the child.

use std::io;
use std::time::Duration;

use greenroom_core::drain::Pace;
use greenroom_core::event::State;
use greenroom_core::limits::{HURRY_MAX, QUICK_STOP};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::House;
use crate::admin::by::By;
use crate::clock;
use crate::config::Manner;
use crate::drains::Stop;
use crate::driver::Message;
use crate::relay::Drain;
use crate::supervise::{self, Key};
use crate::telemetry::Event;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Stop, within the grace or at once.
    Stop { name: &'static str, graceful: bool },
    /// It is the child's.
    Forward(supervise::Signal),
}

/// The signals that greenroom answers to.
pub(super) struct Signals {
    term: Signal,
    int: Signal,
    quit: Signal,
    hup: Signal,
    usr1: Signal,
    usr2: Signal,
    winch: Signal,
    /// Keys at the terminal that the child has: it gets their signals, and not we.
    keys: Option<mpsc::Receiver<Key>>,
}

impl Signals {
    pub(super) fn subscribe(keys: Option<mpsc::Receiver<Key>>) -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
            winch: signal(SignalKind::window_change())?,
            keys,
        })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.term.recv() => Asked::Stop { name: "TERM", graceful: true },
            _ = self.int.recv() => Asked::Stop { name: "INT", graceful: true },
            key = pressed(&mut self.keys) => match key {
                Key::Interrupt => Asked::Stop { name: "Ctrl-C", graceful: true },
                Key::Quit => Asked::Stop { name: "Ctrl-\\", graceful: false },
            },
            _ = self.quit.recv() => Asked::Stop { name: "QUIT", graceful: false },
            _ = self.hup.recv() => Asked::Forward(supervise::Signal::HUP),
            _ = self.usr1.recv() => Asked::Forward(supervise::Signal::USR1),
            _ = self.usr2.recv() => Asked::Forward(supervise::Signal::USR2),
            _ = self.winch.recv() => Asked::Forward(supervise::Signal::WINCH),
        }
    }

    /// Waits until somebody asks once more to stop; with what.
    pub(super) async fn again(&mut self) -> &'static str {
        loop {
            if let Asked::Stop { name, .. } = self.next().await {
                return name;
            }
        }
    }
}

/// The next key, if there is a terminal that could send one.
async fn pressed(keys: &mut Option<mpsc::Receiver<Key>>) -> Key {
    if let Some(keys) = keys
        && let Some(key) = keys.recv().await
    {
        return key;
    }
    std::future::pending().await
}

/// Without a child: ends when it is told to.
pub(super) async fn serve(house: &House) -> u8 {
    let mut signals = match Signals::subscribe(None) {
        Ok(signals) => signals,
        Err(error) => {
            let code = super::CANNOT_LISTEN;
            house.log.fatal(code, format!("cannot listen for signals: {error}"));
            return code;
        }
    };
    house.outer.ready(); // clients may come, and a signal that follows on this is heard
    let terminals = Terminals::at_hand();
    loop {
        match signals.next().await {
            Asked::Stop { name, graceful } => {
                empty(house, &mut signals, name, graceful).await;
                return 0;
            }
            Asked::Forward(supervise::Signal::HUP)
                if house.estate.asked().reloads.has_file() && !terminals.are_gone() =>
            {
                house.estate.asked().reloads.tell("signal", Some(By::Signal("HUP")));
            }
            Asked::Forward(supervise::Signal::HUP) => {
                empty(house, &mut signals, "HUP", true).await; // the terminal is gone
                return 0;
            }
            Asked::Forward(_) => {} // for a child, and there is none
        }
    }
}

/// Which of the standard streams are terminals: HUP means that they are gone, where they are, and else `reload`.
struct Terminals([bool; 3]);

impl Terminals {
    fn at_hand() -> Self {
        Self(Self::there())
    }

    /// A terminal that was hung up answers nothing any more.
    fn are_gone(&self) -> bool {
        self.0 != Self::there()
    }

    fn there() -> [bool; 3] {
        use std::io::IsTerminal as _;
        [
            io::stdin().is_terminal(),
            io::stdout().is_terminal(),
            io::stderr().is_terminal(),
        ]
    }
}

/// How the house was emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Emptied {
    /// By plan, or after a second signal.
    Closed,
    /// A third signal cut off who was left: nothing is waited for any more.
    Cut,
}

/// Empties the house of clients: steps 1 and 2.
pub(super) async fn empty(house: &House, signals: &mut Signals, name: &'static str, graceful: bool) -> Emptied {
    house.outer.stopping();
    say(house, name);
    let config = house.estate.config();
    let grace = if graceful { config.grace } else { Duration::ZERO };
    let mut manner = config.drain.stop.clone();
    if !graceful {
        manner.pace = Pace::Window(Duration::ZERO);
    }
    let hurry = begin(house, &manner, grace);
    // Behind the plan: who is held with a 101 is closed by it too.
    for station in house.estate.all_stations() {
        station.backend.inbox.tell(Message::Drain);
    }
    house.drains.end_all(); // behind that, so that no gate that one of them held opens once more
    tokio::select! {
        biased; // a second word is for what takes time: an empty house leaves it to the child's grace
        () = emptied(house) => return Emptied::Closed,
        () = tokio::time::sleep(grace.max(QUICK_STOP)) => return Emptied::Closed,
        name = signals.again() => say(house, name),
    }
    hurry.send_replace(true);
    house.drain.send_replace(Some(Drain {
        spread: Duration::ZERO,
        deadline: clock::now(),
        ends: clock::now() + HURRY_MAX,
        code: manner.code,
    }));
    tokio::select! {
        biased;
        () = emptied(house) => Emptied::Closed,
        () = tokio::time::sleep(HURRY_MAX) => Emptied::Closed,
        _ = signals.again() => Emptied::Cut,
    }
}

/// Cuts who is left, as all time is over: clients that have not answered their Close, or have said nothing at all. Each
/// is told of and counted, so that what was accepted is what was closed.
pub(super) async fn cut(house: &House) {
    house.registry.set_over();
    house.estate.threads().end().await;
}

/// Says that it stops, and who is there.
fn say(house: &House, signal: &'static str) {
    let count = |state| usize::try_from(house.registry.count(state)).unwrap_or(usize::MAX);
    house.log.say(Event::Stopping {
        signal,
        held: count(State::Held) + count(State::Dialing),
        relayed: count(State::Relaying),
    });
}

/// Begins to close the relayed, and says that greenroom stops; what is returned hurries it.
fn begin(house: &House, manner: &Manner, grace: Duration) -> watch::Sender<bool> {
    let now = clock::now();
    let most = grace.saturating_sub(QUICK_STOP); // the last Close is written before its client is cut
    let longest = match manner.pace {
        Pace::Window(window) | Pace::Spread(window) => window.min(most),
        Pace::Rate(_) => grace.saturating_sub(grace / 4), // the last Closes have time to be answered
    };
    house.drain.send_replace(Some(Drain {
        spread: longest,
        deadline: now + longest,
        ends: now + grace.max(QUICK_STOP),
        code: manner.code,
    }));
    let (hurry, hurries) = watch::channel(false);
    let stop = Stop::new(&house.registry, manner, (house.seed, now + longest), hurries);
    tokio::spawn(stop.run()); // until the process ends
    hurry
}

/// Waits until no client is left but those that have said nothing yet.
async fn emptied(house: &House) {
    let registry = &house.registry;
    loop {
        let changed = registry.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if registry.is_idle() {
            return;
        }
        changed.await;
    }
}
