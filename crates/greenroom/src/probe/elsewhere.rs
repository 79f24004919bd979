//! Says when CMD listens elsewhere than greenroom connects to.
//!
//! [`elsewhere`] looks where the child's family listens; [`Elsewhere`] decides,
//! from looks and their times, whether to tell the user, which it does once. It
//! remembers at most [`limits::ELSEWHERE_PLACES_MAX`] places.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use greenroom_core::limits;
use greenroom_core::time::Time;

use super::family::sockets_of;
use super::table::Table;
use crate::config::Address;

/// Where a process listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A TCP socket.
    Tcp(SocketAddr),
    /// A Unix socket with a path.
    Unix(PathBuf),
}

/// As `--backend` takes it: a wildcard address as loopback.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(at) => {
                let ip = match at.ip() {
                    // An IPv6 wildcard takes IPv4 too, unless told otherwise.
                    ip if ip.is_unspecified() => IpAddr::from(Ipv4Addr::LOCALHOST),
                    IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
                    ip @ IpAddr::V4(_) => ip,
                };
                SocketAddr::new(ip, at.port()).fmt(f)
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Place {
    /// Whether who connects to `address` comes here. A name may mean any address of this machine.
    fn is_at(&self, address: &Address) -> bool {
        match (self, address) {
            (Self::Unix(here), Address::Unix(there)) => here == there,
            (Self::Tcp(at), Address::Tcp { host, port }) => {
                let is_there = |there: IpAddr| there.is_unspecified() || at.ip().to_canonical() == there.to_canonical();
                at.port() == *port && (at.ip().is_unspecified() || host.parse().map_or(true, is_there))
            }
            (Self::Unix(_), Address::Tcp { .. }) | (Self::Tcp(_), Address::Unix(_)) => false,
        }
    }
}

/// Where the processes of the child's family listen, sorted; empty when that cannot be seen.
///
/// Reads the whole process table: for now and then, not for each look of a probe.
pub async fn elsewhere(child: u32) -> Vec<Place> {
    let look = tokio::task::spawn_blocking(move || {
        let sockets = sockets_of(child).inodes;
        let mut table = Table::open();
        let tcp = table.tcp(0).unwrap_or_default().into_iter();
        let tcp = tcp.filter(|l| sockets.contains(&l.inode)).map(|l| match l.at {
            SocketAddr::V6(at) if l.v6_only && at.ip().is_unspecified() => {
                Place::Tcp((Ipv6Addr::LOCALHOST, at.port()).into()) // 127.0.0.1 would not reach it
            }
            at => Place::Tcp(at),
        });
        let unix = table.unix().unwrap_or_default().into_iter();
        let unix = unix
            .filter(|l| sockets.contains(&l.inode))
            .filter_map(|l| l.path.map(Place::Unix));
        let mut places: Vec<Place> = tcp.chain(unix).collect();
        places.sort();
        places.dedup(); // SO_REUSEPORT: one place, many sockets
        places
    });
    look.await.unwrap_or_default()
}

/// Decides when to say that CMD listens elsewhere.
#[derive(Debug)]
pub struct Elsewhere {
    expected: Address,
    chosen: bool,
    /// Places, and since when each has been seen at every look.
    since: Vec<(Place, Time)>,
    told: bool,
}

impl Elsewhere {
    /// `chosen`: greenroom chose the address itself, and told it to CMD as PORT and `{port}`.
    #[must_use]
    pub fn new(expected: &Address, chosen: bool) -> Self {
        Self {
            expected: expected.clone(),
            chosen,
            since: Vec::new(),
            told: false,
        }
    }

    /// Takes one look: whether the backend is seen to be ready, and
    /// where the child's family listens. Answers with the sentence, once, after
    /// [`limits::ELSEWHERE_AFTER`] without a look that says otherwise: a child that listens
    /// at the expected address too is only not ready.
    pub fn observe(&mut self, now: Time, expected_up: bool, places: &[Place]) -> Option<String> {
        if expected_up || self.told || places.iter().any(|place| place.is_at(&self.expected)) {
            self.since.clear();
            return None;
        }
        self.since.retain(|(place, _)| places.contains(place));
        for place in places {
            let known = self.since.iter().any(|(seen, _)| seen == place);
            if !known && self.since.len() < limits::ELSEWHERE_PLACES_MAX {
                self.since.push((place.clone(), now));
            }
        }
        let lasting = |&&(_, since): &&(Place, Time)| now.since(since) >= limits::ELSEWHERE_AFTER;
        let mut lasting = self.since.iter().filter(lasting).map(|(place, _)| place);
        let first = lasting.next()?;
        let more = lasting.count();
        self.told = true;
        let sentence = self.sentence(first, more);
        self.since.clear();
        Some(sentence)
    }

    fn sentence(&self, first: &Place, more: usize) -> String {
        let and_more = match more {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let expected = match &self.expected {
            Address::Tcp { port, .. } if self.chosen => port.to_string(),
            other => other.to_string(),
        };
        let advice = if self.chosen {
            format!("add --backend {first} or use {{port}}")
        } else {
            format!("change --backend to {first}, or CMD's address to {expected}")
        };
        format!("CMD listens on {first}{and_more}, not on {expected}: {advice}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_core::limits::ELSEWHERE_AFTER;
    use std::time::Duration;

    const START: Time = Time::from_millis(500);

    fn places(texts: &[&str]) -> Vec<Place> {
        let place = |text: &&str| {
            text.strip_prefix("unix:")
                .map_or_else(|| Place::Tcp(text.parse().unwrap()), |path| Place::Unix(path.into()))
        };
        texts.iter().map(place).collect()
    }

    fn chosen() -> Elsewhere {
        Elsewhere::new(&"127.0.0.1:41234".parse().unwrap(), true)
    }

    #[test]
    fn after_a_second_elsewhere_it_is_said_once() {
        let (mut elsewhere, seen) = (chosen(), places(&["127.0.0.1:8000"]));
        assert_eq!(elsewhere.observe(START, false, &seen), None);
        let early = START + (ELSEWHERE_AFTER - Duration::from_millis(1));
        assert_eq!(elsewhere.observe(early, false, &seen), None, "one millisecond early");
        let said = elsewhere.observe(START + ELSEWHERE_AFTER, false, &seen).unwrap();
        assert_eq!(
            said,
            "CMD listens on 127.0.0.1:8000, not on 41234: add --backend 127.0.0.1:8000 or use {port}"
        );
        assert_eq!(elsewhere.observe(START + ELSEWHERE_AFTER * 9, false, &seen), None);
    }

    #[test]
    fn a_wildcard_is_shown_as_loopback_and_others_are_counted() {
        let seen = places(&["0.0.0.0:8000", "[::]:9000", "unix:/run/app.sock"]);
        let mut elsewhere = Elsewhere::new(&"unix:/run/x.sock".parse().unwrap(), false);
        assert_eq!(elsewhere.observe(START, false, &seen), None);
        assert_eq!(
            elsewhere.observe(START + ELSEWHERE_AFTER, false, &seen).unwrap(),
            "CMD listens on 127.0.0.1:8000 and 2 more, not on unix:/run/x.sock: \
             change --backend to 127.0.0.1:8000, or CMD's address to unix:/run/x.sock"
        );
        let shown: Vec<String> = seen[1..].iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["127.0.0.1:9000", "unix:/run/app.sock"]);
    }

    #[test]
    fn listening_at_the_right_place_too_says_nothing_and_starts_anew() {
        let (mut elsewhere, seen) = (chosen(), places(&["127.0.0.1:9229"]));
        assert_eq!(elsewhere.observe(START, false, &seen), None);
        assert_eq!(elsewhere.observe(START + ELSEWHERE_AFTER, true, &seen), None);
        assert_eq!(
            elsewhere.observe(START + ELSEWHERE_AFTER * 2, false, &seen),
            None,
            "anew"
        );
    }

    #[test]
    fn who_listens_where_it_is_expected_is_only_not_ready() {
        for (expected, seen, warned) in [
            ("127.0.0.1:41234", "127.0.0.1:41234", false),
            ("127.0.0.1:41234", "0.0.0.0:41234", false),
            ("127.0.0.1:41234", "[::]:41234", false),
            ("localhost:41234", "[::1]:41234", false),
            ("127.0.0.1:41234", "[::1]:41234", true),
            ("127.0.0.1:41234", "127.0.0.1:41235", true),
            ("unix:/run/a.sock", "unix:/run/a.sock", false),
            ("unix:/run/a.sock", "unix:/run/b.sock", true),
        ] {
            let mut elsewhere = Elsewhere::new(&expected.parse().unwrap(), true);
            let seen = places(&[seen, "127.0.0.1:9229"]);
            let is_warned = (0..3).any(|times| {
                elsewhere
                    .observe(START + ELSEWHERE_AFTER * times, false, &seen)
                    .is_some()
            });
            assert_eq!(is_warned, warned, "{expected} {seen:?}");
        }
    }

    #[test]
    fn a_place_that_came_and_went_starts_anew() {
        let (mut elsewhere, seen) = (chosen(), places(&["127.0.0.1:8000"]));
        assert_eq!(elsewhere.observe(START, false, &seen), None);
        assert_eq!(elsewhere.observe(START + ELSEWHERE_AFTER / 2, false, &[]), None);
        assert_eq!(elsewhere.observe(START + ELSEWHERE_AFTER, false, &seen), None);
        assert!(elsewhere.observe(START + ELSEWHERE_AFTER * 2, false, &seen).is_some());
    }

    #[test]
    fn the_places_remembered_are_bounded() {
        let many: Vec<Place> = (1..=500_u16)
            .map(|port| Place::Tcp(([127, 0, 0, 1], port).into()))
            .collect();
        let mut elsewhere = chosen();
        assert_eq!(elsewhere.observe(START, false, &many), None);
        assert_eq!(elsewhere.since.len(), limits::ELSEWHERE_PLACES_MAX);
    }
}
