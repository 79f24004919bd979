//! What a browser shows while its page waits: which phase, since when, how long it usually takes.
//!
//! It works without JavaScript: the answer stays open, each second a line is added that
//! hides the one before, and the moment the gate is no longer shut a `refresh` is added,
//! with which the browser asks again by itself. If that last line never comes, the
//! header `Refresh` makes it ask anyway.
//!
//! A line hides the one before by a style of its own: that the last of several is
//! shown cannot be said once for all, as a browser does not know which is the last
//! (`:last-child`, `:nth-last-of-type`) before the page is complete.
//!
//! The page leaves its place at the gate: the browser's next request takes one.
//! Bounded by `PAGE_MAX`, then the browser asks again; lines by `PAGE_PAUSE` between two, and each by `STATUS_MAX`.

use std::fmt::Write as _;
use std::time::Duration;

use greenroom_core::event::State;
use greenroom_core::limits::{PAGE_AGAIN_SECONDS, PAGE_EVERY, PAGE_MAX, PAGE_PAUSE};
use greenroom_core::time::Time;
use tokio::sync::watch;

use super::flow::write_to_client;
use super::{End, Request};
use crate::clock;
use crate::driver::{Gateway, Standing};
use crate::registry::Entry;

/// A door to the stage, which opens as the start goes on: as far as is usual, or swaying a little
/// where nothing is known yet. The note stands last on the page, though it comes first.
const STYLE: &str = "\
:root{color-scheme:light dark;--paper:#f5f6f0;--ink:#17251d;--soft:#55655b;--frame:#2c4336;--room:#22382d;\
--light:#f2ab3a;--haze:#ffdc97}\
@media(prefers-color-scheme:dark){:root{--paper:#0f1814;--ink:#eef3ea;--soft:#9fb1a5;--frame:#5d7a69;--room:#08100c;\
--light:#f2ab3a;--haze:#ffe2a6}}\
*{box-sizing:border-box}\
body{margin:0;min-height:100vh;min-height:100svh;display:grid;place-items:center;padding:1.5rem;\
background:var(--paper);color:var(--ink);font:1.0625rem/1.5 system-ui,sans-serif}\
main{width:100%;max-width:27rem;padding-bottom:8vh;display:flex;flex-direction:column}\
.door{border-bottom:2px solid var(--frame);padding-left:1.25rem}\
.door div{width:3.75rem;height:6rem;border:2px solid var(--frame);border-bottom:0;background:var(--room)}\
.door i{display:block;height:100%;background:linear-gradient(100deg,var(--haze),var(--light));\
transform-origin:right;animation:open linear both}\
.door i.unknown{animation:sway 5s ease-in-out infinite alternate}\
h1{margin:1.5rem 0 .5rem;font:600 1.75rem/1.2 ui-serif,Georgia,serif;text-wrap:balance}\
p{margin:0;color:var(--soft);overflow-wrap:anywhere}\
.now{display:flex;flex-wrap:wrap;justify-content:space-between;gap:0 1.5rem;font-variant-numeric:tabular-nums}\
.now b{color:var(--ink);font-weight:600}\
.note{order:1;margin-top:1.25rem;font-size:.9375rem;text-wrap:balance}\
@keyframes open{from{transform:scaleX(.06)}to{transform:scaleX(.92)}}\
@keyframes sway{from{transform:scaleX(.12)}to{transform:scaleX(.3)}}\
@media(prefers-reduced-motion:reduce){.door i,.door i.unknown{animation:none;transform:scaleX(.3)}}";

impl Request<'_> {
    /// Shows the page until the browser can be sent on, or leaves.
    pub(super) async fn show_page(&self, entry: &mut Entry) -> End {
        debug_assert_eq!(entry.state(), State::Http);
        let mut standing = self.backend.standing.clone();
        let mut drain = self.front.drain.clone();
        let shown = async {
            let mut begin = begin(&standing.borrow_and_update(), clock::now()).into_bytes();
            write_to_client(self.client.socket(), &mut begin).await?;
            self.go_on(&mut standing).await
        };
        tokio::select! {
            _ = shown => {} // a browser that takes nothing has left
            close = self.record.mailbox.to_close() => {
                return End::Over(close.cause, close.detail.map(String::from));
            }
            () = self.client.gone() => {}
            () = tokio::time::sleep(PAGE_MAX) => {}
            _ = drain.wait_for(Option::is_some) => {}
        }
        End::Answered { persists: false }
    }

    async fn go_on(&self, standing: &mut watch::Receiver<Standing>) -> Result<(), super::flow::Cut> {
        let (mut ready, need) = (standing.clone(), self.route.need);
        for number in 1.. {
            let (ends, line) = {
                let standing = standing.borrow_and_update();
                let line = line(number, need, &standing, clock::now());
                (is_over(need, &standing), line)
            };
            write_to_client(self.client.socket(), &mut line.into_bytes()).await?;
            if ends {
                return Ok(());
            }
            // A backend may say more than anybody reads; only that it is ready is told at once.
            tokio::select! {
                _ = ready.wait_for(|standing| is_over(need, standing)) => continue,
                () = tokio::time::sleep(PAGE_PAUSE) => {}
            }
            tokio::select! {
                changed = standing.changed() => if changed.is_err() {
                    return Ok(()); // greenroom ends
                },
                () = tokio::time::sleep(PAGE_EVERY) => {}
            }
        }
        Ok(())
    }
}

/// The answer's head, and the page up to its lines.
fn begin(standing: &Standing, now: Time) -> String {
    let elapsed = now.since(standing.since).as_secs_f32();
    let light = match standing.usual {
        Some(usual) => format!(
            "<i style=\"animation-duration:{:.1}s;animation-delay:-{elapsed:.1}s\"></i>",
            usual.p50.as_secs_f32().max(0.1)
        ),
        None => "<i class=unknown></i>".to_owned(),
    };
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\n\
         Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'\r\n\
         X-Content-Type-Options: nosniff\r\nX-Accel-Buffering: no\r\nRetry-After: {PAGE_AGAIN_SECONDS}\r\n\
         Refresh: {PAGE_AGAIN_SECONDS}\r\nConnection: close\r\n\r\n\
         <!doctype html>\n<html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <meta name=robots content=noindex><title>Starting…</title><style>{STYLE}</style>\n\
         <main><div class=door aria-hidden=true><div>{light}</div></div><h1>The server is starting</h1>\
         <p class=note>This page opens by itself as soon as it is ready.</p>\n"
    )
}

/// Whether there is nothing to wait for any more.
fn is_over(need: usize, standing: &Standing) -> bool {
    matches!(standing.gate, Gateway::Failed | Gateway::Refusing | Gateway::Draining) || standing.lets_in(need)
}

/// One line: the phase, since when, how long it usually takes; or how it ended.
fn line(number: u32, need: usize, standing: &Standing, now: Time) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    if number > 1 {
        let _ = write!(out, "<style>#n{}{{display:none}}</style>", number - 1);
    }
    match standing.gate {
        Gateway::Limited | Gateway::Open if standing.lets_in(need) => {
            out.push_str("<p class=now><b>Ready</b></p><meta http-equiv=refresh content=0>\n");
            return out;
        }
        Gateway::Shut | Gateway::Limited | Gateway::Open => {}
        Gateway::Refusing => {
            out.push_str("<p class=now role=alert><b>It serves nobody at the moment</b></p>\n");
            return out;
        }
        Gateway::Draining => {
            out.push_str("<p class=now role=alert><b>It stops</b></p>\n");
            return out;
        }
        Gateway::Failed => {
            out.push_str("<p class=now role=alert><b>It could not start</b>");
            if let Some(failure) = &standing.failure {
                let _ = write!(out, " <span>{}</span>", escaped(failure));
            }
            out.push_str("</p>\n");
            return out;
        }
    }
    let _ = write!(out, "<p class=now id=n{number}>");
    if let Some(phase) = &standing.phase {
        let _ = write!(out, "<b>{}</b> ", escaped(phase));
    }
    let _ = write!(out, "<span>for {}", spoken(now.since(standing.since)));
    if let Some(usual) = standing.usual {
        let _ = write!(out, ", usually {}", spoken(usual.p50));
    }
    out.push_str("</span></p>\n");
    out
}

/// A duration as people say it.
fn spoken(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 60, seconds % 60) {
        (0, 0) => "less than a second".into(),
        (0, 1) => "1 second".into(),
        (0, seconds) => format!("{seconds} seconds"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    }
}

/// What a backend calls its phase, as text of a page.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use greenroom_core::starts::Usual;

    use super::*;

    fn standing(phase: Option<&str>, usual: Option<Duration>) -> Standing {
        Standing {
            gate: Gateway::Shut,
            phase: phase.map(Into::into),
            since: Time::ZERO,
            usual: usual.map(|time| Usual {
                p10: time,
                p50: time,
                p90: time,
                of: 1,
            }),
            met: greenroom_core::readiness::Needs::default(),
            lacks: None,
            failure: None,
            degraded: None,
        }
    }

    #[test]
    fn a_line_says_the_phase_since_when_and_how_long_it_usually_takes() {
        let now = Time::ZERO + Duration::from_secs(12);
        assert_eq!(
            line(1, 0, &standing(Some("database"), Some(Duration::from_secs(75))), now),
            "<p class=now id=n1><b>database</b> <span>for 12 seconds, usually 1 min 15 s</span></p>\n"
        );
        assert!(line(1, 0, &standing(None, None), Time::ZERO).contains("<span>for less than a second</span>"));
    }

    #[test]
    fn a_line_hides_the_one_before() {
        let next = line(7, 0, &standing(None, None), Time::ZERO);
        assert!(
            next.starts_with("<style>#n6{display:none}</style><p class=now id=n7>"),
            "{next}"
        );
    }

    #[test]
    fn nothing_of_a_backend_is_taken_for_markup() {
        let line = line(1, 0, &standing(Some("<img src=x onerror=\"'&"), None), Time::ZERO);
        assert!(line.contains("<b>&lt;img src=x onerror=&quot;&#39;&amp;</b>"), "{line}");
    }

    #[test]
    fn the_page_needs_no_script_and_allows_none() {
        let page = begin(&standing(None, None), Time::ZERO);
        assert!(page.contains("Content-Security-Policy: default-src 'none'") && !page.contains("<script"));
    }
}
