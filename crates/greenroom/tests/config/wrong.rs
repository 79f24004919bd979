//! Each file in `wrong/` is a mistake that people make. What is said about it is a
//! snapshot: a changed message shows in review, and is read as a newcomer would read it.

use std::path::Path;

use super::check;

#[test]
fn each_mistake_is_told_with_what_to_do() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/wrong");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 60);
    for file in files {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let bytes = std::fs::read(&file).unwrap();
        let Err(invalid) = check("greenroom.toml", &bytes) else {
            panic!("{name} is taken for right");
        };
        let text = invalid.render(false);
        assert!(!text.contains("hunter2"), "{name} shows a secret:\n{text}");
        insta::assert_snapshot!(name, text);
    }
}

#[test]
fn a_file_that_is_too_long_is_told_so() {
    let long = "# nothing\n".repeat(30_000);
    let text = check("greenroom.toml", long.as_bytes()).unwrap_err().render(false);
    insta::assert_snapshot!("file_that_is_too_long", text);
}

#[test]
fn a_thousand_mistakes_are_counted_and_not_all_shown() {
    let many = (0..1_000).fold(String::new(), |text, count| format!("{text}key_{count} = 1\n"));
    let invalid = check("greenroom.toml", many.as_bytes()).unwrap_err();
    assert_eq!(invalid.count(), 1_001); // and no backend
    let text = invalid.render(false);
    assert!(text.ends_with("1001 errors, the first 100 of them shown\n"), "{text}");
    assert_eq!(text.matches("error: ").count(), 100);
}

#[test]
fn colours_change_nothing_but_the_colour() {
    let invalid = check("greenroom.toml", b"grace = 1").unwrap_err();
    let (plain, coloured) = (invalid.render(false), invalid.render(true));
    assert!(!plain.contains('\u{1b}') && coloured.contains('\u{1b}'));
    let mut bare = String::new();
    let mut parts = coloured.split('\u{1b}');
    bare.push_str(parts.next().unwrap());
    for part in parts {
        bare.push_str(part.split_once('m').unwrap().1);
    }
    assert_eq!(bare, plain);
}

#[test]
fn nothing_in_a_file_can_move_the_cursor() {
    let text = check(
        "greenroom.toml",
        "\"a\u{1b}[2Jb\u{202e}\" = \"\\u001b[2J\"\nlog_format = \"\\u001b[2J\"".as_bytes(),
    );
    let text = text.unwrap_err().render(false);
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
}

/// The most that there may be is right, and one more is told and not looked at.
#[test]
fn one_too_many_is_told() {
    use greenroom_core::limits::{BACKENDS_MAX, HEADER_EDITS_MAX, LISTENERS_MAX, ROUTES_MAX};
    let many = |count: usize, one: &dyn Fn(usize) -> String| (0..count).map(one).collect::<String>();
    let app = "[backend.app]\naddress = \"127.0.0.1:9\"\n";
    let listener = |n: usize| format!("[listener.l{n}]\naddress = \"127.0.0.1:{}\"\n", 1_000 + n);
    let backend = |n: usize| {
        format!("[backend.b{n}]\naddress = \"127.0.0.1:9\"\n[[route]]\npath = \"/{n}\"\nbackend = \"b{n}\"\n")
    };
    let route = |n: usize| format!("[[route]]\npath = \"/{n}\"\n");
    let field = |n: usize| format!("X-{n} = \"\"\n");
    type Case<'a> = (&'a str, usize, &'a str, &'a dyn Fn(usize) -> String);
    let cases: [Case<'_>; 4] = [
        ("listeners", LISTENERS_MAX, app, &listener),
        ("backends", BACKENDS_MAX, "", &backend),
        ("routes", ROUTES_MAX, app, &route),
        (
            "fields",
            HEADER_EDITS_MAX,
            "[backend.app]\naddress = \"127.0.0.1:9\"\n[[route]]\n[route.request_headers.set]\n",
            &field,
        ),
    ];
    for (what, most, begin, one) in cases {
        let fits = format!("{begin}{}", many(most, one));
        assert!(check("a.toml", fits.as_bytes()).is_ok(), "{most} {what}");
        let over = format!("{begin}{}", many(most + 1, one));
        let text = check("a.toml", over.as_bytes()).unwrap_err().render(false);
        assert!(text.contains(&format!("there are {} {what}", most + 1)), "{text}");
        assert!(text.contains(&format!("at most {most} may be")), "{text}");
    }
}
