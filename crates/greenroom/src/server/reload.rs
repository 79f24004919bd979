//! Takes another configuration while greenroom runs: when somebody says so, at SIGHUP, when the file changes.
//!
//! One at a time, in a task of its own: read, check, compare, refuse or adopt. It is adopted as a whole or not at all: a
//! file that is wrong, a change that needs a restart and an address that cannot be bound all leave everything as it was, and
//! say why. What is adopted, and who keeps what, is decided in `estate` and `config::diff`.

use std::sync::Arc;

use greenroom_core::limits::RELOADS_WAITING;
use tokio::sync::{mpsc, watch};

use super::estate::Estate;
use super::lookout;
use crate::admin::{Order, Outcome, Reload, Reloads};
use crate::config::{Config, Diff, Loaded, Mark, Recipe, carry_needs, diff};
use crate::supervise::Outer;
use crate::telemetry::{Event, Log, ReloadFailed, Reloaded};

const NO_FILE: &str = "there is no file to read: this greenroom was started by flags alone";
const NO_FILE_HELP: &str = "start it with --config FILE to change its configuration while it runs";
const GOES_ON: &str = "mend the file and reload again; until then everything goes on as it was";
const RESTART_HELP: &str = "restart greenroom for these; until then everything goes on as it was";

/// Where orders go, and where they come from.
pub(super) fn orders(recipe: &Recipe) -> (Reloads, mpsc::Receiver<Order>) {
    let (sender, orders) = mpsc::channel(RELOADS_WAITING);
    (Reloads::new(sender, recipe.file().is_some()), orders)
}

/// See the module's head.
pub(super) struct Reloader {
    pub(super) estate: Arc<Estate>,
    pub(super) recipe: Arc<Recipe>,
    /// The file that was read last.
    pub(super) loaded: watch::Sender<Option<Mark>>,
    pub(super) outer: Arc<Outer>,
    pub(super) log: Log,
}

impl Reloader {
    /// Reloads for ever, whenever it is told to.
    pub(super) async fn run(self, mut orders: mpsc::Receiver<Order>) {
        if let Some(file) = self.recipe.file() {
            let reloads = self.estate.asked().reloads.clone();
            let watches = self.estate.watches_file();
            let (loaded, log) = (self.loaded.subscribe(), self.log.clone());
            tokio::spawn(lookout::watch(file.to_owned(), loaded, watches, reloads, log));
        }
        while let Some(order) = orders.recv().await {
            let answer = self.reload(&order).await;
            if !order.dry_run {
                self.tell(&order, &answer);
            }
            order.answer(answer);
        }
    }

    async fn reload(&self, order: &Order) -> Reload {
        let Some(file) = self.recipe.file() else {
            return Reload::refused(NO_FILE, NO_FILE_HELP);
        };
        if self.estate.asked().drain.borrow().is_some() {
            return Reload::refused("greenroom is stopping", "it takes no other configuration any more");
        }
        if !order.dry_run {
            self.outer.reloading();
        }
        let mut answer = self.try_reload(order.dry_run).await;
        if !order.dry_run {
            self.outer.ready();
        }
        answer.file = Some(file.display().to_string());
        answer
    }

    async fn try_reload(&self, dry_run: bool) -> Reload {
        let recipe = Arc::clone(&self.recipe);
        let loaded = match tokio::task::spawn_blocking(move || recipe.load()).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(invalid)) => {
                let count = match invalid.count() {
                    1 => "the configuration is wrong".to_owned(),
                    count => format!("the configuration is wrong in {count} ways"),
                };
                return Reload {
                    problems: Some(invalid.render(false)),
                    ..Reload::refused(count, GOES_ON)
                };
            }
            Err(fault) => return Reload::refused(format!("a fault of greenroom itself: {fault}"), "please report it"),
        };
        let Loaded {
            mut config,
            notes,
            mark,
            ..
        } = loaded;
        if !dry_run {
            self.loaded.send_replace(mark);
        }
        let before = self.estate.config();
        let changes = diff(&before, &config);
        let answer = |changes: Diff| Reload {
            changes: changes.changes,
            left_out: changes.left_out,
            restart_needed: changes.restart,
            notes,
            ..Reload::of(Outcome::Unchanged)
        };
        if changes.is_empty() {
            return answer(changes);
        }
        let mut answer = answer(changes);
        for backend in carry_needs(&before, &mut config) {
            answer
                .restart_needed
                .push(format!("backend.{backend} (its routes need too many different things)"));
        }
        if !answer.restart_needed.is_empty() {
            let keys = answer.restart_needed.join(", ");
            return answer.refuse(
                format!("what cannot be changed while greenroom runs: {keys}"),
                RESTART_HELP,
            );
        }
        if dry_run {
            return answer.with(Outcome::WouldReload);
        }
        self.adopt(answer, config).await
    }

    async fn adopt(&self, answer: Reload, config: Config) -> Reload {
        match self.estate.adopt(Arc::new(config)).await {
            Ok(()) => Reload {
                orphaned: self.estate.asked().orphans().len(),
                ..answer.with(Outcome::Reloaded)
            },
            Err(error) => answer.refuse(error, GOES_ON),
        }
    }

    fn tell(&self, order: &Order, answer: &Reload) {
        let by = order.by;
        for note in &answer.notes {
            self.log.warn(note.clone());
        }
        let event = match answer.outcome {
            Outcome::Refused => Event::ReloadFailed(ReloadFailed {
                by,
                reason: answer.error.clone().unwrap_or_default(),
                problems: answer.problems.clone(),
                restart_needed: answer.restart_needed.clone(),
            }),
            Outcome::Reloaded | Outcome::Unchanged | Outcome::WouldReload => Event::Reloaded(Reloaded {
                by,
                changed: answer.changes.iter().map(|change| change.key.clone()).collect(),
                orphaned: answer.orphaned,
            }),
        };
        self.log.say(event);
        if let Some(who) = &order.who {
            answer.say(who, &self.log);
        }
    }
}
