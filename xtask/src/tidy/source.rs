//! Reads Rust source well enough to count: blanks out comments and strings, finds functions and test modules.
//!
//! No parser. [`code`] keeps every line and column where it was, so that what is
//! found in the blanked text has the line number of the original.

/// The source with every comment, string and character literal turned into spaces.
pub(crate) fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' | b'b' | b'c' if !follows_word(bytes, at) => raw_string_end(bytes, at).unwrap_or(at),
            b'\'' => char_end(bytes, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            at += 1;
            continue;
        }
        for byte in &mut out[at..end.min(bytes.len())] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    // Only whole characters outside of comments and strings are left as they were.
    String::from_utf8_lossy(&out).into_owned()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn follows_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && is_word(bytes[at - 1])
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..]
        .iter()
        .position(|&byte| byte == b'\n')
        .map_or(bytes.len(), |length| at + length)
}

/// Block comments nest.
fn block_comment_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// `r"…"`, `r#"…"#`, `br"…"`, `cr"…"`; `None` for anything else that begins so.
fn raw_string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let prefix = if bytes[at] == b'r' { 1 } else { 2 };
    if prefix == 2 && bytes.get(at + 1) != Some(&b'r') {
        return None;
    }
    let hashes = bytes[at + prefix..].iter().take_while(|&&byte| byte == b'#').count();
    let open = at + prefix + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = &bytes[open + 1..];
    let length = body
        .windows(close.len())
        .position(|window| window == close)
        .unwrap_or(body.len());
    Some(open + 1 + length + close.len())
}

/// A character literal; `None` for a lifetime.
fn char_end(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at + 1) == Some(&b'\\') {
        let rest = bytes.get(at + 3..)?;
        return rest
            .iter()
            .position(|&byte| byte == b'\'')
            .map(|length| at + 3 + length + 1);
    }
    // One character of up to four bytes.
    let width = std::str::from_utf8(bytes.get(at + 1..)?)
        .ok()?
        .chars()
        .next()?
        .len_utf8();
    (bytes.get(at + 1 + width) == Some(&b'\'')).then_some(at + 2 + width)
}

/// A function's name and its lines, counted from 0; the last is the one of its closing brace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) first: usize,
    pub(crate) last: usize,
}

/// Every function with a body in blanked source; one inside another counts for both.
pub(crate) fn functions(code: &str) -> Vec<Function> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let name: String = code[at + 3..]
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        if name.is_empty() || follows_word(bytes, at) {
            continue;
        }
        if let Some((open, close)) = body(bytes, at) {
            debug_assert!(open < close);
            found.push(Function {
                name,
                first: line_of(code, at),
                last: line_of(code, close),
            });
        }
    }
    found
}

/// The braces of the first block after `at`, unless a `;` outside of brackets comes first.
fn body(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut brackets = 0;
    for (open, byte) in bytes.iter().enumerate().skip(at) {
        match byte {
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets -= 1,
            b';' if brackets == 0 => return None,
            b'{' if brackets == 0 => return Some((open, closing_brace(bytes, open)?)),
            _ => {}
        }
    }
    None
}

fn closing_brace(bytes: &[u8], open: usize) -> Option<usize> {
    let mut depth = 0;
    for (at, byte) in bytes.iter().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// The line of a byte, from 0.
fn line_of(code: &str, at: usize) -> usize {
    code.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count()
}

/// For each line whether it is test code: all of a test file, else what `#[cfg(test)]` stands before.
pub(crate) fn test_lines(path: &str, code: &str) -> Vec<bool> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let everywhere = path.split('/').any(|part| part == "tests") || name == "tests.rs" || name.ends_with("_test.rs");
    let mut lines = vec![everywhere; code.lines().count()];
    for (at, attribute) in code.match_indices("#[cfg(test)]") {
        if let Some((_, close)) = body(code.as_bytes(), at + attribute.len()) {
            lines[line_of(code, at)..=line_of(code, close)].fill(true);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_blanked_and_nothing_moves() {
        let text =
            "a /* { /* } */ { */ b // {\nlet s = \"{ \\\" }\"; let r = r#\"{\" }\"#; let c = '{'; let d = '\\''; }";
        let code = code(text);
        assert_eq!(code.len(), text.len());
        assert_eq!(code.lines().count(), text.lines().count());
        assert!(!code.contains('{'), "{code}");
        assert!(
            code.contains('a') && code.contains('b') && code.ends_with('}'),
            "{code}"
        );
    }

    #[test]
    fn a_lifetime_is_no_character_and_an_r_in_a_word_no_raw_string() {
        let text = "fn f<'a>(x: &'a str) -> &'a str { for\"\" } '€' br\"{\" b'{' b\"{\"";
        let code = code(text);
        assert!(code.starts_with("fn f<'a>(x: &'a str) -> &'a str { for"), "{code}");
        assert_eq!(code.matches('{').count(), 1, "{code}");
    }

    #[test]
    fn functions_are_found_with_their_lines() {
        let text = "trait T { fn declared(x: [u8; 3]); }\nfn outer(f: fn(u8) -> u8) -> [u8; 2]\nwhere\n{\n    fn inner() {}\n}\n";
        let found = functions(&code(text));
        let names: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.first, f.last)).collect();
        assert_eq!(names, [("outer", 1, 5), ("inner", 4, 4)]);
    }

    #[test]
    fn test_code_is_told_from_the_rest() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
        assert_eq!(
            test_lines("crates/x/src/a.rs", &code(text)),
            [false, true, true, true, true, false]
        );
        assert!(test_lines("crates/x/tests/a.rs", "x\ny").iter().all(|&test| test));
        assert!(test_lines("crates/x/src/gate/tests.rs", "x").iter().all(|&test| test));
        assert_eq!(
            test_lines("crates/x/src/lib.rs", "#[cfg(test)]\nmod tests;\nfn a() {}\n"),
            [false; 3]
        );
    }
}
