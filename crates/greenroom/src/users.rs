//! What each user has of greenroom, counted where its WebSockets come in.
//!
//! The lines of `greenroom_core::users` behind one short lock: it is taken when a WebSocket comes whose route says who its
//! user is, when it has its 101, and when it ends, and never in between. Who has to give way is told in its mailbox while the
//! lock is held, so whoever stands in a line can still hear. A WebSocket is in the line of its user as long as its [`Counted`]
//! lives, and leaves it before its mailbox is shut. Bounded by the connections that there are.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use greenroom_core::event::{CloseCause, Refusal, State};
use greenroom_core::time::Time;
use greenroom_core::users::{Full, Rule, Seat, Users};
use greenroom_core::wire::CloseCode;

use crate::clock;
use crate::registry::{Close, Notice, Record};

/// What the WebSocket hears that gives way.
const REPLACED: &str = "another connection of this user took its place";

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct UserBook {
    users: Mutex<Users<Arc<Record>>>,
}

impl UserBook {
    /// A WebSocket of this user comes.
    pub(crate) fn come(
        self: &Arc<Self>,
        user: &Arc<str>,
        rule: Option<Rule>,
        record: &Arc<Record>,
    ) -> Result<Box<Counted>, Full> {
        let seat = self.lock().come(
            clock::now(),
            user,
            rule,
            Arc::clone(record),
            |other| switched(other),
            |other| replace(other),
        )?;
        Ok(Box::new(Counted {
            book: Arc::clone(self),
            user: Arc::clone(user),
            seat,
        }))
    }

    /// How many users have a WebSocket.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.lock().count()
    }

    fn lock(&self) -> MutexGuard<'_, Users<Arc<Record>>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Since when a client has a 101, greenroom's own or its backend's.
fn switched(record: &Record) -> Option<Time> {
    record.accepted().or(match record.state() {
        (State::Relaying, since) => Some(since),
        _ => None,
    })
}

/// Tells a WebSocket that another takes its place; false if it cannot hear.
fn replace(record: &Record) -> bool {
    let close = Close {
        cause: CloseCause::Replaced,
        refusal: Refusal::ConnectionsOfUser,
        code: CloseCode::POLICY,
        reason: REPLACED.into(),
        detail: None,
    };
    record.mailbox.tell(Notice::Close(close)).is_ok()
}

/// One WebSocket of a user, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    book: Arc<UserBook>,
    user: Arc<str>,
    seat: Seat,
}

impl Counted {
    /// It has its 101: whoever gives way to it is told now.
    pub(crate) fn let_in(&self) {
        self.book.lock().let_in(&self.user, self.seat, |other| {
            let _ = replace(other); // a Close is refused by who is over only, and that goes anyway
        });
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.book.lock().leave(&self.user, self.seat);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::config::Limits;
    use crate::registry::Registry;
    use crate::telemetry::{Format, Log};
    use greenroom_core::users::OnLimit;

    /// Threads of clients that come and go at once: whatever the order, a user never has more than it may, and at the end no line is left.
    #[test]
    fn however_users_come_and_go_at_once_none_has_more_than_it_may_and_no_line_is_left() {
        let registry = Registry::new(Log::start(Format::Json), 4_096, &Limits::default());
        let rule = Rule {
            most: 3,
            on_limit: OnLimit::CloseOldest,
        };
        let users: [Arc<str>; 2] = ["ann".into(), "bob".into()];
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (registry, users) = (&registry, &users);
                scope.spawn(move || {
                    let mut open = Vec::new();
                    for round in 0..2_000 {
                        let user = &users[(thread + round) % 2];
                        let mut entry = registry.accept(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
                        match entry.of_user(user, Some(rule)) {
                            Ok(()) => open.push(entry),
                            Err(Full) => entry.refused(Refusal::ConnectionsOfUser, None),
                        }
                        let (all, going, over) = registry.users.lock().of(user);
                        assert!(all - going - over <= rule.most);
                        if open.len() > round % 3 {
                            open.remove(0).ends(CloseCause::Client);
                        }
                    }
                    for mut entry in open {
                        entry.ends(CloseCause::Client);
                    }
                });
            }
        });
        assert_eq!(registry.users.count(), 0);
        let refused = registry
            .refused()
            .find(|(word, _)| *word == "connections_of_user")
            .unwrap()
            .1;
        let closed: u64 = registry.closed().map(|(_, count)| count).sum();
        assert_eq!((closed, registry.accepted()), (8_000, 8_000));
        let causes: u64 = registry
            .closed()
            .filter(|(word, _)| *word == "refused")
            .map(|(_, count)| count)
            .sum();
        assert_eq!(causes, refused);
    }
}
