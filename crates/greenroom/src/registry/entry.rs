//! One connection in the books: from state to state, and to its one cause.
//!
//! The connection's task has it, and drops it at the end: then all is told and counted, and its places are free. Kept
//! small, as every client's future carries one.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use greenroom_core::event::{CloseCause, Refusal, SessionId, State};
use greenroom_core::limits::LOG_TEXT_MAX;
use greenroom_core::session::relay::Dropped;
use greenroom_core::time::Time;
use greenroom_core::users::{Full, Rule};

use super::{Asked, Closed, Descriptor, Names, Record, Registry, is_engaged, millis};
use crate::addresses::Counted;
use crate::clock;
use crate::config::RouteOf;
use crate::config::units::count;
use crate::front::Backend;
use crate::head::Kind;
use crate::known;
use crate::telemetry::{Event, printable};
use crate::users;
use crate::visitors::Visit;

/// One connection in the books, from accept to close.
#[derive(Debug)]
pub struct Entry {
    registry: Arc<Registry>,
    state: State,
    /// Its line in the books.
    record: Arc<Record>,
    /// Its backend, where there are several.
    of: Option<Arc<str>>,
    /// It was told of its first request.
    is_opened: bool,
    /// How it ends, once that has begun.
    end: Option<Box<End>>,
    /// Its place among those of its address, where they are counted.
    counted: Option<Box<Counted>>,
    /// Its place among those of its user, where it has one.
    counted_of_user: Option<Box<users::Counted>>,
    /// Its place with the backend that its request is for.
    visit: Option<Visit>,
    _descriptor: Descriptor,
}

/// How a connection ends. Apart from the rest, as every one that is open would carry it.
#[derive(Debug, Default)]
struct End {
    cause: Option<CloseCause>,
    refusal: Option<Refusal>,
    /// Where it was when its end began, and since when.
    from: Option<(State, Time)>,
    detail: Option<Box<str>>,
}

impl Entry {
    /// Of a connection that was just accepted.
    pub(super) fn new(registry: &Arc<Registry>, record: Arc<Record>) -> Self {
        Self {
            registry: Arc::clone(registry),
            state: State::Opening,
            record,
            of: None,
            is_opened: false,
            end: None,
            counted: None,
            counted_of_user: None,
            visit: None,
            _descriptor: registry.descriptor(),
        }
    }

    /// Its place among those of its address.
    pub(super) fn count(&mut self, counted: Option<Box<Counted>>) {
        self.counted = counted;
    }

    /// Goes to the next state.
    pub fn enter(&mut self, next: State) {
        debug_assert!(self.state.may_become(next), "{} → {next}", self.state);
        let (was_engaged, is_engaged) = (is_engaged(self.state), is_engaged(next));
        if is_engaged && !was_engaged {
            self.registry.engaged.fetch_add(1, Ordering::SeqCst);
        }
        // In before out, and seen in that order: whoever waits for the last one never counts too few.
        self.registry.states[next as usize].fetch_add(1, Ordering::SeqCst);
        self.registry.states[self.state as usize].fetch_sub(1, Ordering::SeqCst);
        if matches!(next, State::Closing | State::Closed) {
            let from = self.record.state();
            self.end().from.get_or_insert(from);
        }
        self.state = next;
        let now = clock::now();
        self.record.enter(next, now);
        if next == State::Relaying {
            let relaying = Event::Relaying {
                connection: self.record.number,
                session: self.record.session(),
                after_ms: millis(now.since(self.record.accepted_at)),
            };
            self.registry.log.say_of(self.of.clone(), relaying);
            self.is_let_in();
        }
        if next == State::Opening {
            self.visit = None; // it only waits for another request
        }
        if was_engaged && next == State::Opening {
            self.registry.disengage();
        }
    }

    /// Where it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Gives it the number under which the backend and the log know it.
    pub fn set_session(&mut self, id: SessionId) {
        self.record.set_session(id.0);
    }

    /// Its request is for this backend by this route, or for none: so the log and the books name it.
    pub(crate) fn asks(&mut self, of: Option<(&Backend, RouteOf)>, request: &Kind) {
        self.of = of.as_ref().and_then(|(backend, _)| backend.label.clone());
        let path = printable(request.path(), LOG_TEXT_MAX);
        if !std::mem::replace(&mut self.is_opened, true) {
            let opened = Event::Opened {
                connection: self.record.number,
                address: self.record.peer,
                kind: match request {
                    Kind::Upgrade(_) => "websocket",
                    Kind::Http(_) => "http",
                },
                route: of.as_ref().map(|(_, route)| route.name.clone()),
                path: path.clone(),
            };
            self.registry.log.say_of(self.of.clone(), opened);
        }
        self.visit = of.as_ref().map(|(backend, _)| backend.visitors.enter());
        self.record.asks(of.map(|(_, route)| Asked {
            known: known::of(&route.known_by, request).unwrap_or_default(), // where nobody can tell, it is refused
            route,
            path: path.into(),
        }));
    }

    /// It is a WebSocket of this user; the rule says whether there may be another.
    pub(crate) fn of_user(&mut self, user: &Arc<str>, rule: Option<Rule>) -> Result<(), Full> {
        self.counted_of_user = Some(self.registry.users.come(user, rule, &self.record)?);
        Ok(())
    }

    /// It has a 101 of greenroom's own.
    pub(crate) fn accepted(&self) {
        let now = clock::now();
        self.record.accept(now);
        self.registry.newcomers.join_held(&self.record, now);
        self.is_let_in();
    }

    /// It has its place: another of its user may have to give way.
    fn is_let_in(&self) {
        if let Some(counted) = &self.counted_of_user {
            counted.let_in();
        }
    }

    /// Its line in the books.
    pub(crate) fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// Its number, if it has arrived.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.record.session().map(SessionId)
    }

    /// When one of `count` clients of a lost backend is closed that has said something, and else would be closed at `own`.
    pub(crate) fn goes_ahead(&self, own: Time, count: usize) -> Time {
        self.registry.ahead().close_at(clock::now(), own, count)
    }

    /// How many connections are in a state now.
    #[must_use]
    pub fn peers(&self, state: State) -> u64 {
        self.registry.count(state)
    }

    /// When it was accepted.
    #[must_use]
    pub fn accepted_at(&self) -> Time {
        self.record.accepted_at
    }

    fn end(&mut self) -> &mut End {
        self.end.get_or_insert_default()
    }

    /// Names why it ends. The first cause counts: later ones are consequences.
    pub fn ends(&mut self, cause: CloseCause) {
        self.end().cause.get_or_insert(cause);
    }

    /// Names why it ends, with what is known of it.
    pub fn ends_with(&mut self, cause: CloseCause, detail: impl Into<Option<String>>) {
        let end = self.end();
        if end.cause.is_none() {
            end.cause = Some(cause);
            end.detail = detail.into().map(Into::into);
        }
    }

    /// Its backend's 101 sets a cookie, and it has its 101 already.
    pub(crate) fn lost_cookie(&self) {
        self.registry.cookies_lost.fetch_add(1, Ordering::Relaxed);
    }

    /// So much of what its client sent went to nobody: `why` is how that came. It is counted, and told with the cause.
    pub(crate) fn dropped(&mut self, dropped: Dropped, why: &str) {
        if dropped.is_nothing() {
            return;
        }
        for (sum, more) in self.registry.dropped.iter().zip([dropped.bytes, dropped.messages]) {
            sum.fetch_add(more, Ordering::Relaxed);
        }
        let end = self.end();
        let before = end
            .detail
            .take()
            .map(|detail| format!("{detail}; "))
            .unwrap_or_default();
        let bytes = count(dropped.bytes, "byte");
        let messages = count(dropped.messages, "message");
        end.detail = Some(format!("{before}{bytes} ({messages}) that the client sent {why} went to nobody").into());
    }

    /// Counts a refusal; the caller writes the answer.
    pub fn refused(&mut self, refusal: Refusal, detail: Option<String>) {
        self.refused_for(refusal, detail, None);
    }

    /// The same, with what it asked for.
    pub(crate) fn refused_for(&mut self, refusal: Refusal, detail: Option<String>, request: Option<&Kind>) {
        let end = self.end();
        if end.cause.is_none() {
            end.refusal = Some(refusal);
            end.detail = detail.as_deref().map(Into::into);
        }
        self.ends(CloseCause::Refused);
        self.registry.refusals[refusal as usize].fetch_add(1, Ordering::Relaxed);
        let session = self.record.session();
        let is_accepted = self.record.accepted().is_some();
        let shown = |text: &str| Some(printable(text, LOG_TEXT_MAX)).filter(|text| !text.is_empty());
        let event = Event::Refused {
            connection: self.record.number,
            session,
            refusal: refusal.word(),
            status: (!is_accepted).then(|| refusal.status()),
            code: is_accepted.then(|| refusal.close_code()),
            host: request.and_then(|request| shown(request.host())),
            path: request.and_then(|request| shown(request.path())),
            detail,
        };
        self.registry.log.say_of(self.of.clone(), event);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.counted_of_user = None; // whoever is in a user's line can still be told to go
        self.record.mailbox.shut();
        // Its places are free before it is told of: who hears it may take them.
        self.counted = None;
        let open = self.registry.open.fetch_sub(1, Ordering::SeqCst) - 1;
        self.registry.crowd.shrinks(open);
        let was_engaged = is_engaged(self.state);
        self.enter(State::Closed);
        let End {
            cause,
            refusal,
            from,
            detail,
        } = *self.end.take().unwrap_or_default();
        let cause = cause.unwrap_or_else(|| self.registry.cause_of_dropped());
        self.registry.causes[cause as usize].fetch_add(1, Ordering::Relaxed);
        let at = clock::now();
        let is_told = cause != CloseCause::Silent;
        let closed = Closed {
            record: Arc::clone(&self.record),
            at,
            from: from.unwrap_or((State::Opening, self.record.accepted_at)), // `enter` has said it
            cause,
            refusal,
            detail: detail.clone(),
            asked: self.record.asks_for().map(|asked| Names {
                backend: asked.route.backend().name.as_str().into(),
                route: asked.route.name.as_str().into(),
                path: asked.path.clone(),
                known: asked.known.clone(),
            }),
        };
        let at_the_door = [
            Refusal::Descriptors,
            Refusal::Connections,
            Refusal::ConnectionsOfAddress,
        ];
        let is_kept = is_told && refusal.is_none_or(|refusal| !at_the_door.contains(&refusal));
        self.registry.table.close(closed, is_kept);
        self.record.asks(None); // the last lines are kept for long, and its configuration is not for them
        if is_told {
            let closed = Event::Closed {
                connection: self.record.number,
                session: self.record.session(),
                cause: cause.word(),
                detail: detail.filter(|_| refusal.is_none()).map(String::from),
                lasted_ms: millis(at.since(self.record.accepted_at)),
            };
            self.registry.log.say_of(self.of.take(), closed);
        }
        if was_engaged {
            self.registry.disengage(); // all is told and counted
        }
    }
}
