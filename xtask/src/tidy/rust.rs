//! What is asked of Rust source: size, a header, no unfinished work, no sleeping tests, bounds in one file.
//!
//! The sleeping is looked for in the Python and JavaScript of the tests too.

use super::{Complaint, File, allowed, source};

/// A file that grows longer has two subjects.
const FILE_LINES_MAX: usize = 600;
/// A function fits a screen.
const FUNCTION_LINES_MAX: usize = 70;

/// Unfinished work. Put together from halves, so that this file does not accuse itself.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("#[ig", "nore"),
];

/// Where bounds are constants, and the file that holds them.
const BOUNDED: &[&str] = &["crates/greenroom-core/src/", "crates/greenroom/src/"];
const LIMITS: &str = "crates/greenroom-core/src/limits.rs";
const BELOW_LIMITS: &str = "crates/greenroom-core/src/limits/";

/// All complaints about one file.
pub(crate) fn check(file: &File) -> Vec<Complaint> {
    let is_rust = file.path.ends_with(".rs");
    let is_script = [".py", ".js", ".sh"].iter().any(|end| file.path.ends_with(end));
    let mut complaints = Vec::new();
    if is_rust || is_script {
        complaints.extend(unfinished(file));
    }
    if is_rust {
        let code = source::code(&file.text);
        let tests = source::test_lines(&file.path, &code);
        complaints.extend(file_size(file));
        complaints.extend(function_sizes(file, &code));
        complaints.extend(header(file));
        complaints.extend(sleeps(file, &code, &tests));
        complaints.extend(durations(file, &code, &tests));
    } else if is_script && file.path.starts_with("tests/") {
        complaints.extend(sleeps(file, &file.text, &vec![true; file.text.lines().count()]));
    }
    complaints
}

fn file_size(file: &File) -> Option<Complaint> {
    let lines = file.text.lines().count();
    (lines > FILE_LINES_MAX).then(|| {
        Complaint::new(
            file,
            lines,
            format!("{lines} lines; a file has at most {FILE_LINES_MAX}: split it by subject"),
        )
    })
}

fn function_sizes(file: &File, code: &str) -> Vec<Complaint> {
    let too_long = source::functions(code)
        .into_iter()
        .filter(|f| f.last - f.first + 1 > FUNCTION_LINES_MAX);
    let complaint = |f: source::Function| {
        let (name, lines) = (&f.name, f.last - f.first + 1);
        let what = format!("`{name}` has {lines} lines; a function has at most {FUNCTION_LINES_MAX}: split it");
        Complaint::new(file, f.first + 1, what)
    };
    too_long.map(complaint).collect()
}

fn header(file: &File) -> Option<Complaint> {
    (!file.text.starts_with("//! ")).then(|| {
        Complaint::new(
            file,
            1,
            "the file does not open with `//!`: say what it decides, its place and its bounds",
        )
    })
}

fn unfinished(file: &File) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for word in UNFINISHED.iter().filter(|word| line.contains(**word)) {
            complaints.push(Complaint::new(
                file,
                index + 1,
                format!("`{word}`: finish it, or write an issue"),
            ));
        }
    }
    complaints
}

fn sleeps(file: &File, code: &str, tests: &[bool]) -> Vec<Complaint> {
    let original: Vec<&str> = file.text.lines().collect();
    let sleeps = |(index, line): &(usize, &str)| {
        tests.get(*index) == Some(&true) && line.contains(concat!("sle", "ep(")) && !allowed(&original, *index, "sleep")
    };
    let what = "a test sleeps: wait for an event or a condition, with a deadline (or: tidy: allow-sleep REASON)";
    code.lines()
        .enumerate()
        .filter(sleeps)
        .map(|(index, _)| Complaint::new(file, index + 1, what))
        .collect()
}

fn durations(file: &File, code: &str, tests: &[bool]) -> Vec<Complaint> {
    let is_limits = file.path == LIMITS || file.path.starts_with(BELOW_LIMITS);
    if is_limits || !BOUNDED.iter().any(|folder| file.path.starts_with(folder)) {
        return Vec::new();
    }
    let original: Vec<&str> = file.text.lines().collect();
    let mut complaints = Vec::new();
    for (index, line) in code.lines().enumerate() {
        if tests.get(index) == Some(&false) && has_duration_constant(line) && !allowed(&original, index, "duration") {
            let what =
                "a duration as a number: bounds live in limits.rs, with their reason (or: tidy: allow-duration REASON)";
            complaints.push(Complaint::new(file, index + 1, what));
        }
    }
    complaints
}

/// `Duration::from_secs(5)`, but not `Duration::from_secs(seconds)`.
fn has_duration_constant(line: &str) -> bool {
    line.match_indices("Duration::").any(|(at, start)| {
        let call = &line[at + start.len()..];
        let is_made = call.starts_with("from_") || call.starts_with("new(");
        let argument = call.split_once('(').map_or("", |(_, argument)| argument.trim_start());
        is_made && argument.starts_with(|c: char| c.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::file;
    use super::*;

    /// The lines complained about in a file at `path`.
    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&file(path, text))
            .into_iter()
            .map(|complaint| complaint.line)
            .collect()
    }

    const SLEEP: &str = concat!("sle", "ep(second)");

    #[test]
    fn a_long_file_is_refused_one_line_too_long() {
        let text = |lines: usize| format!("//! A.\n{}", "const A: u8 = 1;\n".repeat(lines - 1));
        assert_eq!(lines("sim/src/a.rs", &text(600)), []);
        assert_eq!(lines("sim/src/a.rs", &text(601)), [601]);
    }

    #[test]
    fn a_long_function_is_refused_one_line_too_long() {
        let text = |lines: usize| format!("//! A.\nfn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2));
        assert_eq!(lines("sim/src/a.rs", &text(70)), []);
        assert_eq!(lines("sim/src/a.rs", &text(71)), [2]);
    }

    #[test]
    fn a_file_without_a_header_is_refused() {
        assert_eq!(lines("bench/src/a.rs", "// A.\nfn f() {}\n"), [1]);
        assert_eq!(lines("crates/x/tests/a.rs", "fn f() {}\n"), [1]);
        assert_eq!(lines("bench/src/a.rs", "//! A.\nfn f() {}\n"), []);
    }

    #[test]
    fn unfinished_work_is_refused_in_code_and_comments() {
        for word in UNFINISHED {
            assert_eq!(lines("sim/src/a.rs", &format!("//! A.\n// {word}\n")), [2], "{word}");
            assert_eq!(lines("tests/e2e/a.py", &format!("# {word}\n")), [1], "{word}");
        }
    }

    #[test]
    fn a_sleeping_test_is_refused_unless_it_says_why() {
        let text = |line: &str| format!("//! A.\nfn f() {{ {SLEEP} }}\n#[cfg(test)]\nmod tests {{\n{line}\n}}\n");
        assert_eq!(lines("sim/src/a.rs", &text(SLEEP)), [5]);
        assert_eq!(
            lines(
                "sim/src/a.rs",
                &text(&format!("{SLEEP} // tidy: allow-sleep the thing tested"))
            ),
            []
        );
        assert_eq!(lines("sim/src/a.rs", &text(&format!("// {SLEEP}"))), []);
        assert_eq!(lines("crates/x/tests/a.rs", &format!("//! A.\n{SLEEP}\n")), [2]);
        assert_eq!(lines("tests/e2e/a.py", &format!("{SLEEP}\n")), [1]);
    }

    #[test]
    fn a_duration_outside_of_limits_is_refused_unless_it_says_why() {
        let text = "//! A.\nconst A: Duration = Duration::from_secs(5);\n";
        assert_eq!(lines("crates/greenroom-core/src/gate.rs", text), [2]);
        assert_eq!(lines("crates/greenroom/src/dial.rs", text), [2]);
        assert_eq!(lines(LIMITS, text), []);
        assert_eq!(lines("crates/greenroom-cli/src/main.rs", text), []);
        assert_eq!(
            lines(
                "crates/greenroom/src/dial.rs",
                "//! A.\nlet a = Duration::from_secs(seconds);\n"
            ),
            []
        );
        assert_eq!(
            lines(
                "crates/greenroom/src/dial.rs",
                "//! A.\n/// `Duration::from_secs(5)`\nfn f() {}\n"
            ),
            []
        );
        let tested = "//! A.\n#[cfg(test)]\nmod tests {\n    const A: Duration = Duration::from_millis(5);\n}\n";
        assert_eq!(lines("crates/greenroom/src/dial.rs", tested), []);
        let allowed = "//! A.\n// tidy: allow-duration the unit of a parser\nlet a = Duration::from_secs(5);\n";
        assert_eq!(lines("crates/greenroom/src/dial.rs", allowed), []);
    }
}
