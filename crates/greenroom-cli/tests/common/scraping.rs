//! What `GET /metrics` says, and how a test finds a figure in it.

use std::io::{Read as _, Write as _};

use super::{raw::SOON, rig::Rig};

/// The head and the body of the answer to a scrape.
pub fn scrape(rig: &Rig, accept: &str) -> (String, String) {
    let socket = rig.folder.join(format!("greenroom/{}.sock", rig.greenroom.pid()));
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    // HTTP/1.0, so that the body comes as it is.
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: greenroom\r\n{accept}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

pub fn text(rig: &Rig) -> String {
    scrape(rig, "").1
}

/// The value of a sample, by the whole of its name and labels.
pub fn value(page: &str, sample: &str) -> f64 {
    let found = page
        .lines()
        .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    let found = found.unwrap_or_else(|| panic!("no {sample} in\n{page}"));
    found.parse().unwrap()
}

/// All that a family has counted, over all backends.
pub fn sum(page: &str, family: &str) -> f64 {
    let samples = page
        .lines()
        .filter_map(|line| line.strip_prefix(&format!("{family}{{")));
    samples
        .map(|rest| rest.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}
