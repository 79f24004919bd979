//! The waiting page, as a browser gets it: when, for whom, and how it ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::{
    io::Read as _,
    time::{Duration, Instant},
};

use common::house::House;
use common::raw::{Raw, field};
use greenroom_core::event::State;
use greenroom_core::limits::PAGE_PAUSE;

/// A browser that goes to a page.
fn navigation(fields: &str) -> String {
    format!(
        "GET /app?x=1 HTTP/1.1\r\nHost: example.test\r\n\
         Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n{fields}\r\n"
    )
}

const NAVIGATES: &str = "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Reads until the text is there; gives all of it.
fn until(client: &mut Raw, text: &str) -> String {
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&all).contains(text) {
        let read = client.0.read(&mut piece).unwrap();
        assert!(read > 0, "no {text:?} in {}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&piece[..read]);
    }
    String::from_utf8(all).unwrap()
}

#[test]
fn a_browser_is_shown_a_page_after_a_second_and_sent_on_the_moment_the_backend_is_ready() {
    let house = House::pushed(|_| {});
    house.phase("database");
    let begun = Instant::now();
    let mut client = house.client_with(navigation(NAVIGATES));
    house.wait_for(State::Held, 1);
    let head = client.head();
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("connection", "close"),
        ("content-length", ""),
        ("transfer-encoding", ""),
    ] {
        assert_eq!(field(&head, name).unwrap_or_default(), value, "{head}");
    }
    assert!(
        field(&head, "refresh").is_some() && field(&head, "retry-after").is_some(),
        "{head}"
    );
    let page = until(&mut client, "<b>database</b> <span>for ");
    assert!(
        page.starts_with("<!doctype html>") && !page.contains("http-equiv"),
        "{page}"
    );
    // A new phase is told when it comes, not only with the next second's line.
    house.phase("cache");
    until(&mut client, "<b>cache</b>");
    assert_eq!(house.registry.count(State::Held), 0, "its place is free");
    house.ready();
    let rest = until(&mut client, "<meta http-equiv=refresh content=0>\n");
    assert!(rest.ends_with("<meta http-equiv=refresh content=0>\n"), "{rest}");
    assert_eq!(client.0.read(&mut [0; 1]).unwrap(), 0, "the page ends with that");
    assert!(house.stub.nobody_came(), "the browser's next request goes in");
    let mut again = house.client_with(navigation(NAVIGATES));
    let (mut backend, head) = house.stub.request();
    assert!(head.starts_with("GET /app?x=1 "), "{head}");
    backend.send(ok("the app"));
    assert_eq!(again.answer_with_length().1, "the app");
}

#[test]
fn a_backend_that_says_much_of_its_phases_makes_no_more_lines_than_can_be_read() {
    let house = House::pushed(|_| {});
    let mut client = house.client_with(navigation(NAVIGATES));
    client.head();
    let begun = Instant::now();
    let mut said = 0;
    while begun.elapsed() < Duration::from_millis(500) {
        said += 1;
        house.phase(&format!("step {said}"));
        std::thread::yield_now();
    }
    house.ready();
    let lines = until(&mut client, "http-equiv=refresh").matches("class=now").count();
    // Each took its pause, so time decides, however slow the machine is; two more are at the ends.
    let most = usize::try_from(begun.elapsed().as_millis() / PAGE_PAUSE.as_millis()).unwrap() + 3;
    assert!(
        lines <= most && said > most,
        "{lines} lines for {said} phases, {most} at the most"
    );
}

#[test]
fn a_backend_that_is_ready_within_a_second_is_seen_without_the_page() {
    let house = House::pushed(|_| {});
    let mut client = house.client_with(navigation(NAVIGATES));
    house.wait_for(State::Held, 1);
    house.ready();
    let (mut backend, _) = house.stub.request();
    backend.send(ok("the app"));
    assert_eq!(client.answer_with_length().1, "the app");
}

#[test]
fn what_a_backend_calls_its_phase_is_text() {
    let house = House::pushed(|_| {});
    house.phase("<script>alert('x')</script>&\"");
    let mut client = house.client_with(navigation(NAVIGATES));
    let page = until(&mut client, "</span></p>");
    assert!(!page.contains("<script"), "{page}");
    assert!(
        page.contains("<b>&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;</b>"),
        "{page}"
    );
}

#[test]
fn only_a_person_who_waits_for_a_page_gets_it() {
    let html = "Accept: text/html\r\n";
    let cases = [
        ("POST", format!("{html}{NAVIGATES}Content-Length: 0\r\n")),
        ("HEAD", format!("{html}{NAVIGATES}")),
        ("GET", format!("{html}Sec-Fetch-Mode: cors\r\n")),
        (
            "GET",
            format!("{html}Sec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n"),
        ),
        ("GET", format!("Accept: application/json\r\n{NAVIGATES}")),
        ("GET", "Accept: */*\r\n".to_owned()),
        ("GET", String::new()),
    ];
    let house = House::pushed(|_| {});
    let mut clients: Vec<_> = cases
        .iter()
        .map(|(method, fields)| house.client_with(format!("{method} / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")))
        .collect();
    house.wait_for(State::Held, cases.len() as u64);
    // An older browser says no mode; it gets the page, and by then the others would have it too.
    let mut old = house.client_with(navigation(""));
    assert!(old.head().starts_with("HTTP/1.1 503 "));
    for (client, case) in clients.iter_mut().zip(&cases) {
        assert!(client.silent_for(Duration::from_millis(50)), "{case:?}");
    }
    house.ready();
    for _ in &cases {
        let (mut backend, head) = house.stub.request();
        backend.send(if head.starts_with("HEAD") {
            "HTTP/1.1 204 No\r\n\r\n".to_owned()
        } else {
            ok("x")
        });
        std::mem::forget(backend);
    }
    for client in &mut clients {
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 20"), "{head}");
    }

    let house = House::pushed(|config| config.routes[0].waiting_page = false);
    let mut client = house.client_with(navigation(NAVIGATES));
    assert!(client.silent_for(Duration::from_millis(1500)));
    house.ready();
    let (mut backend, _) = house.stub.request();
    backend.send(ok("the app"));
    assert_eq!(client.answer_with_length().1, "the app");
}

#[test]
fn a_browser_that_leaves_its_page_is_gone_and_a_stop_ends_the_page() {
    let house = House::pushed(|_| {});
    let mut client = house.client_with(navigation(NAVIGATES));
    client.head();
    house.wait_for(State::Http, 1);
    drop(client);
    house.wait_for(State::Http, 0);

    let mut client = house.client_with(navigation(NAVIGATES));
    client.head();
    house.stop();
    let rest = String::from_utf8(client.rest()).unwrap();
    assert!(!rest.contains("content=0"), "the header Refresh brings it back: {rest}");
}

#[test]
fn a_failed_start_is_said_on_the_page() {
    let house = House::pushed(|_| {});
    let mut client = house.client_with(navigation(NAVIGATES));
    client.head();
    house.tell(greenroom_core::backend::Input::Exited {
        generation: greenroom_core::event::Generation(0),
        restarts: false,
        code: 3,
    });
    let rest = String::from_utf8(client.rest()).unwrap();
    assert!(
        rest.ends_with("<b>It could not start</b> <span>the server ended with exit code 3</span></p>\n"),
        "{rest}"
    );
}
