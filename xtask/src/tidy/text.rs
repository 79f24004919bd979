//! What is asked of every text file: nobody's machine, no registry's host, one word per thing.
//!
//! `Cargo.lock` may name one registry and nothing else.

use super::{Complaint, File, allowed};

/// Folders of somebody's machine. In halves, so that this file does not accuse itself.
const FOLDERS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Where packages come from is the machine's business.
const HOSTS: &[&str] = &[
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("npm", "js"),
    concat!("debian", ".org"),
];

/// The one registry of Cargo.lock.
const REGISTRY: &str = concat!("registry+https://github.com/rust-lang/crates", ".io-index");

/// The lexicon says what to write instead.
const WORDS: &[(&str, &str)] = &[
    (concat!("up", "stream"), "backend"),
    (concat!("white", "list"), "allow-list"),
    (concat!("black", "list"), "deny-list"),
];

/// A word in a documented close reason.
const QUOTED: &str = concat!("up", "stream-status=");

/// The file that explains the words that are not used.
const LEXICON: &str = "docs/lexicon.md";

/// All complaints about one file.
pub(crate) fn check(file: &File) -> Vec<Complaint> {
    let name = file.path.rsplit('/').next().unwrap_or(&file.path);
    if name == "Cargo.lock" {
        return lock(file);
    }
    let lines: Vec<&str> = file.text.lines().collect();
    let mut complaints = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        for folder in FOLDERS.iter().filter(|folder| has_absolute(line, folder)) {
            complaints.push(Complaint::new(
                file,
                index + 1,
                format!("`{folder}` is a folder of one machine"),
            ));
        }
        for host in HOSTS.iter().filter(|host| line.contains(**host)) {
            complaints.push(Complaint::new(
                file,
                index + 1,
                format!("`{host}` is a registry's host: leave it out"),
            ));
        }
        if file.path != LEXICON && !allowed(&lines, index, "word") {
            complaints.extend(words(file, index, line));
        }
    }
    complaints
}

/// `folder` at the start of a path, not in the middle of a longer one.
fn has_absolute(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "_-.})".contains(c))
    })
}

fn words(file: &File, index: usize, line: &str) -> Vec<Complaint> {
    let line = line.to_lowercase().replace(QUOTED, "");
    let used = WORDS.iter().filter(|(word, _)| line.contains(word));
    let complaint = |(word, instead): &(&str, &str)| {
        let what = format!("`{word}`: the word here is {instead}, see {LEXICON} (or: tidy: allow-word REASON)");
        Complaint::new(file, index + 1, what)
    };
    used.map(complaint).collect()
}

fn lock(file: &File) -> Vec<Complaint> {
    let is_foreign = |line: &str| line.contains("://") && line.trim() != format!("source = \"{REGISTRY}\"");
    let foreign = file.text.lines().enumerate().filter(|(_, line)| is_foreign(line));
    foreign
        .map(|(index, line)| Complaint::new(file, index + 1, format!("`{line}`: only {REGISTRY} is allowed")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::file;
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&file(path, text))
            .into_iter()
            .map(|complaint| complaint.line)
            .collect()
    }

    #[test]
    fn a_machines_folder_is_refused_and_a_part_of_a_path_is_not() {
        for folder in FOLDERS {
            assert_eq!(lines("README.md", &format!("see\n`{folder}x`\n")), [2], "{folder}");
            assert_eq!(lines("a.rs", &format!("target{folder}x")), [], "{folder}");
        }
    }

    #[test]
    fn a_registrys_host_is_refused() {
        for host in HOSTS {
            assert_eq!(lines("docs/a.md", &format!("https://{host}/x")), [1], "{host}");
        }
    }

    #[test]
    fn a_word_of_others_is_refused_but_where_it_is_explained_or_quoted() {
        for (word, _) in WORDS {
            assert_eq!(lines("docs/a.md", &word.to_uppercase()), [1], "{word}");
            assert_eq!(lines(LEXICON, word), [], "{word}");
            assert_eq!(
                lines(
                    "bench/a.conf",
                    &format!("{word} # tidy: allow-word another proxy's syntax")
                ),
                []
            );
        }
        assert_eq!(lines("docs/a.md", &format!("1008 `{QUOTED}403`")), []);
    }

    #[test]
    fn the_lock_file_names_one_registry() {
        assert_eq!(
            lines("Cargo.lock", &format!("name = \"a\"\nsource = \"{REGISTRY}\"\n")),
            []
        );
        assert_eq!(
            lines(
                "Cargo.lock",
                "name = \"a\"\nsource = \"sparse+https://mirror.example/\"\n"
            ),
            [2]
        );
        assert_eq!(
            lines("fuzz/Cargo.lock", "source = \"git+https://example.org/a\"\n"),
            [1]
        );
    }
}
