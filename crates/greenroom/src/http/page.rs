//! What a browser shows while its page waits: which phase, since when, how long it usually takes.
//!
//! It works without JavaScript: the answer stays open, each second a line is
//! added of which the style shows the last one only, and the moment the gate is no
//! longer shut a `refresh` is added, with which the browser asks again by itself. If
//! that last line never comes, the header `Refresh` makes it ask anyway.
//!
//! The page leaves its place at the gate: the browser's next request takes one.
//! Bounded by `PAGE_MAX`, then the browser asks again; a line by `STATUS_MAX`.

use std::fmt::Write as _;
use std::time::Duration;

use greenroom_core::event::State;
use greenroom_core::limits::{PAGE_AGAIN_SECONDS, PAGE_EVERY, PAGE_MAX};
use greenroom_core::time::Time;
use tokio::sync::watch;

use super::flow::write_to_client;
use super::{End, Request};
use crate::clock;
use crate::driver::{Gateway, Standing};
use crate::registry::Entry;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c1917;--soft:#78716c;--paper:#fafaf9;--line:#e7e5e4;--glow:#b45309}\
@media(prefers-color-scheme:dark){:root{--ink:#f5f5f4;--soft:#a8a29e;--paper:#1c1917;--line:#44403c;--glow:#fbbf24}}\
*{box-sizing:border-box}\
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.5rem;background:var(--paper);\
color:var(--ink);font:1rem/1.6 system-ui,sans-serif}\
main{width:100%;max-width:26rem}\
h1{margin:0 0 .75rem;font-size:1.5rem;line-height:1.25;font-weight:600;text-wrap:balance}\
p{margin:0;color:var(--soft);overflow-wrap:anywhere;font-variant-numeric:tabular-nums}\
p b{color:var(--ink);font-weight:600}\
p.now:nth-last-of-type(n+2){display:none}\
.bar{height:.25rem;margin:0 0 .75rem;border-radius:1rem;background:var(--line);overflow:hidden}\
.bar i{display:block;height:100%;border-radius:1rem;background:var(--glow);transform-origin:left;\
animation:fill linear both}\
.bar.unknown i{width:30%;animation:seek 1.6s ease-in-out infinite alternate}\
@keyframes fill{from{transform:scaleX(0)}to{transform:scaleX(.96)}}\
@keyframes seek{from{transform:translateX(0)}to{transform:translateX(233%)}}\
@media(prefers-reduced-motion:reduce){.bar i{animation:none;width:100%;opacity:.4}}";

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
            () = self.client.gone() => {}
            () = tokio::time::sleep(PAGE_MAX) => {}
            _ = drain.wait_for(Option::is_some) => {}
        }
        End::Answered { persists: false }
    }

    async fn go_on(&self, standing: &mut watch::Receiver<Standing>) -> Result<(), super::flow::Cut> {
        loop {
            let now = {
                let standing = standing.borrow_and_update();
                match standing.gate {
                    Gateway::Shut => line(&standing, clock::now()),
                    Gateway::Limited | Gateway::Open => {
                        "<p class=now>Ready.</p><meta http-equiv=refresh content=0>\n".to_owned()
                    }
                    Gateway::Failed => "<p class=now>It could not start.</p>\n".to_owned(),
                }
            };
            write_to_client(self.client.socket(), &mut now.into_bytes()).await?;
            if standing.borrow().gate != Gateway::Shut {
                return Ok(());
            }
            tokio::select! {
                changed = standing.changed() => if changed.is_err() {
                    return Ok(()); // greenroom ends
                },
                () = tokio::time::sleep(PAGE_EVERY) => {}
            }
        }
    }
}

/// The answer's head, and the page up to its lines.
fn begin(standing: &Standing, now: Time) -> String {
    let elapsed = now.since(standing.since).as_secs_f32();
    let bar = match standing.usual {
        Some(usual) => format!(
            "<div class=bar><i style=\"animation-duration:{:.1}s;animation-delay:-{elapsed:.1}s\"></i></div>",
            usual.as_secs_f32().max(0.1)
        ),
        None => "<div class=\"bar unknown\"><i></i></div>".to_owned(),
    };
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\n\
         Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'\r\n\
         X-Content-Type-Options: nosniff\r\nX-Accel-Buffering: no\r\nRetry-After: {PAGE_AGAIN_SECONDS}\r\n\
         Refresh: {PAGE_AGAIN_SECONDS}\r\nConnection: close\r\n\r\n\
         <!doctype html>\n<html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <meta name=robots content=noindex><title>Starting…</title><style>{STYLE}</style>\n\
         <main><h1>The server is starting</h1>{bar}\n"
    )
}

/// One line: the phase, since when, how long it usually takes.
fn line(standing: &Standing, now: Time) -> String {
    let mut out = String::from("<p class=now role=status>");
    // Writing to a String cannot fail.
    if let Some(phase) = &standing.phase {
        let _ = write!(out, "<b>{}</b>, ", escaped(phase));
    }
    let _ = write!(out, "for {}", spoken(now.since(standing.since)));
    if let Some(usual) = standing.usual {
        let _ = write!(out, "; it usually takes {}", spoken(usual));
    }
    out.push_str(". This page goes on by itself.</p>\n");
    out
}

/// A duration as people say it.
fn spoken(duration: Duration) -> String {
    let seconds = duration.as_secs_f32().round() as u64; // tidy: some rounding is meant
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
    use super::*;

    fn standing(phase: Option<&str>, usual: Option<Duration>) -> Standing {
        Standing {
            gate: Gateway::Shut,
            phase: phase.map(Into::into),
            since: Time::ZERO,
            usual,
        }
    }

    #[test]
    fn a_line_says_the_phase_since_when_and_how_long_it_usually_takes() {
        let now = Time::ZERO + Duration::from_secs(12);
        assert_eq!(
            line(&standing(Some("database"), Some(Duration::from_secs(75))), now),
            "<p class=now role=status><b>database</b>, for 12 seconds; it usually takes 1 min 15 s. \
             This page goes on by itself.</p>\n"
        );
        assert!(line(&standing(None, None), Time::ZERO).contains(">for less than a second. This"));
    }

    #[test]
    fn nothing_of_a_backend_is_taken_for_markup() {
        let line = line(&standing(Some("<img src=x onerror=\"'&"), None), Time::ZERO);
        assert!(line.contains("<b>&lt;img src=x onerror=&quot;&#39;&amp;</b>"), "{line}");
    }

    #[test]
    fn the_page_needs_no_script_and_allows_none() {
        let page = begin(&standing(None, None), Time::ZERO);
        assert!(page.contains("Content-Security-Policy: default-src 'none'") && !page.contains("<script"));
    }
}
