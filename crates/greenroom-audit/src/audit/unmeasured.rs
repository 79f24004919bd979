//! Why nothing could be measured, and what to do about it: in words, from what was seen. Pure.
//!
//! What is wrong is mostly the command line: a path, a port, a header field. Each text names what was looked at, what was
//! seen there, and the option to change.

use super::judge::Outcome;
use super::record::{Elsewhere, RunRecord};
use super::text::{count, list};
use crate::limits;

/// Nobody listened in the time for a start.
#[must_use]
pub fn nobody_listened(run: &RunRecord, waited: &str) -> String {
    let none = Elsewhere::default();
    let Elsewhere { wanted, places } = run.elsewhere.as_ref().unwrap_or(&none);
    let at = if wanted.is_empty() {
        String::new()
    } else {
        format!(" at {wanted}")
    };
    let port = |address: &str| address.rsplit(':').next().unwrap_or_default().to_owned();
    let other_family = places
        .iter()
        .find(|place| !wanted.is_empty() && port(place) == port(wanted));
    let advice = match (other_family, &places[..]) {
        (Some(place), _) => format!(
            "CMD listens at {place}: give --url ws://{}:{{port}}/, or have it listen at {wanted}",
            place.rsplit_once(':').map_or("", |(host, _)| host)
        ),
        (None, []) => "CMD listens nowhere. It must listen at the port in $PORT, or at the one that {port} stands for in its words; if it only takes longer, raise --start-timeout".to_owned(),
        (None, places) => format!(
            "CMD listens at {}. It must listen at the port in $PORT, or at the one that {{port}} stands for in its words; or give --url with the port that it has",
            list(places)
        ),
    };
    format!("nobody listened{at} within {waited}: {advice}{}", last_lines(run))
}

/// CMD ended by itself before anybody was answered.
#[must_use]
pub fn ended(run: &RunRecord, how: &str) -> String {
    format!("CMD ended {how} before anybody was answered{}", last_lines(run))
}

/// Somebody listened, and nobody was ever answered as expected.
#[must_use]
pub fn never_answered(run: &RunRecord, seen: &[(Outcome, u64)]) -> String {
    format!(
        "no client was ever answered as expected ({}): {}{}",
        told(seen),
        advice(seen),
        last_lines(run)
    )
}

/// Everybody had the same answer to the handshake, and it was given up: see [`always_the_same`].
#[must_use]
pub fn given_up(run: &RunRecord, seen: &[(Outcome, u64)]) -> String {
    format!(
        "everybody had the same answer ({}): {}. If it answers like that only while it starts, give --start-timeout, and it is waited for{}",
        told(seen),
        advice(seen),
        last_lines(run)
    )
}

/// It was stopped before a start had come to its end.
#[must_use]
pub fn stopped(seen: &[(Outcome, u64)]) -> String {
    let so_far = if seen.is_empty() {
        "no client had come to its end".to_owned()
    } else {
        format!("so far: {}", told(seen))
    };
    format!("it was stopped before a start had come to its end; {so_far}")
}

/// Whether this is one answer to everybody that says that they are wrong, and not that the server is not ready.
#[must_use]
pub fn always_the_same(seen: &[(Outcome, u64)]) -> bool {
    matches!(seen, [(Outcome::Status(status), clients)] if is_final(*status) && *clients >= limits::AUDIT_SAME_ANSWERS)
}

/// Whether an answer is about the request: all but those that say that the server cannot now.
#[must_use]
pub const fn is_final(status: u16) -> bool {
    status < 500
}

fn told(seen: &[(Outcome, u64)]) -> String {
    let seen: Vec<String> = seen
        .iter()
        .map(|(outcome, clients)| format!("{clients} × {}", outcome.name()))
        .collect();
    list(&seen)
}

fn advice(seen: &[(Outcome, u64)]) -> &'static str {
    match seen.first() {
        Some((Outcome::Status(401), _)) => {
            "give what it asks for with --header, such as 'Authorization: Bearer …' or 'Cookie: …'"
        }
        Some((Outcome::Status(403), _)) => {
            "check the path in --url (uvicorn answers 403 to a path that has no WebSocket), and give an 'Origin: …', 'Authorization: …' or 'Cookie: …' that it allows with --header"
        }
        Some((Outcome::Status(404), _)) => {
            "there is no WebSocket at the path in --url: write it as ws://127.0.0.1:{port}/ws"
        }
        Some((Outcome::Status(300..=399), _)) => {
            "it sends clients elsewhere: check the path in --url, often a / at its end"
        }
        Some((Outcome::Status(100..=299), _)) => "the path in --url is that of a page and not of a WebSocket: check it",
        Some((Outcome::Status(400..=499), _)) => {
            "check the path in --url, and what it needs in --header, such as 'Sec-WebSocket-Protocol: …' or 'Origin: …'"
        }
        Some(_) | None => "check --url (its path), --header, --message and --expect",
    }
}

/// The last lines that CMD wrote, or that there are none.
fn last_lines(run: &RunRecord) -> String {
    if run.output.is_empty() {
        return "; it wrote nothing".to_owned();
    }
    format!("; {}:\n  {}", lines(run.output.len()), run.output.join("\n  "))
}

fn lines(number: usize) -> String {
    match number {
        1 => "its last line".to_owned(),
        more => format!("its last {}", count(more as u64, "line")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::sample::run;

    #[test]
    fn who_listens_elsewhere_is_named_with_what_to_do() {
        let mut start = run(0, Vec::new());
        let place = |places: &[&str]| {
            Some(Elsewhere {
                wanted: "127.0.0.1:4711".into(),
                places: places.iter().map(|place| (*place).to_owned()).collect(),
            })
        };
        start.elsewhere = place(&["[::1]:4711"]);
        let text = nobody_listened(&start, "2s");
        assert!(
            text.contains("at 127.0.0.1:4711 within 2s") && text.contains("--url ws://[::1]:{port}/"),
            "{text}"
        );
        start.elsewhere = place(&["127.0.0.1:8000", "unix:/tmp/x"]);
        let text = nobody_listened(&start, "2s");
        assert!(
            text.contains("listens at 127.0.0.1:8000 and unix:/tmp/x") && text.contains("$PORT"),
            "{text}"
        );
        start.elsewhere = place(&[]);
        start.output = vec!["no database".into()];
        let text = nobody_listened(&start, "2s");
        assert!(
            text.contains("CMD listens nowhere") && text.ends_with("its last line:\n  no database"),
            "{text}"
        );
    }

    #[test]
    fn each_answer_has_its_own_advice_and_only_final_ones_are_given_up() {
        let all = |status, clients| [(Outcome::Status(status), clients)];
        for (status, said) in [
            (401, "Authorization"),
            (403, "path"),
            (404, "/ws"),
            (302, "elsewhere"),
            (426, "Protocol"),
        ] {
            assert!(
                given_up(&run(0, Vec::new()), &all(status, 99)).contains(said),
                "{status}"
            );
            assert!(always_the_same(&all(status, 99)), "{status}");
        }
        assert!(!always_the_same(&all(503, 99)) && !always_the_same(&all(404, 3)));
        assert!(!always_the_same(&[(Outcome::Status(404), 99), (Outcome::Hung, 1)]));
        assert!(stopped(&all(403, 105)).contains("105 × HTTP 403"));
        assert!(ended(&run(0, Vec::new()), "with exit code 7").ends_with("it wrote nothing"));
    }
}
