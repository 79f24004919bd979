//! Draws an act as it happens: the phase of the server, and a cell per client.
//!
//! On a terminal two lines are drawn again and again; elsewhere a line is
//! printed at each new phase, so that a log reads as a story too.
//!
//! `·` not yet come, `…` waiting, `✓` in, `✗` failed.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clients::Stage;
use crate::clock;
use crate::journal::{Journal, Record};

/// How often the lines are drawn again.
const FRAME: Duration = Duration::from_millis(50);
/// Cells of the bar of the server's start-up.
const BAR: usize = 24;

/// Where the demo is told.
pub struct Screen {
    inner: Mutex<Inner>,
    terminal: bool,
    colour: bool,
}

struct Inner {
    out: Box<dyn Write + Send>,
    scene: Scene,
}

#[derive(Default)]
struct Scene {
    began: u64,
    startup: Duration,
    /// How far each client is; `None`: it has not come yet.
    cells: Vec<Option<Stage>>,
    /// Lines on the terminal that the next drawing replaces.
    drawn: usize,
    /// Records already told as lines.
    told: usize,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen")
            .field("terminal", &self.terminal)
            .finish_non_exhaustive()
    }
}

impl Screen {
    /// One that writes to `out`.
    #[must_use]
    pub fn new(out: Box<dyn Write + Send>, terminal: bool, colour: bool) -> Self {
        Self {
            inner: Mutex::new(Inner {
                out,
                scene: Scene::default(),
            }),
            terminal,
            colour,
        }
    }

    /// Prints lines.
    ///
    /// # Errors
    ///
    /// When the output is gone.
    pub fn say(&self, text: &str) -> io::Result<()> {
        let mut inner = self.lock();
        writeln!(inner.out, "{text}")?;
        inner.out.flush()
    }

    /// An act begins.
    pub fn begin(&self, began: u64, clients: u32, startup: Duration) {
        let cells = (0..clients).map(|_| None).collect();
        self.lock().scene = Scene {
            began,
            startup,
            cells,
            drawn: 0,
            told: 0,
        };
    }

    /// A client is at `stage`.
    pub fn client(&self, client: u32, stage: Stage) {
        if let Some(place) = self.lock().scene.cells.get_mut(client as usize) {
            *place = Some(stage);
        }
    }

    /// Draws for as long as it is polled; returns only when the output is gone.
    pub async fn draw(&self, journal: &Journal) -> io::Error {
        let mut frames = tokio::time::interval(FRAME);
        loop {
            frames.tick().await;
            if let Err(error) = self.frame(&journal.records()) {
                return error;
            }
        }
    }

    /// The act is over: its last picture stays.
    ///
    /// # Errors
    ///
    /// When the output is gone.
    pub fn end(&self, records: &[Record]) -> io::Result<()> {
        self.frame(records)?;
        if self.terminal {
            return Ok(());
        }
        let mut inner = self.lock();
        let line = self.line(&inner.scene, clock::now(), "the last client is done");
        writeln!(inner.out, "{line}")?;
        inner.out.flush()
    }

    fn frame(&self, records: &[Record]) -> io::Result<()> {
        let mut inner = self.lock();
        let Inner { out, scene } = &mut *inner;
        if self.terminal {
            let picture = self.picture(scene, records);
            if scene.drawn > 0 {
                write!(out, "\x1b[{}A\r\x1b[J", scene.drawn)?;
            }
            scene.drawn = picture.lines().count();
            out.write_all(picture.as_bytes())?;
        } else {
            for record in records.iter().skip(scene.told) {
                let line = match record {
                    Record::Phase { at, name } => self.line(scene, *at, name),
                    Record::Listening { at } => self.line(scene, *at, "(listens)"),
                    Record::Ready { at } => self.line(scene, *at, "ready"),
                    Record::Started { .. } | Record::Opening { .. } | Record::TooEarly { .. } => continue,
                };
                writeln!(out, "{line}")?;
            }
            scene.told = records.len();
        }
        out.flush()
    }

    fn line(&self, scene: &Scene, at: u64, what: &str) -> String {
        let seconds = clock::between(scene.began, at).as_secs_f64();
        format!("  {seconds:5.2} s  {what:<24} {}", self.cells(scene))
    }

    fn picture(&self, scene: &Scene, records: &[Record]) -> String {
        let mut what = "starting";
        let mut began = scene.began;
        let mut ready = None;
        for record in records {
            match record {
                Record::Started { at, .. } => began = *at,
                Record::Phase { name, .. } => what = name,
                Record::Ready { at } => (what, ready) = ("ready", Some(*at)),
                Record::Listening { .. } | Record::Opening { .. } | Record::TooEarly { .. } => {}
            }
        }
        let now = clock::now();
        let spent = clock::between(began, ready.unwrap_or(now)).as_secs_f64();
        let part = if ready.is_some() {
            1.0
        } else {
            spent / scene.startup.as_secs_f64().max(1e-9)
        };
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss
        )]
        let full = ((part * BAR as f64) as usize).min(BAR);
        let bar = format!("{}{}", "█".repeat(full), "░".repeat(BAR - full));
        let colour = if ready.is_some() { GREEN } else { YELLOW };
        let time = clock::between(scene.began, now).as_secs_f64();
        let bar = self.paint(colour, &bar);
        format!(
            "  server   {bar}  {what:<13} {time:4.1} s\n  clients  {}\n",
            self.cells(scene)
        )
    }

    fn cells(&self, scene: &Scene) -> String {
        let cell = |cell: &Option<Stage>| match cell {
            None => "·".to_owned(),
            Some(Stage::Waiting) => self.paint(YELLOW, "…"),
            Some(Stage::In) => self.paint(GREEN, "✓"),
            Some(Stage::Failed) => self.paint(RED, "✗"),
        };
        scene.cells.iter().map(cell).collect()
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        paint(self.colour, colour, text)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// SGR parameters of the colours used.
pub(super) const GREEN: &str = "32";
pub(super) const RED: &str = "31";
pub(super) const YELLOW: &str = "33";

/// `text` in `colour`, if colours are `on`.
pub(super) fn paint(on: bool, colour: &str, text: &str) -> String {
    if on {
        format!("\x1b[{colour}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(colour: bool) -> Screen {
        let screen = Screen::new(Box::new(io::sink()), true, colour);
        screen.begin(clock::now(), 4, Duration::from_secs(2));
        screen.client(0, Stage::In);
        screen.client(1, Stage::Failed);
        screen.client(2, Stage::Waiting);
        screen.client(99, Stage::Waiting);
        screen
    }

    #[test]
    fn each_client_has_a_cell_and_only_an_echo_makes_it_green() {
        let plain = screen(false);
        assert_eq!(plain.cells(&plain.lock().scene), "✓✗…·");
        let coloured = screen(true);
        assert!(coloured.cells(&coloured.lock().scene).starts_with("\x1b[32m✓\x1b[0m"));
    }

    #[test]
    fn on_a_terminal_each_frame_replaces_the_one_before() {
        let screen = screen(false);
        assert_eq!(screen.lock().scene.drawn, 0);
        screen.frame(&[]).unwrap();
        let drawn = screen.lock().scene.drawn;
        let lines = screen.picture(&screen.lock().scene, &[]).lines().count();
        assert_eq!(drawn, lines, "the next frame goes up that far");
        screen.frame(&[]).unwrap();
        assert_eq!(screen.lock().scene.drawn, drawn);
    }

    #[test]
    fn a_picture_is_narrow_and_full_only_when_ready() {
        let screen = screen(false);
        let inner = screen.lock();
        let starting = screen.picture(
            &inner.scene,
            &[Record::Phase {
                at: 0,
                name: "database".into(),
            }],
        );
        assert!(starting.contains("database") && starting.contains('░'), "{starting}");
        let ready = screen.picture(&inner.scene, &[Record::Ready { at: clock::now() }]);
        assert!(ready.contains("ready") && !ready.contains('░'), "{ready}");
        assert!(
            starting
                .lines()
                .chain(ready.lines())
                .all(|line| line.chars().count() < 80)
        );
    }
}
