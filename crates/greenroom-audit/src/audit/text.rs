//! Numbers and words as people read them: the one way in which every format writes a time, a share, a count. Pure.
//!
//! Text of others passes [`foreign`] where it enters a report.
//! Sentences carry their code between backticks. Each format writes that in its own way: [`parts`] and [`plain`].

use super::record::Interval;
use super::stats::Share;

/// A time, with three digits: `850 µs`, `12.3 ms`, `2.84 s`.
#[must_use]
pub fn span(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1_000_000 => (ns as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        1_000_000_000.. => (ns as f64 / 1e9, "s"),
    };
    let digits = match value {
        value if value < 10.0 && unit != "µs" => 2,
        value if value < 100.0 && unit != "µs" => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// An interval: `11.8 to 12.6 ms`.
#[must_use]
pub fn between(interval: Interval) -> String {
    let (low, high) = (span(interval.low_ns), span(interval.high_ns));
    match (low.rsplit_once(' '), high.rsplit_once(' ')) {
        _ if low == high => low,
        (Some((number, one)), Some((_, other))) if one == other => format!("{number} to {high}"),
        _ => format!("{low} to {high}"),
    }
}

/// A moment or a time with its uncertainty: `1.21 s (± 4.6 ms)`; where hardly more than its end is known, that: `at most 1.53 s`.
#[must_use]
pub fn about(interval: Interval) -> String {
    if interval.half() > interval.high_ns / 8 && interval.half() > 1_000_000 {
        return format!("at most {}", span(interval.high_ns));
    }
    if interval.half() == 0 {
        return span(interval.high_ns);
    }
    format!("{} (± {})", span(interval.middle()), span(interval.half()))
}

/// A count, 12345 as `12,345`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 start`, `2 starts`.
#[must_use]
pub fn count(number: u64, thing: &str) -> String {
    let more = if number == 1 { "" } else { "s" };
    format!("{} {thing}{more}", grouped(number))
}

/// A time that may be below zero, from the least to the most: `−3.10 to 1.20 ms`.
#[must_use]
pub fn signed(least: i64, most: i64) -> String {
    let one = |ns: i64| format!("{}{}", if ns < 0 { "−" } else { "" }, span(ns.unsigned_abs()));
    if least == most {
        one(least)
    } else {
        format!("{} to {}", one(least), one(most))
    }
}

/// The pieces of a text in their order: `true` for what stands between backticks.
pub fn parts(text: &str) -> impl Iterator<Item = (bool, &str)> {
    let pieces = text
        .split('`')
        .enumerate()
        .map(|(index, piece)| (index % 2 == 1, piece));
    pieces.filter(|(_, piece)| !piece.is_empty())
}

/// Without backticks, for where code cannot be shown as such.
#[must_use]
pub fn plain(text: &str) -> String {
    text.replace('`', "")
}

/// Text of others in one line, as code between backticks: control characters become blanks, backticks go.
#[must_use]
pub fn quoted(text: &str) -> String {
    let safe = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let safe: String = safe.filter(|c| *c != '`').collect();
    if safe.trim().is_empty() {
        return "\"\"".to_owned(); // two backticks would begin code that does not end
    }
    format!("`{safe}`")
}

/// A share with its interval: `2.1 %, 99.99 % sure within 1.0 to 3.9 %`.
#[must_use]
pub fn percent(share: Share) -> String {
    let shown = |part: f64| format!("{:.*}", if part < 0.0995 { 2 } else { 1 }, part * 100.0);
    format!(
        "{} %, 99.99 % sure within {} to {} %",
        shown(share.seen()),
        shown(share.low),
        shown(share.high)
    )
}

/// Text that CMD or a peer wrote, fit for a line of any report, `max` characters of it: control characters are blanks, what
/// is invisible or turns the direction of text around (Unicode's `Cf`, line separators) is U+FFFD, and what a CI system
/// would take for a command (`::error::`, `##[group]`, `##vso[…]`) is broken by a blank.
#[must_use]
pub fn foreign(text: &str, max: usize) -> String {
    let mut safe = String::new();
    let mut last = ' ';
    for c in text.chars().take(max) {
        // The runner of GitHub trims a line before it looks for `::`, and a renderer may begin a line at any word.
        let begins = c == ':' && safe.ends_with(':') && !safe.strip_suffix(':').is_some_and(ends_in_word);
        if begins || c == '#' && last == '#' {
            safe.push(' ');
        }
        last = c;
        safe.push(match c {
            c if c.is_control() => ' ',
            c if is_unseen(c) => char::REPLACEMENT_CHARACTER,
            c => c,
        });
    }
    safe
}

/// Whether `::` behind this is a path of a program, such as `std::io`.
fn ends_in_word(text: &str) -> bool {
    text.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '>' | ')' | ']'))
}

/// General category Cf, and the separators of lines and paragraphs (Unicode 17).
const fn is_unseen(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// `a`, `a and b`, `a, b and c`.
#[must_use]
pub fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Text that may stand in XML, attributes included; what XML 1.0 has no place for becomes a blank.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' => safe.push_str("&#10;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        for (ns, text) in [
            (0, "0 µs"),
            (850_400, "850 µs"),
            (1_234_000, "1.23 ms"),
            (12_340_000, "12.3 ms"),
            (999_000_000, "999 ms"),
            (2_840_000_000, "2.84 s"),
            (61_000_000_000, "61.0 s"),
        ] {
            assert_eq!(span(ns), text);
        }
        assert_eq!(about(Interval::new(1_205_000_000, 1_215_000_000)), "1.21 s (± 5.00 ms)");
        assert_eq!(about(Interval::new(4_000_000, 1_530_000_000)), "at most 1.53 s");
        assert_eq!(about(Interval::new(0, 600_000)), "300 µs (± 300 µs)");
        assert_eq!(about(Interval::new(1_000_000, 1_000_000)), "1.00 ms");
        assert_eq!(between(Interval::new(11_800_000, 12_600_000)), "11.8 to 12.6 ms");
        assert_eq!(between(Interval::new(800_000, 2_600_000)), "800 µs to 2.60 ms");
        assert_eq!(
            percent(Share {
                hits: 2,
                of: 100,
                low: 0.001,
                high: 0.12
            }),
            "2.00 %, 99.99 % sure within 0.10 to 12.0 %"
        );
    }

    #[test]
    fn text_of_others_is_no_command_turns_nothing_around_and_hides_nothing() {
        for (text, safe) in [
            ("::error file=a::b", ": :error file=a::b"),
            ("  ::add-mask::e", "  : :add-mask::e"),
            ("x ::stop-commands::x", "x : :stop-commands::x"),
            ("\t:::x", " : : :x"),
            ("std::io::Error", "std::io::Error"),
            ("##[error]x ##vso[task]", "# #[error]x # #vso[task]"),
            ("### a", "# # # a"),
            ("a\u{1b}[31mb\r\n", "a [31mb  "),
            (
                "txt.\u{202e}exe \u{200b}\u{2028}\u{feff}\u{e0041}",
                "txt.\u{fffd}exe \u{fffd}\u{fffd}\u{fffd}\u{fffd}",
            ),
            ("größer 日本 👋", "größer 日本 👋"),
        ] {
            assert_eq!(foreign(text, 100), safe, "{text:?}");
        }
        assert_eq!(foreign("abc", 2), "ab");
    }

    #[test]
    fn counts_are_grouped_and_things_have_their_number() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(
            (count(1, "start"), count(2, "start")),
            ("1 start".into(), "2 starts".into())
        );
        assert_eq!(signed(-3_100_000, 1_200_000), "−3.10 ms to 1.20 ms");
        assert_eq!(signed(5_000, 5_000), "5 µs");
    }

    #[test]
    fn code_is_told_from_words_and_text_of_others_cannot_end_it() {
        let found: Vec<_> = parts("run `a b` and `c`").collect();
        assert_eq!(found, [(false, "run "), (true, "a b"), (false, " and "), (true, "c")]);
        assert_eq!(plain("run `a`"), "run a");
        assert_eq!(quoted("x`\n`y"), "`x y`");
        assert_eq!(quoted("`\n`"), "\"\"");
        assert_eq!(escaped("<\u{1b}\u{ffff}\n&'\">"), "&lt;  &#10;&amp;&#39;&quot;&gt;");
    }

    #[test]
    fn lists_end_with_and() {
        let words = ["a", "b", "c"].map(String::from);
        assert_eq!(
            (list(&words[..0]), list(&words[..1]), list(&words[..2]), list(&words)),
            (String::new(), "a".into(), "a and b".into(), "a, b and c".into())
        );
    }
}
