//! How clients are held: when they are accepted, what they hear meanwhile, whose turn it is.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::Duration;

use greenroom_core::limits::{
    ACCEPT_AFTER, ACCEPT_AFTER_MAX, ALLOWED_MAX, CONFIG_NAME_MAX, FORWARD_AFTER, FORWARD_AFTER_MAX, HELD_MAX_MOST,
    RELEASE_RATE_MAX, SUBPROTOCOLS_MAX, WAITING_MESSAGE_MAX,
};

use super::super::host::host_pattern;
use super::super::model::{AllowedOrigin, Fair, ForwardAfter, Hold, HostPattern};
use super::super::problem::Problem;
use super::super::source::Place;
use super::super::units::{duration_in, show};
use super::super::words::Word;
use super::super::written::{Field, Number, Span, Texts, Written, join};
use super::Checker;
use super::needs::template;
use crate::head::is_token;

/// What a `waiting_message` can tell.
const WAITING_FIELDS: [&str; 3] = ["phase", "position", "seconds"];

/// What a route says of how its clients are held.
pub(super) struct Holds {
    pub(super) hold: Field<String>,
    pub(super) accept_after: Field<Span>,
    pub(super) subprotocols: Field<Texts>,
    pub(super) waiting_message: Field<String>,
}

/// The same, checked: what has no effect with the mode is as if nobody had said it.
pub(super) struct Holding {
    pub(super) hold: Hold,
    pub(super) accept_after: Duration,
    pub(super) subprotocols: Vec<String>,
    pub(super) waiting_message: Option<String>,
}

/// What a backend says of whose turn it is, and of how many may wait and go.
pub(super) struct Turns<F = Field<String>, N = Field<Number>> {
    pub(super) fair: F,
    pub(super) held_per_address: N,
    pub(super) held_per_key: N,
    pub(super) release_rate: N,
}

impl Checker<'_> {
    pub(super) fn holding(&mut self, path: &str, holds: Holds) -> Holding {
        let hold_key = join(path, "hold");
        let is_known = holds.hold.is_absent() || holds.hold.get().is_some_and(|hold| Hold::of(&hold.value).is_some());
        let hold_place = holds.hold.place().cloned();
        let hold = self.word(&hold_key, holds.hold, Hold::default());
        let accepts = matches!(hold, Hold::Auto | Hold::Accept);
        for (key, place, with) in [
            ("accept_after", holds.accept_after.place(), "auto"),
            ("subprotocols", holds.subprotocols.place(), "accept"),
            ("waiting_message", holds.waiting_message.place(), "accept"),
        ] {
            let has_effect = if with == "auto" { hold == Hold::Auto } else { accepts };
            if is_known && !has_effect && place.is_some() && self.sources.in_one_layer(hold_place.as_ref(), place) {
                let place = place.cloned();
                self.useless(
                    &join(path, key),
                    place.as_ref(),
                    with,
                    (&hold_key, hold, hold_place.as_ref()),
                );
            }
        }
        let after = self.duration(
            &join(path, "accept_after"),
            holds.accept_after,
            ACCEPT_AFTER,
            Duration::ZERO,
            ACCEPT_AFTER_MAX,
        );
        let subprotocols = self.subprotocols(&join(path, "subprotocols"), holds.subprotocols);
        let message_key = join(path, "waiting_message");
        if holds.waiting_message.is_absent() {
            self.note(&message_key, "none", None);
        }
        let read = |text: &str| template(text, &WAITING_FIELDS, WAITING_MESSAGE_MAX);
        let message = self.text(&message_key, holds.waiting_message, read);
        Holding {
            hold,
            accept_after: if hold == Hold::Auto { after } else { ACCEPT_AFTER },
            subprotocols: if accepts { subprotocols } else { Vec::new() },
            waiting_message: message.filter(|_| accepts).map(|message| message.value),
        }
    }

    /// A key that has no effect, as clients are held in another way.
    fn useless(&mut self, key: &str, place: Option<&Place>, with: &str, hold: (&str, Hold, Option<&Place>)) {
        let (hold_key, hold, hold_place) = hold;
        let what = match with {
            "auto" => "`hold = \"auto\"`",
            _ => "clients that are accepted while they wait",
        };
        self.problems.add(
            Problem::new(format!(
                "`{key}` is for {what}, and `{hold_key}` is \"{}\"",
                hold.word()
            ))
            .near(place)
            .related(hold_place, "said here")
            .help(format!("write hold = \"{with}\", or take the key away")),
        );
    }

    fn subprotocols(&mut self, key: &str, field: Field<Texts>) -> Vec<String> {
        let legal = |text: &str| {
            if is_token(text.as_bytes()) && text.len() <= CONFIG_NAME_MAX {
                return Ok(text.to_owned());
            }
            Err(format!(
                "{text:?} is no subprotocol: write it as clients offer it in Sec-WebSocket-Protocol, such as \"graphql-transport-ws\""
            ))
        };
        self.list(key, field, "learned from the server", SUBPROTOCOLS_MAX, legal)
            .unwrap_or_default()
    }

    pub(super) fn forward_after(&mut self, key: &str, field: Field<String>) -> Option<ForwardAfter> {
        if field.is_absent() {
            let default = format!("{} for a client that was accepted, else at once", show(FORWARD_AFTER));
            self.note(key, default, None);
        }
        let read = |text: &str| match text {
            "handshake" => Ok(ForwardAfter::Handshake),
            "first-frame" => Ok(ForwardAfter::FirstFrame),
            text if text.starts_with(|first: char| first.is_ascii_digit()) => {
                let time = duration_in(text, Duration::ZERO, FORWARD_AFTER_MAX).map_err(|error| error.to_string())?;
                Ok(ForwardAfter::Time(time))
            }
            _ => Err(format!(
                "{text:?} is not known: write \"handshake\", \"first-frame\", or a time such as \"20ms\""
            )),
        };
        self.text(key, field, read).map(|placed| placed.value)
    }

    pub(super) fn origins(&mut self, key: &str, field: Field<Texts>) -> Option<Vec<AllowedOrigin>> {
        self.list(key, field, "all", ALLOWED_MAX, AllowedOrigin::of)
    }

    pub(super) fn hosts(&mut self, key: &str, field: Field<Texts>) -> Option<Vec<HostPattern>> {
        let read = |text: &str| match host_pattern(text)? {
            HostPattern::Any => Err("\"*\" is every host: leave `hosts` out for that".to_owned()),
            pattern => Ok(pattern),
        };
        self.list(key, field, "all", ALLOWED_MAX, read)
    }

    /// An array of texts that each mean something, at least one, each once.
    pub(super) fn list<T: PartialEq + Display>(
        &mut self,
        key: &str,
        field: Field<Texts>,
        default: &str,
        max: usize,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        if field.is_absent() {
            self.note(key, default, None);
        }
        let Written { value, place } = field.present()?;
        let mut texts = value.0;
        if texts.is_empty() {
            let problem = Problem::new(format!("`{key}` is empty")).at(&place);
            self.problems
                .add(problem.help(format!("take it away; without it: {default}")));
        }
        self.at_most(&format!("texts in `{key}`"), &mut texts, max, |text| {
            Some(text.place.clone())
        });
        let mut list: Vec<T> = Vec::new();
        let mut seen = BTreeSet::new();
        for text in texts {
            match read(&text.value) {
                Ok(value) => {
                    let shown = value.to_string();
                    if !seen.insert(shown.clone()) {
                        let problem = Problem::new(format!("`{key}` has {shown:?} twice")).at(&text.place);
                        self.problems.add(problem.help("take one away"));
                    }
                    list.push(value);
                }
                Err(error) => {
                    let error = self.without_login(&text.value, &text.place, error);
                    self.problems
                        .add(Problem::new(format!("`{key}`: {error}")).at(&text.place));
                }
            }
        }
        let shown: Vec<String> = list.iter().map(ToString::to_string).collect();
        self.note(key, shown.join(", "), Some(&place));
        Some(list)
    }

    pub(super) fn turns(&mut self, path: &str, turns: Turns) -> Turns<Fair, Option<usize>> {
        let (fair, per_key) = (turns.fair, turns.held_per_key);
        let (fair_key, key) = (join(path, "fair"), join(path, "held_per_key"));
        if fair.is_absent() {
            self.note(&fair_key, "no", None);
        }
        let (is_wrong, fair_place) = (fair.is_wrong(), fair.place().cloned());
        let was_written = fair_place.is_some();
        let read = self.text(&fair_key, fair, fair_of);
        let is_known = !is_wrong && read.is_some() == was_written;
        let fair = read.map_or(Fair::No, |read| read.value);
        let by_header = matches!(fair, Fair::Header(_));
        let place = per_key.place().cloned();
        if is_known && !by_header && place.is_some() && self.sources.in_one_layer(fair_place.as_ref(), place.as_ref()) {
            self.problems.add(
                Problem::new(format!(
                    "`{key}` is for `fair = \"header:NAME\"`: without a header there are no keys that clients are told apart by"
                ))
                .near(place.as_ref())
                .related(fair_place.as_ref(), "said here")
                .help("write fair = \"header:NAME\"; for a number of each address there is `held_per_address`"),
            );
        }
        let mut number = |key: &str, field, without, max| self.at_will(&join(path, key), field, without, max);
        let held_per_address = number("held_per_address", turns.held_per_address, "no limit", HELD_MAX_MOST);
        let held_per_key = number("held_per_key", per_key, "no limit", HELD_MAX_MOST);
        let release_rate = number(
            "release_rate",
            turns.release_rate,
            "as fast as it answers",
            RELEASE_RATE_MAX,
        );
        Turns {
            fair,
            held_per_address,
            held_per_key: held_per_key.filter(|_| by_header),
            release_rate,
        }
    }

    /// A number that may be left out.
    pub(super) fn at_will(&mut self, key: &str, field: Field<Number>, without: &str, max: usize) -> Option<usize> {
        if field.is_absent() {
            self.note(key, without, None);
            return None;
        }
        field.get()?;
        Some(self.number(key, field, max, max))
    }
}

/// Reads by what turns are shared.
fn fair_of(text: &str) -> Result<Fair, String> {
    match text {
        "no" => return Ok(Fair::No),
        "address" => return Ok(Fair::Address),
        _ => {}
    }
    let example = "write \"no\", \"address\", or \"header:NAME\" such as \"header:X-Tenant\"";
    let Some(name) = text.strip_prefix("header:") else {
        return Err(format!("{text:?} is not known: {example}"));
    };
    if !is_token(name.as_bytes()) || name.len() > CONFIG_NAME_MAX {
        return Err(format!("{name:?} is no name of a header field: {example}"));
    }
    Ok(Fair::Header(name.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_shared_by_nothing_by_address_or_by_a_header() {
        assert_eq!(fair_of("no"), Ok(Fair::No));
        assert_eq!(fair_of("address"), Ok(Fair::Address));
        assert_eq!(fair_of("header:X-Tenant"), Ok(Fair::Header("x-tenant".into())));
        for text in ["", "yes", "header", "header:", "header:a b", "Header:X", "x-tenant"] {
            assert!(fair_of(text).unwrap_err().contains("header:NAME"), "{text}");
        }
    }

    #[test]
    fn a_waiting_message_tells_phase_position_and_seconds() {
        let read = |text: &str| template(text, &WAITING_FIELDS, WAITING_MESSAGE_MAX);
        for text in [
            "wait",
            "{\"p\":\"{phase}\",\"n\":{position},\"s\":{seconds}}",
            "{}",
            "{ phase }",
            "{1}",
        ] {
            assert_eq!(read(text), Ok(text.to_owned()));
        }
        for (text, said) in [
            ("", "is empty"),
            ("{phase}{phase}", "twice"),
            ("{second}", "{seconds}?"),
            ("{Position}", "{position}?"),
            ("{time_left}", "there are {phase}, {position} and {seconds}"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        assert!(read(&"a".repeat(WAITING_MESSAGE_MAX)).is_ok());
        assert!(read(&"a".repeat(WAITING_MESSAGE_MAX + 1)).is_err());
    }
}
