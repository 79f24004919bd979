//! How clients are closed: at a stop, and by command; and whether there is time for it.

use std::time::Duration;

use greenroom_core::drain::Pace;
use greenroom_core::limits::{DRAIN_RATE_MAX, DRAIN_REASON_MAX, DRAIN_WINDOW_MAX, DRAIN_WITHIN_MIN, GRACE_MAX};
use greenroom_core::wire::CloseCode;

use super::super::drain::{Drain, DrainKind, Manner, usual_pace};
use super::super::model::Backend;
use super::super::problem::Problem;
use super::super::source::Place;
use super::super::units::{duration_in, show};
use super::super::written::{self, Field, Number, Span, join};
use super::{Checker, Placed};

/// What a manner is where nothing else is written.
struct Usual<'a> {
    pace: Pace,
    /// What `check --explain` says of that.
    said: &'a str,
    code: CloseCode,
    reason: &'a str,
}

impl Checker<'_> {
    pub(super) fn drain(
        &mut self,
        field: Field<written::Drain>,
        grace: Duration,
        backends: &[Placed<Backend>],
    ) -> Drain {
        let written = field.present().map(|written| written.value).unwrap_or_default();
        let window = written.window.place().cloned();
        let manner = written::Manner {
            window: written.window,
            rate: written.rate,
            code: written.code,
            reason: written.reason,
            place: written.place,
        };
        let usual = Usual {
            pace: usual_pace(grace),
            said: "2 ms for each client",
            code: CloseCode::GOING_AWAY,
            reason: "",
        };
        let stop = self.manner("drain", manner, &usual);
        let tables = [written.deploy, written.reload, written.scale_down, written.evict];
        let kinds = DrainKind::ALL.into_iter().zip(tables).map(|(kind, field)| {
            let table = field.present().map(|written| written.value).unwrap_or_default();
            let usual = Usual {
                pace: stop.pace,
                said: "as drain",
                code: kind.code(),
                reason: &stop.reason,
            };
            self.manner(&join("drain", kind.word()), table, &usual)
        });
        let kinds: Vec<Manner> = kinds.collect();
        let mut drain = Drain {
            stop,
            ..Drain::plain(grace)
        };
        for (into, manner) in drain.kinds.iter_mut().zip(kinds) {
            *into = manner;
        }
        self.fits_grace(&drain, grace, window.as_ref());
        let said = written.within.place().cloned();
        drain.within = self.span(
            "drain.within",
            written.within,
            (DRAIN_WITHIN_MIN, GRACE_MAX),
            "not said",
        );
        self.fits_within(&drain, grace, backends, said.as_ref());
        drain
    }

    fn manner(&mut self, path: &str, written: written::Manner, usual: &Usual<'_>) -> Manner {
        let both = written.window.place().cloned().zip(written.rate.place().cloned());
        let key = |key: &str| join(path, key);
        let range = (Duration::ZERO, DRAIN_WINDOW_MAX);
        let window = self.span(&key("window"), written.window, range, usual.said);
        let rate = self.at_will(&key("rate"), written.rate, "as the window says", DRAIN_RATE_MAX);
        if let Some((window, rate)) = both {
            self.problems.add(
                Problem::new(format!("`{}` and `{}` both say how fast", key("window"), key("rate")))
                    .at(&rate)
                    .related(Some(&window), "the other is here")
                    .help("leave one of them out"),
            );
        }
        Manner {
            pace: match (window, rate.and_then(|rate| u32::try_from(rate).ok())) {
                (Some(window), _) => Pace::Window(window),
                (None, Some(rate)) => Pace::Rate(rate),
                (None, None) => usual.pace,
            },
            code: self.close_code(&key("code"), written.code, usual.code),
            reason: self.close_words(&key("reason"), written.reason, usual.reason),
        }
    }

    /// A duration that may be left out.
    fn span(
        &mut self,
        key: &str,
        field: Field<Span>,
        (min, max): (Duration, Duration),
        without: &str,
    ) -> Option<Duration> {
        if field.is_absent() {
            self.note(key, without, None);
        }
        self.text(key, field, |text| duration_in(text, min, max))
            .map(|placed| placed.value)
    }

    fn close_code(&mut self, key: &str, field: Field<Number>, default: CloseCode) -> CloseCode {
        if field.is_absent() {
            self.note(key, default, None);
        }
        let Some(written) = field.present() else { return default };
        let code = u16::try_from(written.value.0).ok().and_then(CloseCode::new);
        if let Some(code) = code {
            self.note(key, code, Some(&written.place));
            return code;
        }
        let found = self.sources.text(&written.place);
        self.problems.add(
            Problem::new(format!("`{key}` is {found}, which no Close may say (RFC 6455 §7.4)"))
                .at(&written.place)
                .help("write 1001 (it goes away), 1012 (it comes back), another of 1000 to 1014, or your own from 3000 to 4999"),
        );
        default
    }

    fn close_words(&mut self, key: &str, field: Field<String>, default: &str) -> String {
        if field.is_absent() {
            self.note(key, if default.is_empty() { "none" } else { default }, None);
        }
        let read = |text: &str| match words_fit(text) {
            Ok(()) => Ok(text.to_owned()),
            Err(error) => Err(error),
        };
        self.text(key, field, read)
            .map_or_else(|| default.to_owned(), |placed| placed.value)
    }

    fn fits_grace(&mut self, drain: &Drain, grace: Duration, window: Option<&Place>) {
        if let (Pace::Window(wanted), Some(place)) = (drain.stop.pace, window)
            && wanted > grace
        {
            self.problems.add(
                Problem::new(format!(
                    "`drain.window` is {}, and closing clients may take {} in all (`grace`)",
                    show(wanted),
                    show(grace)
                ))
                .at(place)
                .help("let `grace` be longer, or the window shorter"),
            );
        }
    }

    fn fits_within(&mut self, drain: &Drain, grace: Duration, backends: &[Placed<Backend>], said: Option<&Place>) {
        let starts = backends.iter().any(|backend| backend.value.process.is_some());
        let (Some(within), Some(place)) = (drain.within, said) else {
            return;
        };
        if let Some(why) = too_long(drain, grace, starts, within) {
            let problem = Problem::new(format!("stopping does not fit into `drain.within`: {why}"));
            self.problems.add(
                problem
                    .at(place)
                    .help("let whoever stops greenroom wait longer and write that here, or let `drain.window` or `grace` be shorter"),
            );
        }
    }
}

/// Whether these words can stand in a Close before the hint.
pub(crate) fn words_fit(words: &str) -> Result<(), String> {
    if words.len() > DRAIN_REASON_MAX {
        return Err(format!(
            "the words are {} bytes long; beside the hint when to come back a Close has room for {DRAIN_REASON_MAX}",
            words.len()
        ));
    }
    if words.chars().any(char::is_control) {
        return Err("the words have a control character".into());
    }
    Ok(())
}

/// Why stopping takes longer than that, if it may: closing clients, and the grace of a process behind it.
pub(crate) fn too_long(drain: &Drain, grace: Duration, starts: bool, within: Duration) -> Option<String> {
    let closing = drain.longest(grace);
    let child = if starts { grace } else { Duration::ZERO };
    let all = closing.saturating_add(child);
    let then = match starts {
        true => format!(", and ending a process another {} (`grace`)", show(grace)),
        false => String::new(),
    };
    (all > within).then(|| {
        format!(
            "closing clients may take {}{then}: {} in all, and there are {}",
            show(closing),
            show(all),
            show(within)
        )
    })
}
