//! Decides whether one user may open another WebSocket, and which of its own gives way.
//!
//! A user is a text: the same text is the same user, whatever route it came by. Its WebSockets stand in the order in which
//! they came. Where the limit is reached, either the new one is refused, or the oldest is told to go and the new one comes
//! in: not before the oldest has been there, and has had its 101, for [`FIRST_SECOND`], as many clients reconnect at once when they are closed, and
//! two of them would drive each other out for ever. Who was told to go is counted apart until it has gone.
//!
//! One that is open goes only when the new one is let in ([`Users::let_in`]), as its backend may refuse that; until then the
//! new one is over the limit, and counted apart too. One that still waits itself has nothing to lose, and goes at once.
//!
//! Where it has more than it may, as the limit was higher when they came, the oldest of them go when the next one comes, whether
//! that is let in or not: at most [`USER_EXCESS_MAX`] at a time, and none within its first second.
//!
//! Bounded by the connections that there are: a user without any is forgotten. Under a limit of N a user has at most
//! N WebSockets that stay, and N that were told to go or are over it, beside those that a higher limit has let in.

use std::collections::{BTreeMap, btree_map};
use std::sync::Arc;

use crate::limits::{FIRST_SECOND, USER_EXCESS_MAX};
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
    /// So many of them were told to go.
    going: usize,
    /// So many of these only because the limit is lower than it was.
    excess: usize,
    /// So many are over the limit until they are let in.
    over: usize,
}

#[derive(Debug)]
struct Open<T> {
    since: Time,
    stand: Stand,
    it: T,
}

/// How it stands with one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// It has its place.
    Firm,
    /// It is not let in yet, and came when the user had so many already.
    Over(usize),
    /// It was told to go.
    Going,
    /// The same, as the limit is lower than it was: it makes room for nobody.
    Excess,
}

impl Stand {
    fn is_going(self) -> bool {
        match self {
            Self::Going | Self::Excess => true,
            Self::Firm | Self::Over(_) => false,
        }
    }
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
    /// A WebSocket of this user comes. Where it may, its end is told by [`Users::leave`], and before that, once it has its 101,
    /// [`Users::let_in`].
    ///
    /// `switched` says of another one since when it has its 101, if it has one. `go` tells one to go, and whether
    /// it heard: one that cannot hear it stays, and where the new one needed its place that is refused.
    pub fn come(
        &mut self,
        now: Time,
        user: &Arc<str>,
        rule: Option<Rule>,
        it: T,
        switched: impl Fn(&T) -> Option<Time>,
        go: impl Fn(&T) -> bool,
    ) -> Result<Seat, Full> {
        let stand = match (rule, self.known.get_mut(user)) {
            (Some(rule), Some(known)) => {
                known.keep_to(now, rule, &switched, &go);
                known.make_room(now, rule, switched, go)?
            }
            (None, _) | (_, None) => Stand::Firm,
        };
        let seat = Seat(self.next);
        self.next += 1;
        let known = self.known.entry(Arc::clone(user)).or_insert(User {
            open: BTreeMap::new(),
            going: 0,
            excess: 0,
            over: 0,
        });
        known.open.insert(seat, Open { since: now, stand, it });
        known.count();
        Ok(seat)
    }

    /// It has its 101. Where it was over the limit, and the user has too many still, `go` tells the oldest that is open to go.
    pub fn let_in(&mut self, user: &Arc<str>, seat: Seat, go: impl FnOnce(&T)) {
        let Some(known) = self.known.get_mut(user) else {
            return;
        };
        let Some(open) = known.open.get_mut(&seat) else {
            return;
        };
        let Stand::Over(most) = open.stand else { return };
        open.stand = Stand::Firm;
        known.count();
        if known.firm() <= most {
            return;
        }
        let mut others = known.open.iter_mut().filter(|(other, _)| **other != seat);
        if let Some((_, oldest)) = others.find(|(_, open)| open.stand == Stand::Firm) {
            go(&oldest.it);
            oldest.stand = Stand::Going;
        }
        known.count();
    }

    /// It has ended.
    pub fn leave(&mut self, user: &Arc<str>, seat: Seat) {
        let btree_map::Entry::Occupied(mut known) = self.known.entry(Arc::clone(user)) else {
            return;
        };
        known.get_mut().open.remove(&seat);
        known.get_mut().count();
        if known.get().open.is_empty() {
            known.remove();
        }
    }

    /// How many WebSockets a user has, how many of them were told to go, and how many are over the limit until they are let in.
    #[must_use]
    pub fn of(&self, user: &str) -> (usize, usize, usize) {
        self.known
            .get(user)
            .map_or((0, 0, 0), |known| (known.open.len(), known.going, known.over))
    }

    /// How many users have one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.known.len()
    }
}

impl<T> User<T> {
    /// The oldest go of those that are more than there may be by now.
    fn keep_to(&mut self, now: Time, rule: Rule, switched: impl Fn(&T) -> Option<Time>, go: impl Fn(&T) -> bool) {
        let too_many = self.firm().saturating_sub(rule.most).min(USER_EXCESS_MAX);
        if too_many == 0 || rule.on_limit == OnLimit::RefuseNew {
            return;
        }
        let firm = self.open.values_mut().filter(|open| open.stand == Stand::Firm);
        let mut told = 0;
        for open in firm {
            if told == too_many {
                break;
            }
            let is_young = is_young(now, open.since, switched(&open.it));
            if !is_young && go(&open.it) {
                open.stand = Stand::Excess;
                told += 1;
            }
        }
        self.count();
    }

    /// Makes room for one more, if there is none, or says that there will be.
    fn make_room(
        &mut self,
        now: Time,
        rule: Rule,
        switched: impl Fn(&T) -> Option<Time>,
        go: impl Fn(&T) -> bool,
    ) -> Result<Stand, Full> {
        let Some(too_many) = (self.open.len() - self.going).checked_sub(rule.most) else {
            return Ok(Stand::Firm);
        };
        match rule.on_limit {
            OnLimit::RefuseNew => return Err(Full),
            OnLimit::CloseOldest if self.going - self.excess + too_many >= rule.most => return Err(Full), // they do not go as fast as others come
            OnLimit::CloseOldest => {}
        }
        // Before it so many others have come that each will cost an older one its place.
        let mut staying = self.open.values_mut().filter(|open| !open.stand.is_going());
        let Some(oldest) = staying.nth(too_many) else {
            return Err(Full);
        };
        let since = switched(&oldest.it);
        if is_young(now, oldest.since, since) {
            return Err(Full);
        }
        if since.is_some() {
            return Ok(Stand::Over(rule.most));
        }
        if !go(&oldest.it) {
            return Err(Full);
        }
        let before = std::mem::replace(&mut oldest.stand, Stand::Going);
        Ok(before) // it has the place of that one, as far as that had one
    }

    /// Those that stay.
    fn firm(&self) -> usize {
        self.open.len() - self.going - self.over
    }

    fn count(&mut self) {
        let count = |is: fn(Stand) -> bool| self.open.values().filter(|open| is(open.stand)).count();
        (self.going, self.excess, self.over) = (
            count(Stand::is_going),
            count(|stand| stand == Stand::Excess),
            count(|stand| matches!(stand, Stand::Over(_))),
        );
    }
}

/// Whether one that came then, and had its 101 then, is still in the first second of either.
fn is_young(now: Time, came: Time, switched: Option<Time>) -> bool {
    let is_new = |since: Time| now.since(since) < FIRST_SECOND;
    is_new(came) || switched.is_some_and(is_new)
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

    /// A WebSocket that has its 101 at once, and hears what it is told: its seat, and who went for it.
    fn come(users: &mut Users<u64>, ms: u64, user: &str, rule: Option<Rule>) -> (Result<Seat, Full>, Option<u64>) {
        let come = comes(users, ms, user, rule);
        let told = come.ok().and_then(|seat| let_in(users, user, seat));
        (come, told)
    }

    /// The same before its 101; all others have theirs.
    fn comes(users: &mut Users<u64>, ms: u64, user: &str, rule: Option<Rule>) -> Result<Seat, Full> {
        let switched = |&since: &u64| Some(at(since));
        users.come(at(ms), &user.into(), rule, ms, switched, |_| {
            panic!("all have their 101")
        })
    }

    fn let_in(users: &mut Users<u64>, user: &str, seat: Seat) -> Option<u64> {
        let told = Cell::new(None);
        users.let_in(&user.into(), seat, |&it| told.set(Some(it)));
        told.get()
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
        assert_eq!((users.of(ANN), users.count()), ((2, 0, 0), 2));
    }

    #[test]
    fn at_the_limit_the_oldest_goes_once_it_has_been_there_for_a_second() {
        let (mut users, rule) = (Users::default(), rule(2, OnLimit::CloseOldest));
        for ms in [0, 500] {
            assert!(come(&mut users, ms, ANN, rule).0.is_ok());
        }
        assert_eq!(come(&mut users, 999, ANN, rule), (Err(Full), None));
        assert_eq!(come(&mut users, 1_000, ANN, rule).1, Some(0));
        assert_eq!(users.of(ANN), (3, 1, 0));
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
    fn after_the_limit_was_lowered_the_next_one_sends_as_many_of_the_oldest_away_as_it_takes() {
        let (mut users, ann, told) = (
            Users::default(),
            Arc::<str>::from(ANN),
            std::cell::RefCell::new(Vec::new()),
        );
        let comes = |users: &mut Users<u64>, ms: u64, most: usize, on_limit: OnLimit| {
            let switched = |&since: &u64| Some(at(since));
            let come = users.come(at(ms), &ann, rule(most, on_limit), ms, switched, |&it| {
                told.borrow_mut().push(it);
                true
            });
            let seat = come.ok();
            if let Some(seat) = seat {
                users.let_in(&ann, seat, |&it| told.borrow_mut().push(it));
            }
            (seat.is_some(), told.take())
        };
        for ms in 0..6 {
            assert!(comes(&mut users, ms, 8, OnLimit::CloseOldest).0);
        }
        let none = Vec::new();
        assert_eq!(
            comes(&mut users, 2_000, 2, OnLimit::RefuseNew),
            (false, none.clone()),
            "only the new one"
        );
        assert_eq!(
            comes(&mut users, 500, 2, OnLimit::CloseOldest),
            (false, none),
            "all are young"
        );
        assert_eq!(
            comes(&mut users, 2_000, 2, OnLimit::CloseOldest),
            (true, vec![0, 1, 2, 3, 4])
        );
        assert_eq!(
            users.of(ANN),
            (7, 5, 0),
            "two stay: the last of the six, and the new one"
        );
    }

    #[test]
    fn each_that_is_over_the_limit_has_another_older_one_that_will_go_for_it() {
        let (mut users, rule) = (Users::default(), rule(2, OnLimit::CloseOldest));
        for ms in [0, 1_500] {
            assert!(come(&mut users, ms, ANN, rule).0.is_ok());
        }
        assert!(comes(&mut users, 2_000, ANN, rule).is_ok(), "for it the first will go");
        assert_eq!(comes(&mut users, 2_001, ANN, rule), Err(Full), "the second is young");
        assert!(comes(&mut users, 2_500, ANN, rule).is_ok());
    }

    /// Two that have their places, one that came over a limit of two, and two more that a limit of eight has let in.
    fn under_two_limits(users: &mut Users<u64>) -> (Seat, [Seat; 2]) {
        let (two, eight) = (rule(2, OnLimit::CloseOldest), rule(8, OnLimit::CloseOldest));
        let first = [0, 1].map(|ms| come(users, ms, ANN, two).0.unwrap());
        let over = comes(users, 2_000, ANN, two).unwrap();
        for ms in [2_001, 2_002] {
            assert_eq!(come(users, ms, ANN, eight).1, None);
        }
        assert_eq!(users.of(ANN), (5, 0, 1));
        (over, first)
    }

    #[test]
    fn a_lowered_limit_passes_over_who_cannot_hear_and_who_has_no_place_yet() {
        let (mut users, told) = (Users::default(), std::cell::RefCell::new(Vec::new()));
        under_two_limits(&mut users);
        let switched = |&since: &u64| Some(at(since));
        let come = users.come(
            at(9_000),
            &ANN.into(),
            rule(1, OnLimit::CloseOldest),
            9_000,
            switched,
            |&it| {
                let hears = it != 0;
                told.borrow_mut().extend(hears.then_some(it));
                hears
            },
        );
        assert_eq!((come, told.take()), (Err(Full), vec![1, 2_001, 2_002]));
    }

    #[test]
    fn one_that_is_let_in_never_goes_for_itself() {
        let mut users = Users::default();
        let (over, first) = under_two_limits(&mut users);
        for seat in first {
            users.leave(&ANN.into(), seat);
        }
        assert_eq!(let_in(&mut users, ANN, over), Some(2_001), "it is the oldest");
    }

    #[test]
    fn how_many_go_at_once_after_a_limit_was_lowered_is_bounded() {
        let (mut users, ann) = (Users::<u64>::default(), Arc::<str>::from(ANN));
        let most = 3 * USER_EXCESS_MAX;
        for ms in 0..most as u64 {
            assert!(come(&mut users, ms, ANN, rule(most, OnLimit::CloseOldest)).0.is_ok());
        }
        let late = |users: &mut Users<u64>| {
            let switched = |&since: &u64| Some(at(since));
            let _ = users.come(at(9_000), &ann, rule(1, OnLimit::CloseOldest), 9_000, switched, |_| {
                true
            });
            users.of(ANN).1
        };
        assert_eq!(late(&mut users), USER_EXCESS_MAX);
        assert_eq!(late(&mut users), 2 * USER_EXCESS_MAX);
        assert_eq!(late(&mut users), most - 1, "one may stay");
    }

    #[test]
    fn one_that_was_held_long_and_has_just_had_its_101_stays_and_so_does_one_that_cannot_hear() {
        let (mut users, rule, ann) = (Users::default(), rule(1, OnLimit::CloseOldest), Arc::from(ANN));
        assert!(come(&mut users, 0, ANN, rule).0.is_ok());
        let just = |_: &u64| Some(at(29_500));
        assert_eq!(users.come(at(30_000), &ann, rule, 0, just, |_| true), Err(Full));
        assert_eq!(users.come(at(40_000), &ann, rule, 0, |_| None, |_| false), Err(Full));
        assert_eq!(users.of(ANN), (1, 0, 0));
        assert!(
            users.come(at(40_000), &ann, rule, 0, |_| None, |_| true).is_ok(),
            "held all the while"
        );
    }

    #[test]
    fn nobody_goes_for_one_that_is_not_let_in() {
        let (mut users, rule) = (Users::default(), rule(2, OnLimit::CloseOldest));
        for ms in [0, 1] {
            assert!(come(&mut users, ms, ANN, rule).0.is_ok());
        }
        let refused = comes(&mut users, 2_000, ANN, rule).unwrap();
        let other = comes(&mut users, 2_001, ANN, rule).unwrap();
        assert_eq!(users.of(ANN), (4, 0, 2), "over the limit, both");
        assert_eq!(
            comes(&mut users, 2_002, ANN, rule),
            Err(Full),
            "and no more than it may have"
        );
        users.leave(&ANN.into(), refused); // its backend said 403
        assert_eq!(users.of(ANN), (3, 0, 1));
        assert_eq!(let_in(&mut users, ANN, other), Some(0));
        assert_eq!(let_in(&mut users, ANN, other), None, "once");
        assert_eq!(users.of(ANN), (3, 1, 0));
    }

    #[test]
    fn nobody_goes_for_one_that_is_let_in_when_there_is_room_again() {
        let (mut users, rule) = (Users::default(), rule(1, OnLimit::CloseOldest));
        let (first, _) = come(&mut users, 0, ANN, rule);
        let second = comes(&mut users, 2_000, ANN, rule).unwrap();
        users.leave(&ANN.into(), first.unwrap());
        assert_eq!(let_in(&mut users, ANN, second), None);
        assert_eq!(users.of(ANN), (1, 0, 0));
    }

    /// Any order of comings and goings, under limits that change: the bounds hold, the order of going is that of
    /// coming, and when all have gone nothing is left.
    #[test]
    fn whatever_comes_and_goes_the_bounds_hold_and_nothing_is_left() {
        for seed in 0..200 {
            any_order(seed);
        }
        assert_eq!(FIRST_SECOND, Duration::from_secs(1));
    }

    /// One of them: who it is, when it came, when it had its 101, and whether it was told to go.
    type One = std::rc::Rc<(u64, Cell<Option<u64>>, Cell<bool>)>;

    fn any_order(seed: u64) {
        let mut state = seed;
        let mut draw = |most: u64| {
            state = splitmix64(state);
            state % most
        };
        let (mut users, mut open, mut now) = (Users::<One>::default(), Vec::new(), 0);
        let most = 1 + usize::try_from(draw(4)).unwrap();
        for step in 0..300_u64 {
            now += draw(700);
            let user = ["ann", "bob", "cy"][usize::try_from(draw(3)).unwrap()];
            let what = draw(6);
            let index = usize::try_from(draw(open.len().max(1) as u64)).unwrap();
            let go = |it: &One| {
                let since = it.1.get().unwrap_or(it.0);
                assert!(!it.2.replace(true) && now - since >= 1_000, "seed {seed}, step {step}");
                true
            };
            if what < 2 && !open.is_empty() {
                let (user, seat, _): (&str, Seat, One) = open.swap_remove(index);
                users.leave(&user.into(), seat);
            } else if what < 4 && !open.is_empty() {
                let (user, seat, it): &(&str, Seat, One) = &open[index];
                if it.1.get().is_none() && !it.2.get() {
                    it.1.set(Some(now));
                    users.let_in(&(*user).into(), *seat, |it| assert!(go(it)));
                }
            } else {
                let on_limit = [OnLimit::RefuseNew, OnLimit::CloseOldest][usize::try_from(draw(2)).unwrap()];
                let before = users.of(user);
                let it = One::new((now, Cell::new(None), Cell::new(false)));
                let switched = |it: &One| it.1.get().map(at);
                match users.come(
                    at(now),
                    &user.into(),
                    rule(most, on_limit),
                    One::clone(&it),
                    switched,
                    go,
                ) {
                    Ok(seat) => open.push((user, seat, it)),
                    Err(Full) => assert_eq!(users.of(user), before, "seed {seed}, step {step}"),
                }
            }
            for user in ["ann", "bob", "cy"] {
                let (all, going, over) = users.of(user);
                assert!(
                    all - going - over <= most && all <= 2 * most,
                    "seed {seed}, step {step}"
                );
                let told = open.iter().filter(|(other, _, it)| *other == user && it.2.get());
                assert_eq!(told.count(), going, "seed {seed}, step {step}");
            }
        }
        let sum = |users: &Users<One>| ["ann", "bob", "cy"].map(|user| users.of(user).0).iter().sum::<usize>();
        assert_eq!(sum(&users), open.len(), "seed {seed}");
        for (user, seat, _) in open {
            users.leave(&user.into(), seat);
            users.leave(&user.into(), seat); // twice is once
        }
        assert_eq!(users.count(), 0, "seed {seed}");
    }
}
