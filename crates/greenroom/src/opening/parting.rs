//! How the hold of an accepted client ends: with a relay, or with a Close.
//!
//! | end | to the client |
//! |---|---|
//! | the backend's 101 | what it has sent goes on, in the relay |
//! | another subprotocol than it was accepted with | 1002 |
//! | any other answer | 1008 `upstream-status=N`, not within its first second |
//! | no answer that makes sense | 1011 |
//! | refused | the refusal's code, `retry-after-ms=N` where it may come back; not within its first second, spread |
//! | its own Close | that, at once |
//! | it broke the protocol | 1002, 1007 |
//! | told to end (the admin API, a limit) | as it was told, at once |

use greenroom_core::drain::{close_at, seed_for};
use greenroom_core::event::{CloseCause, Refusal, SessionId, State};
use greenroom_core::limits::SPREAD_MAX;
use greenroom_core::time::Time;
use greenroom_core::wire::{CloseCode, CloseSeen};

use super::accepted::{Accepted, Gone};
use super::answer::Received;
use super::hold::Relayed;
use crate::clock;
use crate::config::units::count;
use crate::front::Front;
use crate::head::Kind;
use crate::registry::{Close, Entry};

/// How the wait of a client that is sent away ended.
enum Turn {
    Come,
    Closed(CloseSeen),
    Left,
}

/// What it takes to send an accepted client away.
pub(super) struct Parting<'a> {
    pub(super) front: &'a Front,
    pub(super) entry: &'a mut Entry,
    pub(super) id: SessionId,
    pub(super) route: usize,
    pub(super) request: &'a Kind,
}

impl Parting<'_> {
    /// The backend has answered.
    pub(super) async fn answered(self, mut accepted: Box<Accepted>, received: Received) -> Option<Relayed> {
        match received {
            Received::Switched { switched, said, .. } => {
                if said.protocol.as_deref() != accepted.selected() {
                    let selected = said.protocol.unwrap_or_else(|| "none".into());
                    let why = format!(
                        "it was accepted with the subprotocol {}, and the backend selected {selected}",
                        accepted.selected().unwrap_or("none")
                    );
                    drop(switched); // the backend has nobody to talk to, however long the goodbye takes
                    self.refused(accepted, Refusal::Subprotocol, Some(why), 1).await;
                    return None;
                }
                if said.sets_cookie {
                    self.entry.lost_cookie();
                }
                let mut text = Vec::new();
                self.front.tell_degraded(self.route, &mut text);
                let relayed = (*accepted).into_relay(&text);
                if relayed.is_none() {
                    self.entry.ends(CloseCause::ClientLost);
                }
                relayed.map(|(client, before)| (client, switched, Some(before)))
            }
            Received::Status { status, stream, .. } => {
                drop(stream);
                let detail = format!("upstream-status={status}");
                self.entry.ends_with(CloseCause::BackendRefused, detail.clone());
                self.entry.enter(State::Closing);
                accepted.forget();
                match self.its_turn(&mut accepted, 1).await {
                    Turn::Come => accepted.close(CloseCode::POLICY, &detail).await,
                    Turn::Closed(seen) => accepted.answer_close(seen).await,
                    Turn::Left => {}
                }
                None
            }
            Received::Nothing(why) => {
                self.refused(accepted, Refusal::BadAnswer, Some(why), 1).await;
                None
            }
        }
    }

    /// It is sent away.
    pub(super) async fn refused(
        self,
        mut accepted: Box<Accepted>,
        refusal: Refusal,
        why: Option<String>,
        together: usize,
    ) {
        self.entry.refused_for(refusal, why, Some(self.request));
        self.entry.enter(State::Closing);
        accepted.forget();
        match self.its_turn(&mut accepted, together).await {
            Turn::Come => {}
            Turn::Closed(seen) => return accepted.answer_close(seen).await,
            Turn::Left => return,
        }
        let stop = self.front.drain.borrow().filter(|_| refusal == Refusal::Draining);
        let Some(code) = stop
            .map(|stop| stop.code)
            .or_else(|| CloseCode::new(refusal.close_code()))
        else {
            return; // a test holds that each refusal has a legal one
        };
        let reason = if refusal.retry_after() {
            format!("retry-after-ms={}", self.front.retry_after_ms(self.route, self.id))
        } else {
            refusal.sentence().to_owned()
        };
        accepted.close(code, &reason).await;
    }

    /// Waits for the instant at which it is closed, or until it ends itself. A stop brings that instant nearer, and a second signal too.
    async fn its_turn(&self, accepted: &mut Accepted, together: usize) -> Turn {
        let since = self.entry.record().accepted().unwrap_or(Time::ZERO); // it has a 101
        let mut at = self.close_at(since, together);
        let mut drain = self.front.drain.clone();
        drain.borrow_and_update();
        let mut is_open = true;
        loop {
            tokio::select! {
                biased;
                () = clock::until(Some(at)) => return Turn::Come,
                changed = drain.changed(), if is_open => is_open = changed.is_ok(),
                seen = accepted.leaves() => return seen.map_or(Turn::Left, Turn::Closed),
            }
            at = at.min(self.close_at(since, together));
        }
    }

    /// When it is closed: what ends for many at one time is spread.
    fn close_at(&self, since: Time, together: usize) -> Time {
        let (now, seed) = (clock::now(), seed_for(self.front.seed, self.id.0));
        match *self.front.drain.borrow() {
            Some(drain) => close_at(now, since, seed, together, drain.spread, Some(drain.deadline)),
            None => close_at(now, since, seed, together, SPREAD_MAX, None),
        }
    }

    /// It leaves before its backend was ready: what it has said went to nobody, and that must be seen somewhere.
    fn leaves(&mut self, accepted: &Accepted) {
        self.entry.ends_with(CloseCause::LeftHeld, unheard(accepted));
    }

    /// It has left, or may not stay for what it sent.
    pub(super) async fn gone(mut self, accepted: Box<Accepted>, gone: Gone) {
        match gone {
            Gone::Left => self.leaves(&accepted),
            Gone::Closed(seen) => {
                self.leaves(&accepted);
                self.entry.enter(State::Closing);
                accepted.answer_close(seen).await;
            }
            Gone::Violation(violation) => {
                self.entry
                    .ends_with(CloseCause::ClientViolation, violation.word().to_owned());
                self.entry.enter(State::Closing);
                accepted.fail(CloseCode::PROTOCOL_ERROR, "").await;
            }
            Gone::NotUtf8 => {
                self.entry.ends_with(CloseCause::ClientViolation, "not_utf8".to_owned());
                self.entry.enter(State::Closing);
                accepted.fail(CloseCode::NOT_UTF8, "").await;
            }
            Gone::Refused(refusal) => self.refused(accepted, refusal, None, 1).await,
            Gone::Told(close) => {
                let Close {
                    cause,
                    code,
                    reason,
                    detail,
                    ..
                } = *close;
                let details: Vec<_> = detail.map(String::from).into_iter().chain(unheard(&accepted)).collect();
                let detail = (!details.is_empty()).then(|| details.join("; "));
                self.entry.ends_with(cause, detail);
                self.entry.enter(State::Closing);
                accepted.close(code, &reason).await;
            }
        }
    }
}

/// What an accepted client has said that nobody will hear, if it has said something.
fn unheard(accepted: &Accepted) -> Option<String> {
    let unheard = accepted.kept();
    (unheard > 0).then(|| format!("{} that it had sent went to nobody", count(unheard, "byte")))
}
