//! The gate by hand: who has said what, and what of it is told.
//!
//! Core decides what a hand does. A drain by command sets one for the time that it takes, and never over one that a person has set.
//! Where several drains want something of the same gate the last one's wish holds, and at its end that of the one before: bounded by
//! `DRAINS_MAX`. What a person says ends all of their wishes.

use std::sync::Arc;

use greenroom_core::gate::{Hand, Input, Stage};
use greenroom_core::time::Time;
use serde::{Deserialize, Serialize};

use super::standing::Gateway;
use super::{Driver, Inbox, Message};
use crate::clock;
use crate::telemetry::Event;

/// Who sets a gate by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetBy {
    /// Somebody, through the admin API: who it was, as the log has it.
    Admin(Box<str>),
    /// A drain, by its number.
    Drain(u64),
}

/// What is set now.
#[derive(Clone, Debug)]
pub(super) struct Set {
    by: SetBy,
    since: Time,
}

/// What drains want of a gate, by number: the last that came behind.
pub(super) type Wishes = Vec<(u64, Hand)>;

/// A gate that is set by hand, as `status` shows it.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema, PartialEq, Eq)]
pub struct HandStatus {
    /// `hold`, `open` or `refuse`.
    pub gate: String,
    /// Who has set it: as the event `admin` has it, such as `socket uid=1000 pid=42`; or `drain` and its number.
    pub by: String,
    /// Milliseconds since it is so.
    pub since_ms: u64,
    /// Milliseconds until it is taken back, if that was said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub left_ms: Option<u64>,
}

impl HandStatus {
    /// Whether a drain has set it, and no person.
    pub(crate) fn is_of_drain(&self) -> bool {
        let number = self.by.strip_prefix("drain ");
        number.is_some_and(|number| number.parse::<u64>().is_ok())
    }
}

/// What goes over to the backend that takes the place of this one.
#[derive(Clone, Debug)]
pub struct Inherited {
    /// What a person has said, or what drains want, in order.
    said: Vec<(Hand, Option<Time>, SetBy)>,
    since: Time,
}

impl Driver {
    /// Another takes its place: it hears what is set now, before anybody comes to it, and what is said later.
    pub(super) fn bequeath(&mut self, heir: Arc<Inbox>) {
        let (hand, until) = self.gate.hand();
        if let Some(Set { by, since }) = self.by_hand.clone().filter(|_| hand != Hand::Auto) {
            let said = match by {
                SetBy::Admin(_) => vec![(hand, until, by)],
                SetBy::Drain(_) => {
                    let wishes = self.wishes.iter();
                    wishes.map(|&(id, hand)| (hand, None, SetBy::Drain(id))).collect()
                }
            };
            heir.tell(Message::Inherit(Inherited { said, since }));
        }
        self.heir = Some(heir);
    }

    /// It has taken the place of another, at which this was set.
    pub(super) fn inherit(&mut self, now: Time, inherited: Inherited) {
        for (hand, until, by) in inherited.said {
            self.take_hand(now, hand, until, by);
        }
        if let Some(set) = &mut self.by_hand {
            set.since = inherited.since;
        }
    }

    /// Somebody sets it, here and at whoever has its place now.
    pub(super) fn hear_hand(&mut self, now: Time, hand: Hand, until: Option<Time>, by: SetBy) {
        if let Some(heir) = &self.heir {
            let by = by.clone();
            heir.tell(Message::Hand { hand, until, by });
        }
        self.take_hand(now, hand, until, by);
    }

    /// Somebody sets it.
    fn take_hand(&mut self, now: Time, hand: Hand, until: Option<Time>, by: SetBy) {
        let before = self.gate.hand().0;
        let (hand, by) = match by {
            SetBy::Admin(_) => {
                self.wishes.clear();
                (hand, by)
            }
            SetBy::Drain(id) => match self.wish(id, hand) {
                Some(wish) => wish,
                None => return,
            },
        };
        if before != hand || self.by_hand.as_ref().is_none_or(|set| set.by != by) {
            self.by_hand = (hand != Hand::Auto).then_some(Set { by, since: now });
        }
        let was = self.gate.stage();
        self.gate.handle(now, Input::Hand(hand, until));
        // What it opens tells of it by itself.
        if hand == Hand::Open && !matches!(was, Stage::Open(_)) {
            self.hand_told = hand;
        }
        self.tell_hand();
    }

    /// A drain wants this, or nothing any more. Gives what follows, if anything does.
    fn wish(&mut self, id: u64, hand: Hand) -> Option<(Hand, SetBy)> {
        self.wishes.retain(|&(other, _)| other != id);
        let setter = self.by_hand.as_ref().map(|set| &set.by);
        if matches!(setter, Some(SetBy::Admin(_))) {
            return None;
        }
        if hand != Hand::Auto {
            self.wishes.push((id, hand));
        }
        match self.wishes.last() {
            Some(&(last, hand)) => Some((hand, SetBy::Drain(last))),
            None => setter.cloned().map(|by| (Hand::Auto, by)), // its own, taken back
        }
    }

    /// Says so when the hand is another than it was, before what follows from it.
    pub(super) fn tell_hand(&mut self) {
        let hand = self.gate.hand().0;
        if std::mem::replace(&mut self.hand_told, hand) == hand {
            return;
        }
        if hand == Hand::Auto {
            self.by_hand = None;
        }
        self.log.say(Event::Gate {
            gate: gate_word(self.gate.stage()),
            why: match hand {
                Hand::Auto => "by hand no longer: the backend's readiness decides",
                Hand::Hold => "held by hand",
                Hand::Open => "open by hand",
                Hand::Refuse => "clients are refused by hand",
            },
            held: self.gate.held(),
        });
    }

    pub(super) fn hand_status(&self) -> Option<HandStatus> {
        let (hand, until) = self.gate.hand();
        let set = self.by_hand.as_ref().filter(|_| hand != Hand::Auto)?;
        let now = clock::now();
        let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Some(HandStatus {
            gate: hand.word().into(),
            by: match &set.by {
                SetBy::Admin(who) => who.to_string(),
                SetBy::Drain(id) => format!("drain {id}"),
            },
            since_ms: ms(now.since(set.since)),
            left_ms: until.map(|until| ms(until.since(now))),
        })
    }
}

/// The word for where the gate stands, in the log: the same as in `status`.
pub(super) fn gate_word(stage: Stage) -> &'static str {
    Gateway::from(stage).word()
}
