//! The waiting page as a person sees it, in Chromium: what it says, and that it goes on by itself.
//!
//! The server (`phases.py`) starts as slowly as the test wants. It writes into the
//! ledger when it is ready and when it got the browser's next request, both by the
//! one clock of the machine: so what is measured is greenroom's page and the
//! browser's reload, and not how long the test took to look.
//!
//! With `GREENROOM_SHOTS=FOLDER` the pictures of each page are kept there, to be looked at.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{fs::File, io::Write as _, path::Path, time::Duration};

use common::{
    Greenroom, Ledger,
    browser::{Browser, Page},
    fixture, one_at_a_time, process, python,
};
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// A server under greenroom that starts when it is told to.
struct Stage {
    greenroom: Greenroom,
    ledger: Ledger,
    control: File,
}

impl Stage {
    fn new() -> Self {
        let ledger = Ledger::new();
        let fifo = ledger.beside("control");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let (python, server) = (python("python"), fixture("phases.py"));
        let mut command = Greenroom::command(&["run", "--listen", "127.0.0.1:0", "--", &python, &server]);
        command.env("LOG", ledger.path()).env("CONTROL", &fifo);
        let greenroom = Greenroom::spawn(&mut command);
        greenroom.address();
        let control = File::options().write(true).open(fifo).unwrap(); // waits for the server to read it
        Self {
            greenroom,
            ledger,
            control,
        }
    }

    fn url(&self) -> String {
        format!("http://{}/app?x=1", self.greenroom.address())
    }

    /// What the server says of itself.
    fn says(&mut self, text: &str) {
        writeln!(self.control, "{text}").unwrap();
    }

    /// From the moment the server was ready to its next request.
    fn ready_to_request(&self) -> Duration {
        process::until("the browser's request at the server", || {
            !self.ledger.of("get").is_empty()
        });
        let at = |event: &str| self.ledger.of(event)[0]["at"].as_u64().unwrap();
        assert_eq!(self.ledger.of("get")[0]["path"], "/app?x=1");
        Duration::from_nanos(at("get") - at("ready"))
    }
}

/// The line that is to be seen, whatever stands above it.
const SEEN: &str = "[...document.querySelectorAll('.now')].filter((line) => line.offsetHeight > 0).map((line) => line.innerText).join('|')";

fn shows(page: &Page<'_>, text: &str) {
    page.until(&format!("({SEEN}).includes({text:?})"));
}

/// Pictures for whoever works on the page.
fn picture(page: &Page<'_>, name: &str) {
    if let Some(folder) = std::env::var_os("GREENROOM_SHOTS") {
        page.screenshot(&Path::new(&folder).join(format!("{name}.png")));
    }
}

/// A page that is seen whole: nothing sticks out, one line tells how things stand.
fn is_laid_out(page: &Page<'_>) {
    assert_eq!(page.eval("document.documentElement.scrollWidth <= innerWidth"), true);
    assert_eq!(page.eval("document.documentElement.scrollHeight <= innerHeight"), true);
    assert_eq!(page.eval("document.querySelector('h1').offsetHeight > 0"), true);
    assert_eq!(page.eval(&format!("({SEEN}).includes('|')")), false, "one line is seen");
}

/// How bright the ground and the writing on it are, from 0 to 255.
fn brightness(page: &Page<'_>) -> (f64, f64) {
    let of = |what: &str, which: &str| {
        let numbers = format!("getComputedStyle(document.querySelector('{what}')).{which}.match(/\\d+/g).slice(0, 3)");
        let mean = page.eval(&format!(
            "{numbers}.reduce((sum, number) => sum + Number(number), 0) / 3"
        ));
        mean.as_f64().unwrap()
    };
    (of("body", "backgroundColor"), of("h1", "color"))
}

#[test]
fn the_waiting_page_says_the_phase_and_goes_to_the_application_within_a_second() {
    let _alone = one_at_a_time();
    let browser = Browser::start();
    for (name, width, scheme) in [
        ("narrow-light", 360, "light"),
        ("narrow-dark", 360, "dark"),
        ("wide-light", 1280, "light"),
        ("wide-dark", 1280, "dark"),
    ] {
        let mut stage = Stage::new();
        let page = browser.page();
        page.size(width, 720);
        page.prefers(&[("color-scheme", scheme)]);
        stage.says("X_GREENROOM_PHASE=dependencies");
        page.goto(&stage.url());
        shows(&page, "database");
        is_laid_out(&page);
        let (ground, writing) = brightness(&page);
        assert_eq!(ground > 128.0, scheme == "light", "{name}");
        assert!((ground - writing).abs() > 150.0, "{name}: {writing} on {ground}");
        picture(&page, name);
        stage.says("STATUS=migrating table 3 of 7");
        shows(&page, "migrating table 3 of 7");
        is_laid_out(&page);
        picture(&page, &format!("{name}-status"));
        stage.says("READY=1");
        page.until("document.title === 'The application'");
        let took = stage.ready_to_request();
        println!("{name}: {} ms from ready to the browser's request", took.as_millis());
        assert!(took < Duration::from_secs(1), "{name}: {took:?}");
        assert_eq!(page.eval("document.querySelector('h1').textContent"), "Here it is");
        assert_eq!(
            page.eval("history.length"),
            2,
            "the page leaves no trace behind the application"
        );
    }
}

#[test]
fn the_waiting_page_goes_on_without_javascript_and_without_motion() {
    let _alone = one_at_a_time();
    let mut stage = Stage::new();
    let browser = Browser::start();
    let page = browser.page();
    page.without_javascript();
    page.prefers(&[("reduced-motion", "reduce")]);
    page.goto(&stage.url());
    shows(&page, "for");
    assert_eq!(
        page.eval("document.getAnimations().filter((one) => one.playState === 'running').length"),
        0
    );
    picture(&page, "still");
    stage.says("READY=1");
    page.until("document.title === 'The application'");
    let took = stage.ready_to_request();
    println!("{} ms from ready to the browser's request", took.as_millis());
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// A second start: how long it usually takes is known then.
#[test]
fn a_server_that_starts_again_is_waited_for_with_the_time_that_it_usually_takes() {
    let _alone = one_at_a_time();
    let mut stage = Stage::new();
    let browser = Browser::start();
    let page = browser.page();
    page.goto(&stage.url());
    shows(&page, "for");
    stage.says("READY=1");
    page.until("document.title === 'The application'");
    stage.says("STOPPING=1");
    stage.greenroom.wait_for(
        |event| event["event"] == "gate" && event["gate"] == "shut",
        Duration::from_secs(10),
    );
    page.goto(&stage.url());
    shows(&page, "usually");
    is_laid_out(&page);
    picture(&page, "usual");
    page.size(360, 720);
    is_laid_out(&page);
    picture(&page, "usual-narrow");
    stage.says("READY=1");
    page.until("document.title === 'The application'");
}
