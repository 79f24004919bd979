//! `greenroom demo`: the same server, started slowly, and the same clients, who
//! come too early; once without greenroom and once behind it.
//!
//! ```text
//! without:  clients ───────────────▶ slow backend
//! with:     clients ──▶ greenroom ──▶ slow backend
//! ```
//!
//! Everything runs on loopback in processes of its own, is drawn as it happens
//! ([`screen`]), and is judged only from what was measured ([`report`]). It ends
//! by itself; Ctrl-C ends it with all its processes ([`launch`]).

pub mod launch;
pub mod report;
pub mod screen;

use std::io::{self, IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::audit::record::ClientRecord;
use crate::backend::{BackendProcess, SlowBackend, SlowListen, bind};
use crate::clients::{Plan, arrive, is_in};
use crate::journal::Record;
use crate::{clock, limits};
use launch::{Launch, LaunchError, Running};
use report::{Act, Report};
use screen::Screen;

/// How the story is told.
pub struct Options {
    /// How the processes are started.
    pub launch: Launch,
    /// How the backend starts.
    pub backend: SlowBackend,
    /// How many clients come.
    pub clients: u32,
    /// Over which span, from the start of the backend.
    pub over: Duration,
    /// Chooses the moments of their arrival.
    pub seed: u64,
    /// Whether lines may be redrawn.
    pub terminal: bool,
    /// Whether colours may be used.
    pub colour: bool,
    /// Where it is told.
    pub out: Box<dyn Write + Send>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("launch", &self.launch)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// The demo as users see it: on standard output, live and in colour if that
    /// is a terminal (and `NO_COLOR` is not set).
    #[must_use]
    pub fn new(launch: Launch) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let terminal = io::stdout().is_terminal() && !dumb;
        Self {
            launch,
            backend: demo_backend(),
            clients: limits::DEMO_CLIENTS,
            over: limits::DEMO_OVER,
            seed: 1,
            terminal,
            colour: terminal && !set("NO_COLOR"),
            out: Box::new(io::stdout()),
        }
    }
}

/// Two seconds of start-up. For the first half connections are refused, then
/// the server accepts too early, as many do: 101, and 1011 right after.
#[must_use]
pub fn demo_backend() -> SlowBackend {
    let ms = Duration::from_millis;
    let phases = [
        ("init", ms(200)),
        ("dependencies", ms(300)),
        ("database", ms(600)),
        ("cache", ms(400)),
        ("services", ms(500)),
    ];
    SlowBackend::new(
        SlowListen::Close1011 {
            listen_after: ms(1_100),
            close_after: ms(5),
        },
        &phases,
        true,
    )
}

/// Why the demo could not be told to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A process could not be started, or ended too soon.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// No port, or the output is gone.
    #[error("the demo cannot go on: {0}")]
    Io(#[from] io::Error),
    /// Ctrl-C.
    #[error("the demo was interrupted")]
    Interrupted,
}

/// Tells the story. True if every promise held with greenroom.
///
/// # Errors
///
/// When a process could not be started or ended too soon, or on Ctrl-C. No
/// process is left behind in any case.
pub async fn demo(options: Options) -> Result<bool, DemoError> {
    let Options {
        launch,
        backend,
        clients,
        over,
        seed,
        terminal,
        colour,
        out,
    } = options;
    let screen = Arc::new(Screen::new(out, terminal, colour));
    let stage = Stage {
        launch,
        backend,
        clients,
        over,
        seed,
        screen: Arc::clone(&screen),
    };
    let story = async {
        let startup = stage.backend.startup().as_secs_f64();
        screen.say(&format!(
            "A server takes {startup:.1} s to start. {clients} clients do not wait for it.\n"
        ))?;
        screen.say("Without greenroom:")?;
        let without = stage.without().await?;
        screen.say("\nWith greenroom:")?;
        let with = stage.with().await?;
        let report = Report::new(without, with);
        screen.say(&format!("\n{}", report.text(colour)))?;
        Ok(report.all_held())
    };
    tokio::select! {
        told = story => told,
        // Dropping the story ends its processes.
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            Err(DemoError::Interrupted)
        }
    }
}

struct Stage {
    launch: Launch,
    backend: SlowBackend,
    clients: u32,
    over: Duration,
    seed: u64,
    screen: Arc<Screen>,
}

impl Stage {
    /// The clients connect to the backend itself.
    async fn without(&self) -> Result<Act, DemoError> {
        // Kept bound until the end: no other process can take the port before the backend listens.
        let reserved = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = reserved.local_addr()?;
        let running = self.launch.backend(&self.process(Some(address)))?;
        self.act(running, address).await
    }

    /// The clients connect to greenroom, which starts the backend.
    async fn with(&self) -> Result<Act, DemoError> {
        let mut running = self.launch.greenroom(&self.process(None))?;
        let address = running.listening().await?;
        self.act(running, address).await
    }

    fn process(&self, address: Option<SocketAddr>) -> BackendProcess {
        BackendProcess {
            backend: self.backend.clone(),
            address,
            record: None,
            until_stdin_ends: true,
        }
    }

    async fn act(&self, running: Running, address: SocketAddr) -> Result<Act, DemoError> {
        let began = clock::now();
        self.screen.begin(began, self.clients, self.backend.startup());
        let plan = Plan {
            port: address.port(),
            count: self.clients,
            over: self.over,
            messages: 1,
            patience: limits::DEMO_PATIENCE,
            seed: self.seed,
        };
        let screen = Arc::clone(&self.screen);
        let arriving = arrive(&plan, move |client, stage| screen.client(client, stage));
        let journal = Arc::clone(running.journal());
        let (clients, late) = {
            let drawing = self.screen.draw(&journal);
            tokio::pin!(arriving, drawing);
            let mut late = Duration::ZERO;
            let clients = tokio::select! {
                clients = &mut arriving => clients,
                error = &mut drawing => return Err(error.into()),
                never = lateness(&mut late) => match never {},
            };
            (clients, late)
        };
        // The last records may still be on their way through the pipe.
        let done = |records: &[Record]| recorded(records, &clients);
        journal.wait_for(limits::DEMO_RECORDS, done).await;
        self.screen.end(&journal.records())?;
        running.stop().await;
        Ok(Act {
            expected: self.clients,
            clients,
            records: journal.records(),
            late,
        })
    }
}

/// Sleeps again and again, and keeps the most by which it woke too late: how busy the machine is.
async fn lateness(most: &mut Duration) -> std::convert::Infallible {
    loop {
        let began = clock::now();
        tokio::time::sleep(limits::DEMO_PULSE).await;
        *most = (*most).max(clock::between(began, clock::now()).saturating_sub(limits::DEMO_PULSE));
    }
}

/// Whether there is an opening for each client that got in, and READY.
fn recorded(records: &[Record], clients: &[ClientRecord]) -> bool {
    let openings = records
        .iter()
        .filter(|record| matches!(record, Record::Opening { .. }))
        .count();
    let ready = records.iter().any(|record| matches!(record, Record::Ready { .. }));
    ready && openings >= clients.iter().filter(|client| is_in(client)).count()
}
