//! Which tests are wanted: the words that `cargo test` and its friends pass to a harness. Pure.

use crate::{TESTS, Test};

/// The tests that are wanted. A name that fits none is of another harness: `cargo test NAME` asks all of them.
pub(crate) fn chosen(arguments: &[String]) -> Vec<Test> {
    // Flags of the standard harness that have a value of their own.
    const VALUED: [&str; 6] = ["--skip", "--test-threads", "--color", "--format", "--logfile", "-Z"];
    let (mut names, mut skipped, mut exact) = (Vec::new(), Vec::new(), false);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--skip" => skipped.extend(words.next()),
            "--exact" => exact = true,
            valued if VALUED.contains(&valued) => drop(words.next()),
            flag if flag.starts_with('-') => {}
            _ => names.push(word),
        }
    }
    let fits = |name: &str, wanted: &str| if exact { name == wanted } else { name.contains(wanted) };
    let is_wanted = |name: &str| {
        let named = names.is_empty() || names.iter().any(|wanted| fits(name, wanted));
        named && !skipped.iter().any(|skipped| fits(name, skipped))
    };
    TESTS.into_iter().filter(|(name, _)| is_wanted(name)).collect()
}

pub(crate) fn wanted() {
    let count = |line: &str| {
        let words: Vec<String> = line.split_whitespace().map(String::from).collect();
        chosen(&words).len()
    };
    assert_eq!(count(""), TESTS.len());
    assert_eq!(count("--nocapture --test-threads 1"), TESTS.len());
    assert_eq!(count("planted_loss deaf --nocapture"), 2);
    assert_eq!(count("--skip planted"), TESTS.len() - 4);
    assert_eq!(count("--exact deaf"), 0);
    assert_eq!(count("no_such_test"), 0);
}
