//! Where configuration comes from: texts, places in them, and what of them may be shown.
//!
//! Each layer is a text: the file, `NAME=value` of a variable, `--flag value` of the
//! command line. A [`Place`] points into one, so that an error can show it and a
//! value remembers its [`Origin`]. Texts are bounded by `CONFIG_MAX` (the file) and
//! by what the kernel gives a process (the others).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use greenroom_core::limits::CONFIG_MAX;

use super::mark::Mark;

/// A part of one of the [`Sources`], in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) source: usize,
    pub(super) range: Range<usize>,
}

/// What kind of text it is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    File(String),
    Variable(String),
    Flag(String),
}

#[derive(Clone, Debug)]
struct Source {
    kind: Kind,
    text: String,
    /// Where its lines begin: looked up for each value, so not counted each time.
    lines: Vec<usize>,
    /// Parts that may be secrets.
    secrets: Vec<Range<usize>>,
    /// Where values begin that stand in a profile in effect, and which that is.
    profiles: BTreeMap<usize, &'static str>,
}

/// All texts of one configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources(Vec<Source>);

/// Where an effective value comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A place in the file; line and column count from 1.
    File {
        /// The file, as it was named.
        path: String,
        /// Line.
        line: usize,
        /// Column, in characters.
        column: usize,
    },
    /// A place in the file, in the profile in effect.
    Profile {
        /// The profile.
        name: String,
        /// The file, as it was named.
        path: String,
        /// Line.
        line: usize,
        /// Column, in characters.
        column: usize,
    },
    /// A variable of the environment.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{path}:{line}:{column}"),
            Self::Profile {
                name,
                path,
                line,
                column,
            } => write!(f, "profile {name}, {path}:{line}:{column}"),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

impl Sources {
    /// Adds the file.
    pub(super) fn file(&mut self, path: &str, text: &str) -> usize {
        self.add(Kind::File(path.into()), text.into())
    }

    /// Adds a variable; the place is its value's.
    pub(super) fn variable(&mut self, name: &str, value: &str) -> Place {
        let source = self.add(Kind::Variable(name.into()), format!("{name}={value}"));
        let begin = name.len() + 1;
        Place {
            source,
            range: begin..begin + value.len(),
        }
    }

    /// Adds a flag with its value; the place is the value's. The words of CMD are given as one.
    pub(super) fn flag(&mut self, flag: &str, value: &str) -> Place {
        let shown = if flag == "--" { "CMD" } else { flag };
        let source = self.add(Kind::Flag(shown.into()), format!("{flag} {value}"));
        let begin = flag.len() + 1;
        Place {
            source,
            range: begin..begin + value.len(),
        }
    }

    /// Adds the words of CMD; the places are all of them, and each.
    pub(super) fn command(&mut self, words: &[String]) -> (Place, Vec<Place>) {
        let whole = self.flag("--", &words.join(" "));
        let mut begin = whole.range.start;
        let each = words
            .iter()
            .map(|word| {
                let range = begin..begin + word.len();
                begin = range.end + 1;
                Place {
                    source: whole.source,
                    range,
                }
            })
            .collect();
        (whole, each)
    }

    fn add(&mut self, kind: Kind, text: String) -> usize {
        let breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        self.0.push(Source {
            kind,
            lines: std::iter::once(0).chain(breaks).collect(),
            text,
            secrets: Vec::new(),
            profiles: BTreeMap::new(),
        });
        self.0.len() - 1
    }

    /// The text at a place.
    pub(super) fn text(&self, place: &Place) -> &str {
        self.0
            .get(place.source)
            .and_then(|source| source.text.get(place.range.clone()))
            .unwrap_or_default()
    }

    /// Whether it is in the file.
    pub(super) fn is_in_file(&self, place: &Place) -> bool {
        matches!(self.0.get(place.source), Some(source) if matches!(source.kind, Kind::File(_)))
    }

    /// Keeps a place from being shown, as what stands there may be a secret.
    pub(super) fn hide(&mut self, place: &Place) {
        if let Some(source) = self.0.get_mut(place.source) {
            source.secrets.push(place.range.clone());
        }
    }

    /// Remembers that a value is in effect because a profile says so.
    pub(super) fn of_profile(&mut self, place: &Place, name: &'static str) {
        if let Some(source) = self.0.get_mut(place.source) {
            source.profiles.insert(place.range.start, name);
        }
    }

    /// Whether one layer says both: what it says without effect is a slip, what a later layer
    /// takes the effect of is not. What nobody says goes with everything.
    pub(super) fn in_one_layer(&self, a: Option<&Place>, b: Option<&Place>) -> bool {
        let layer = |place: &Place| {
            let source = self.0.get(place.source);
            (
                place.source,
                source.and_then(|source| source.profiles.get(&place.range.start)),
            )
        };
        match (a, b) {
            (Some(a), Some(b)) => layer(a) == layer(b),
            _ => true,
        }
    }

    /// Keeps what follows the `=` of such keys from being shown, in a file that could not be parsed.
    pub(super) fn hide_lines(&mut self, source: usize, is_secret: impl Fn(&str) -> bool) {
        let Some(source) = self.0.get_mut(source) else { return };
        let mut begin = 0;
        for line in source.text.split_inclusive('\n') {
            let mut signs = line.match_indices('=').map(|(at, _)| at);
            let secret = signs.find(|&at| {
                let key = line[..at].trim_end().rsplit(['.', ',', '{', ' ', '\t']).next();
                key.is_some_and(&is_secret)
            });
            if let Some(at) = secret {
                source
                    .secrets
                    .push(begin + at + 1..begin + line.trim_end().len().max(at + 1));
            }
            begin += line.len();
        }
    }

    /// The origin of what stands at a place.
    pub(super) fn origin(&self, place: &Place) -> Origin {
        let Some(source) = self.0.get(place.source) else {
            return Origin::Default;
        };
        match &source.kind {
            Kind::Variable(name) => Origin::Variable(name.clone()),
            Kind::Flag(flag) => Origin::Flag(flag.clone()),
            Kind::File(path) => {
                let (line, column) = source.line_column(place.range.start);
                let path = path.clone();
                match source.profiles.get(&place.range.start) {
                    Some(name) => Origin::Profile {
                        name: (*name).into(),
                        path,
                        line,
                        column,
                    },
                    None => Origin::File { path, line, column },
                }
            }
        }
    }

    /// The lines of a source that hold `range`, to be shown: where they begin, the number of the first,
    /// and their text with secrets blackened, byte for byte.
    pub(super) fn excerpt(&self, source: usize, range: &Range<usize>) -> Option<Excerpt<'_>> {
        let source = self.0.get(source)?;
        let text = source.text.as_str();
        let first = floor(text, range.start);
        let last = floor(text, range.end.max(range.start));
        let begin = text[..first].rfind('\n').map_or(0, |at| at + 1);
        let end = text[last..].find('\n').map_or(text.len(), |at| last + at);
        let mut shown = text[begin..end].to_owned();
        for secret in &source.secrets {
            let (from, to) = (secret.start.max(begin), secret.end.min(end));
            if let (true, Some(_)) = (from < to, text.get(from..to)) {
                shown.replace_range(from - begin..to - begin, &"*".repeat(to - from));
            }
        }
        Some(Excerpt {
            path: match &source.kind {
                Kind::File(path) => path,
                Kind::Variable(_) => "environment",
                Kind::Flag(_) => "command line",
            },
            is_file: matches!(source.kind, Kind::File(_)),
            begin,
            first_line: source.line(begin) + 1,
            text: shown,
        })
    }
}

/// See [`Sources::excerpt`].
pub(super) struct Excerpt<'a> {
    pub(super) path: &'a str,
    pub(super) is_file: bool,
    pub(super) begin: usize,
    pub(super) first_line: usize,
    pub(super) text: String,
}

/// The character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

impl Source {
    /// The index of the line that holds the byte `at`.
    fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|&begin| begin <= at).saturating_sub(1)
    }

    /// Line and column, in characters, from 1.
    fn line_column(&self, at: usize) -> (usize, usize) {
        let at = floor(&self.text, at);
        let line = self.line(at);
        let begin = self.lines.get(line).copied().unwrap_or(0);
        (line + 1, self.text[begin..at].chars().count() + 1)
    }
}

/// Why a file's content could not be used at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// The system refused.
    #[error("cannot read {path}: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// A folder, a device, a pipe.
    #[error("{path} is {what}, not a file: name the TOML file itself, such as greenroom.toml")]
    NotRegular {
        /// The file.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// Longer than `CONFIG_MAX`.
    #[error("{path} has more than {} KiB: a configuration is far smaller, so this is some other file", CONFIG_MAX / 1024)]
    TooLong {
        /// The file.
        path: String,
    },
    /// Begins with a byte order mark.
    #[error("{path} begins with a byte order mark ({mark}): save it as UTF-8 without one")]
    Mark {
        /// The file.
        path: String,
        /// Whose it is.
        mark: &'static str,
    },
    /// Not UTF-8.
    #[error(
        "{path} is not UTF-8: the byte 0x{byte:02x} in line {line} is no part of a character; save the file as UTF-8"
    )]
    NotUtf8 {
        /// The file.
        path: String,
        /// Where.
        line: usize,
        /// The byte.
        byte: u8,
    },
}

/// Reads a file that is regular, not too long, and UTF-8.
pub(super) fn read_file(path: &std::path::Path) -> Result<(String, Mark), FileError> {
    use std::io::Read;
    use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
    let shown = || path.display().to_string();
    let unreadable = |error| FileError::Unreadable { path: shown(), error };
    // Without O_NONBLOCK the opening of a named pipe would wait for a writer.
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nonblock)
        .open(path)
        .map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?; // before it is read: what changes meanwhile is another
    let kind = about.file_type();
    if !kind.is_file() {
        let what = match kind {
            kind if kind.is_dir() => "a folder",
            kind if kind.is_fifo() => "a pipe",
            kind if kind.is_socket() => "a socket",
            _ => "a device",
        };
        return Err(FileError::NotRegular { path: shown(), what });
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(CONFIG_MAX).unwrap_or(u64::MAX);
    file.take(most + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok((text_of(&shown(), bytes)?, Mark::by(&about)))
}

/// The text of a file's bytes.
pub(super) fn text_of(path: &str, bytes: Vec<u8>) -> Result<String, FileError> {
    if bytes.len() > CONFIG_MAX {
        return Err(FileError::TooLong { path: path.into() });
    }
    let marks: [(&[u8], _); 3] = [
        (b"\xef\xbb\xbf", "UTF-8's"),
        (b"\xff\xfe", "UTF-16's"),
        (b"\xfe\xff", "UTF-16's"),
    ];
    if let Some((_, mark)) = marks.iter().find(|(begin, _)| bytes.starts_with(begin)) {
        return Err(FileError::Mark {
            path: path.into(),
            mark,
        });
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        FileError::NotUtf8 {
            path: path.into(),
            line: bytes[..at].iter().filter(|&&byte| byte == b'\n').count() + 1,
            byte: bytes.get(at).copied().unwrap_or(0),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_file_has_line_and_column_in_characters() {
        let mut sources = Sources::default();
        let source = sources.file("a.toml", "ä = 1\nbé = \"x\"\n");
        let place = Place { source, range: 13..16 };
        assert_eq!(sources.text(&place), "\"x\"");
        assert_eq!(sources.origin(&place).to_string(), "a.toml:2:6");
    }

    #[test]
    fn a_secret_is_never_part_of_what_is_shown() {
        let mut sources = Sources::default();
        let source = sources.file("a.toml", "x\nA = \"pässword\", B = 2\ny\n");
        let secret = Place { source, range: 6..17 };
        assert_eq!(sources.text(&secret), "\"pässword\"");
        sources.hide(&secret);
        let excerpt = sources.excerpt(source, &(19..20)).unwrap();
        assert_eq!(excerpt.text, "A = ***********, B = 2");
        assert_eq!((excerpt.begin, excerpt.first_line), (2, 2));
    }

    #[test]
    fn no_place_makes_an_excerpt_panic() {
        let mut sources = Sources::default();
        let source = sources.file("a.toml", "é\n");
        for start in 0..6 {
            for end in 0..6 {
                sources.hide(&Place {
                    source,
                    range: start..end,
                });
                assert!(sources.excerpt(source, &(start..end)).is_some());
            }
        }
    }

    #[test]
    fn what_is_no_text_is_named() {
        let error = |bytes: &[u8]| text_of("a.toml", bytes.into()).unwrap_err().to_string();
        assert!(error(b"\xef\xbb\xbfx = 1").contains("byte order mark (UTF-8's)"));
        assert!(error(b"\xff\xfex\0").contains("UTF-16"));
        assert!(error(b"a = 1\nb = \"\xe4\"").contains("0xe4 in line 2"));
        assert!(text_of("a.toml", vec![b' '; CONFIG_MAX]).is_ok());
        assert!(error(&vec![b' '; CONFIG_MAX + 1]).contains("256 KiB"));
    }

    #[test]
    fn what_is_no_file_is_named() {
        let folder = std::env::temp_dir();
        assert!(read_file(&folder).unwrap_err().to_string().contains("a folder"));
        let device = std::path::Path::new("/dev/null");
        assert!(read_file(device).unwrap_err().to_string().contains("a device"));
        let missing = folder.join("no-such-greenroom.toml");
        assert!(read_file(&missing).unwrap_err().to_string().contains("No such file"));
    }

    #[test]
    fn a_pipe_that_nobody_writes_to_is_named_and_not_waited_for() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let path = std::env::temp_dir().join(format!("greenroom-pipe-{}", std::process::id()));
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let read = path.clone();
        std::thread::spawn(move || {
            let _ = tell.send(read_file(&read).map_err(|error| error.to_string()));
        });
        let result = told.recv_timeout(std::time::Duration::from_secs(20));
        std::fs::remove_file(&path).unwrap();
        assert!(result.unwrap().unwrap_err().contains("a pipe"));
    }
}
