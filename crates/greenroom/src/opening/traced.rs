//! What a span says of a hold, once that is over.

use greenroom_core::event::State;

use super::answer::Received;
use super::hold::Done;
use crate::clock;
use crate::config::RouteOf;
use crate::registry::Record;
use crate::trace::{Begun, Ended, Tracer, Value};

/// The hold is over: its span is sent.
pub(super) fn end(tracer: &Tracer, begun: &Begun, done: &Done, route: &RouteOf, record: &Record) {
    let is_accepted = record.accepted().is_some();
    let (outcome, status, refusal) = match done {
        Done::Answered(Received::Switched { .. }) => ("let_in", Some(101), None),
        Done::Answered(Received::Status { status, .. }) => ("passed_on", Some(*status), None),
        Done::Answered(Received::Nothing(_)) => ("bad_answer", None, None),
        Done::Refused(refusal, ..) => ("refused", Some(refusal.status()), Some(refusal.word())),
        Done::Left(_) => ("left", None, None),
    };
    let (state, since) = record.state();
    let let_in = if state == State::Dialing { since } else { clock::now() };
    let whole = |number: u128| Value::Number(i64::try_from(number).unwrap_or(i64::MAX));
    let text = |text: &str| Value::Text(text.to_owned());
    let mut attributes = vec![
        ("http.request.method", text("GET")),
        ("http.route", text(&route.path)),
        ("greenroom.route", text(&route.name)),
        ("greenroom.backend", text(&route.backend().name)),
        ("greenroom.session", whole(record.session().unwrap_or(0).into())),
        ("greenroom.attempts", whole(record.dials().0.into())),
        ("greenroom.outcome", text(outcome)),
        ("greenroom.held_ms", whole(begun.elapsed(let_in).as_millis())),
        ("greenroom.accepted", Value::Flag(is_accepted)),
    ];
    attributes.extend(refusal.map(|refusal| ("greenroom.refusal", text(refusal))));
    // Who was accepted has had a 101, whatever came later.
    let status = if is_accepted { Some(101) } else { status };
    attributes.extend(status.map(|status| ("http.response.status_code", whole(status.into()))));
    let is_error =
        outcome == "bad_answer" || status.is_some_and(|status| status >= 500) || (is_accepted && refusal.is_some());
    tracer.end(
        begun,
        Ended {
            path: route.path.clone(),
            attributes,
            is_error,
        },
    );
}
