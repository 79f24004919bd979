//! Decides whether one user may open another WebSocket, and which of its own gives way.
//!
//! A user is a text: the same text is the same user, whatever route it came by. Its WebSockets stand in the order in which
//! they came. Where the limit is reached, either the new one is refused, or the oldest is told to go and the new one comes
//! in: not before the oldest has been there, and has had its 101, for [`FIRST_SECOND`], as many clients reconnect at once when they are closed, and
//! two of them would drive each other out for ever. Who was told to go is counted apart until it has gone.
//!
//! Bounded by the connections that there are: a user without any is forgotten. Under a limit of N a user has at most
//! N WebSockets that were not told to go, and N that were.

use std::collections::{BTreeMap, btree_map};
use std::sync::Arc;

use crate::limits::FIRST_SECOND;
use crate::time::Time;

/// Who gives way where a user has as many WebSockets as it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLimit {
    /// The new one is refused.
    #[default]
    RefuseNew,
    /// The oldest is closed.
    CloseOldest,
}

/// What one user may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// WebSockets at one time.
    pub most: usize,
    /// What happens beyond that.
    pub on_limit: OnLimit,
}

/// It has as many as it may, and none that could give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A place in the line of its user's, for [`Users::leave`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat(u64);

/// The WebSockets of all users; `T` is how one is told to go.
#[derive(Debug)]
pub struct Users<T> {
    known: BTreeMap<Arc<str>, User<T>>,
    next: u64,
}

#[derive(Debug)]
struct User<T> {
    open: BTreeMap<Seat, Open<T>>,
    /// So many of them were told to go: the first ones.
    going: usize,
}

#[derive(Debug)]
struct Open<T> {
    since: Time,
    is_going: bool,
    it: T,
}

impl<T> Default for Users<T> {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            next: 0,
        }
    }
}

impl<T> Users<T> {
    /// A WebSocket of this user comes. Where it may, its end is told by [`Users::leave`].
    ///
    /// `switched` says of another one since when it has its 101, if it has one. `go` tells it to go, and whether it heard:
    /// one that cannot hear it stays, and the new one is refused.
    pub fn come(
        &mut self,
        now: Time,
        user: &Arc<str>,
        rule: Option<Rule>,
        it: T,
        switched: impl FnOnce(&T) -> Option<Time>,
        go: impl FnOnce(&T) -> bool,
    ) -> Result<Seat, Full> {
        if let (Some(rule), Some(known)) = (rule, self.known.get_mut(user)) {
            known.make_room(now, rule, switched, go)?;
        }
        let seat = Seat(self.next);
        self.next += 1;
        let known = self.known.entry(Arc::clone(user)).or_insert(User {
            open: BTreeMap::new(),
            going: 0,
        });
        let open = Open {
            since: now,
            is_going: false,
            it,
        };
        known.open.insert(seat, open);
        known.check();
        Ok(seat)
    }

    /// It has ended.
    pub fn leave(&mut self, user: &Arc<str>, seat: Seat) {
        let btree_map::Entry::Occupied(mut known) = self.known.entry(Arc::clone(user)) else {
            return;
        };
        if let Some(open) = known.get_mut().open.remove(&seat)
            && open.is_going
        {
            known.get_mut().going -= 1;
        }
        known.get().check();
        if known.get().open.is_empty() {
            known.remove();
        }
    }

    /// How many WebSockets a user has, and how many of them were told to go.
    #[must_use]
    pub fn of(&self, user: &str) -> (usize, usize) {
        self.known
            .get(user)
            .map_or((0, 0), |known| (known.open.len(), known.going))
    }

    /// How many users have one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.known.len()
    }
}

impl<T> User<T> {
    /// Makes room for one more, if there is none.
    fn make_room(
        &mut self,
        now: Time,
        rule: Rule,
        switched: impl FnOnce(&T) -> Option<Time>,
        go: impl FnOnce(&T) -> bool,
    ) -> Result<(), Full> {
        if self.open.len() - self.going < rule.most {
            return Ok(());
        }
        match rule.on_limit {
            OnLimit::RefuseNew => return Err(Full),
            OnLimit::CloseOldest if self.going >= rule.most => return Err(Full), // they do not go as fast as others come
            OnLimit::CloseOldest => {}
        }
        let Some(oldest) = self.open.values_mut().find(|open| !open.is_going) else {
            return Err(Full);
        };
        let is_young = |since: Time| now.since(since) < FIRST_SECOND;
        if is_young(oldest.since) || switched(&oldest.it).is_some_and(is_young) || !go(&oldest.it) {
            return Err(Full);
        }
        oldest.is_going = true;
        self.going += 1;
        Ok(())
    }

    fn check(&self) {
        debug_assert_eq!(
            self.going,
            self.open.values().take_while(|open| open.is_going).count(),
            "those that were told to go are the first"
        );
        debug_assert_eq!(self.going, self.open.values().filter(|open| open.is_going).count());
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::cell::Cell;

    use super::*;
    use crate::drain::splitmix64;

    const ANN: &str = "ann";

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    fn rule(most: usize, on_limit: OnLimit) -> Option<Rule> {
        Some(Rule { most, on_limit })
    }

    /// A WebSocket that has its 101 at once, and hears what it is told.
    fn come(users: &mut Users<u64>, ms: u64, user: &str, rule: Option<Rule>) -> (Result<Seat, Full>, Option<u64>) {
        let told = Cell::new(None);
        let go = |it: &u64| {
            told.set(Some(*it));
            true
        };
        let come = users.come(at(ms), &user.into(), rule, ms, |&since| Some(at(since)), go);
        (come, told.get())
    }

    #[test]
    fn at_the_limit_the_new_one_is_refused_until_one_has_gone() {
        let (mut users, rule) = (Users::default(), rule(2, OnLimit::RefuseNew));
        let (first, _) = come(&mut users, 0, ANN, rule);
        assert!(come(&mut users, 1, ANN, rule).0.is_ok());
        assert_eq!(come(&mut users, 9_000, ANN, rule), (Err(Full), None));
        assert!(come(&mut users, 2, "bob", rule).0.is_ok(), "another user");
        users.leave(&ANN.into(), first.unwrap());
        assert!(come(&mut users, 3, ANN, rule).0.is_ok());
        assert_eq!((users.of(ANN), users.count()), ((2, 0), 2));
    }

    #[test]
    fn at_the_limit_the_oldest_goes_once_it_has_been_there_for_a_second() {
        let (mut users, rule) = (Users::default(), rule(2, OnLimit::CloseOldest));
        for ms in [0, 500] {
            assert!(come(&mut users, ms, ANN, rule).0.is_ok());
        }
        assert_eq!(come(&mut users, 999, ANN, rule), (Err(Full), None));
        assert_eq!(come(&mut users, 1_000, ANN, rule).1, Some(0));
        assert_eq!(users.of(ANN), (3, 1));
        assert_eq!(
            come(&mut users, 1_499, ANN, rule),
            (Err(Full), None),
            "the next one's turn"
        );
        assert_eq!(come(&mut users, 1_500, ANN, rule).1, Some(500));
        assert_eq!(
            come(&mut users, 9_000, ANN, rule),
            (Err(Full), None),
            "as many as may be are on their way out"
        );
    }

    #[test]
    fn one_that_was_held_long_and_has_just_had_its_101_stays_and_so_does_one_that_cannot_hear() {
        let (mut users, rule, ann) = (Users::default(), rule(1, OnLimit::CloseOldest), Arc::from(ANN));
        assert!(come(&mut users, 0, ANN, rule).0.is_ok());
        let just = |_: &u64| Some(at(29_500));
        assert_eq!(users.come(at(30_000), &ann, rule, 0, just, |_| true), Err(Full));
        assert_eq!(users.come(at(40_000), &ann, rule, 0, |_| None, |_| false), Err(Full));
        assert_eq!(users.of(ANN), (1, 0));
        assert!(
            users.come(at(40_000), &ann, rule, 0, |_| None, |_| true).is_ok(),
            "held all the while"
        );
    }

    /// Any order of comings and goings, under limits that change: the bounds hold, the order of going is that of
    /// coming, and when all have gone nothing is left.
    #[test]
    fn whatever_comes_and_goes_the_bounds_hold_and_nothing_is_left() {
        for seed in 0..200 {
            let mut state = seed;
            let mut draw = |most: u64| {
                state = splitmix64(state);
                state % most
            };
            let (mut users, mut open, mut now) = (Users::default(), Vec::new(), 0);
            let most = 1 + usize::try_from(draw(4)).unwrap();
            for step in 0..300_u64 {
                now += draw(700);
                let user = ["ann", "bob", "cy"][usize::try_from(draw(3)).unwrap()];
                if draw(3) == 0 && !open.is_empty() {
                    let index = usize::try_from(draw(open.len() as u64)).unwrap();
                    let (user, seat, _): (&str, Seat, u64) = open.swap_remove(index);
                    users.leave(&user.into(), seat);
                    continue;
                }
                let on_limit = [OnLimit::RefuseNew, OnLimit::CloseOldest][usize::try_from(draw(2)).unwrap()];
                let before = users.of(user);
                let (come, told) = come(&mut users, now, user, rule(most, on_limit));
                match come {
                    Ok(seat) => open.push((user, seat, now)),
                    Err(Full) => assert_eq!(users.of(user), before, "seed {seed}, step {step}"),
                }
                let (all, going) = users.of(user);
                assert!(all - going <= most && going <= most, "seed {seed}, step {step}");
                if let Some(told) = told {
                    assert!(now - told >= 1_000, "seed {seed}, step {step}");
                }
            }
            let sum = |users: &Users<u64>| ["ann", "bob", "cy"].map(|user| users.of(user).0).iter().sum::<usize>();
            assert_eq!(sum(&users), open.len(), "seed {seed}");
            for (user, seat, _) in open {
                users.leave(&user.into(), seat);
                users.leave(&user.into(), seat); // twice is once
            }
            assert_eq!(users.count(), 0, "seed {seed}");
        }
        assert_eq!(FIRST_SECOND, Duration::from_secs(1));
    }
}
