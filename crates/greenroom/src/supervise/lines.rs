//! Finds what is looked for in the lines of a child's output.
//!
//! A line ends with a newline, or with the output; a carriage return before that does
//! not belong to it. Of a line longer than [`limits::OUTPUT_LINE_MAX`] bytes the first
//! so many are looked at, as soon as they are there. Escape sequences (colours, links)
//! are left out, so that a pattern fits at a terminal as it does without one; bytes
//! that are no UTF-8 are replaced. Each pattern is found once; when all are, nothing is
//! looked at any more. Pure.

use std::borrow::Cow;

use greenroom_core::limits;
use regex::Regex;

/// See the module.
#[derive(Debug)]
pub(super) struct Lines {
    /// What has not been found yet, with its number.
    wanted: Vec<(usize, Regex)>,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
    /// So much of the line has been looked at as ever will be.
    is_done: bool,
}

impl Lines {
    pub(super) fn new(patterns: &[Regex]) -> Self {
        Self {
            wanted: patterns.iter().cloned().enumerate().collect(),
            begun: Vec::new(),
            is_done: false,
        }
    }

    /// Takes what was read; `found` hears of each pattern, and of the line it is in.
    pub(super) fn take(&mut self, bytes: &[u8], found: &mut impl FnMut(usize, String)) {
        let mut rest = bytes;
        while !self.wanted.is_empty() && !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let part = &rest[..end.unwrap_or(rest.len())];
            rest = end.map_or(&[][..], |end| &rest[end + 1..]);
            if !self.is_done {
                let room = limits::OUTPUT_LINE_MAX - self.begun.len();
                self.is_done = part.len() >= room || end.is_some();
                let part = &part[..part.len().min(room)];
                match (self.is_done, self.begun.is_empty()) {
                    (true, true) => self.look(part, found),
                    (done, _) => {
                        self.begun.extend_from_slice(part);
                        if done {
                            self.end(found);
                        }
                    }
                }
            }
            self.is_done &= end.is_none();
        }
    }

    /// The output is over: what has begun is a line.
    pub(super) fn end(&mut self, found: &mut impl FnMut(usize, String)) {
        let line = std::mem::take(&mut self.begun);
        if !line.is_empty() {
            self.look(&line, found);
        }
    }

    fn look(&mut self, line: &[u8], found: &mut impl FnMut(usize, String)) {
        let line = without_escapes(line.strip_suffix(b"\r").unwrap_or(line));
        let text = String::from_utf8_lossy(&line);
        self.wanted.retain(|(number, pattern)| {
            let is_there = pattern.is_match(&text);
            if is_there {
                found(*number, text.clone().into_owned());
            }
            !is_there
        });
    }
}

const ESCAPE: u8 = 0x1b;
const BELL: u8 = 0x07;

/// Without the sequences of ECMA-48 that begin with `ESC [` and `ESC ]`.
fn without_escapes(line: &[u8]) -> Cow<'_, [u8]> {
    if !line.contains(&ESCAPE) {
        return Cow::Borrowed(line);
    }
    let (mut rest, mut kept) = (line, Vec::with_capacity(line.len()));
    while let Some(at) = rest.iter().position(|byte| *byte == ESCAPE) {
        kept.extend_from_slice(&rest[..at]);
        let after = &rest[at + 1..];
        rest = match after.first() {
            // Parameters, then one byte that ends it.
            Some(b'[') => {
                let end = after[1..].iter().position(|byte| (0x40..=0x7e).contains(byte));
                end.map_or(&[], |end| &after[end + 2..])
            }
            // A text, then BEL or ESC \.
            Some(b']') => match after.iter().position(|byte| [BELL, ESCAPE].contains(byte)) {
                Some(end) if after[end] == BELL => &after[end + 1..],
                Some(end) => after[end + 1..].strip_prefix(b"\\").unwrap_or(&after[end + 1..]),
                None => &[],
            },
            Some(_) | None => after,
        };
    }
    kept.extend_from_slice(rest);
    Cow::Owned(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is found when the output comes in pieces of so many bytes.
    fn found(patterns: &[&str], output: &[u8], piece: usize) -> Vec<(usize, String)> {
        let patterns: Vec<_> = patterns.iter().map(|text| Regex::new(text).unwrap()).collect();
        let (mut lines, mut all) = (Lines::new(&patterns), Vec::new());
        let mut take = |number, line| all.push((number, line));
        output.chunks(piece).for_each(|bytes| lines.take(bytes, &mut take));
        lines.end(&mut take);
        all
    }

    fn in_any_pieces(patterns: &[&str], output: &[u8], expected: &[(usize, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(n, line)| (*n, (*line).to_owned())).collect();
        for piece in [1, 2, 3, 7, 4096, usize::MAX] {
            assert_eq!(found(patterns, output, piece), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn each_pattern_is_found_once_in_the_first_line_that_it_fits() {
        let output = b"starting\nlistening on 8000\r\nlistening on 8001\nready\n";
        let expected = [(1, "listening on 8000"), (2, "listening on 8000"), (0, "ready")];
        in_any_pieces(&["^ready$", "listening", r"8\d+$", "never"], output, &expected);
    }

    #[test]
    fn a_line_is_whole_when_its_newline_comes_or_the_output_ends() {
        in_any_pieces(&["^ab$"], b"a\nb\nab", &[(0, "ab")]);
        let patterns = [Regex::new("ab").unwrap()];
        let (mut lines, mut count) = (Lines::new(&patterns), 0);
        lines.take(b"ab", &mut |_, _| count += 1);
        assert_eq!(count, 0, "more of it may come");
    }

    #[test]
    fn colours_and_links_are_left_out_and_what_is_no_utf_8_is_replaced() {
        let output = b"\x1b[32mINFO\x1b[0m:  \x1b]8;;http://x\x1b\\up\x1b]8;;\x07 now\x1b[\n";
        in_any_pieces(&["^INFO:  up now$"], output, &[(0, "INFO:  up now")]);
        in_any_pieces(&["^a.b$"], b"a\xffb\n", &[(0, "a\u{fffd}b")]);
        in_any_pieces(&["b$"], b"a\x1b", &[]);
    }

    #[test]
    fn a_longer_line_is_looked_at_in_its_first_bytes_and_the_next_is_whole() {
        let long = [vec![b'x'; limits::OUTPUT_LINE_MAX - 3], b"endbeyond\nnext\n".to_vec()].concat();
        for piece in [1, 1000, 4096, usize::MAX] {
            let all = found(&["end$", "beyond", "^next$"], &long, piece);
            let numbers: Vec<_> = all.iter().map(|(number, _)| *number).collect();
            assert_eq!(numbers, [0, 2], "in pieces of {piece}");
            assert_eq!(all[0].1.len(), limits::OUTPUT_LINE_MAX);
        }
        let exact = [vec![b'x'; limits::OUTPUT_LINE_MAX], b"\n\nnext\n".to_vec()].concat();
        assert_eq!(
            found(&["^next$", "^$"], &exact, 4096).len(),
            2,
            "a line of just the bound"
        );
    }

    proptest! {
        #[test]
        fn however_the_output_is_cut_the_same_is_found(
            output in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(ESCAPE), Just(b'['), Just(b'm'), Just(b']'), Just(BELL), any::<u8>()], 0..200),
            piece in 1_usize..50,
        ) {
            let patterns = ["m", "^$", "a|b|c"];
            prop_assert_eq!(found(&patterns, &output, piece), found(&patterns, &output, usize::MAX));
        }
    }
}
