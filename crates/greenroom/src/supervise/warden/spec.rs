//! What a warden is told: everything that it needs to start its child.
//!
//! Written by greenroom into a nameless file in memory and read by the warden, so
//! that neither the command line of the warden nor its environment holds anything
//! of the child's: `pkill -f` finds the child alone, and no `LD_PRELOAD` of a child
//! of another user is loaded by a warden that is root. Both ends are the same
//! program file, so the form is nobody else's business: numbers in eight bytes,
//! strings with their length before them. Pure.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::process::Rlimit;

use crate::supervise::account::Account;
use crate::supervise::folder::Identity;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::supervise) struct Spec {
    pub(in crate::supervise) program: OsString,
    pub(in crate::supervise) args: Vec<OsString>,
    /// All of the child's environment; `WATCHDOG_PID` in it gets its value from who has its number.
    pub(in crate::supervise) env: Vec<(OsString, OsString)>,
    pub(in crate::supervise) cwd: Option<PathBuf>,
    pub(in crate::supervise) account: Option<Account>,
    /// Soft and hard limit of descriptors; `None` in it: unlimited.
    pub(in crate::supervise) nofile: Option<(Option<u64>, Option<u64>)>,
    /// Its group becomes the terminal's.
    pub(in crate::supervise) foreground: bool,
    /// It gets nothing to read.
    pub(in crate::supervise) stdin_null: bool,
    /// The notify folder, to be removed when greenroom is gone.
    pub(in crate::supervise) folder: Option<(PathBuf, Identity)>,
}

impl Spec {
    pub(in crate::supervise) fn rlimit(&self) -> Option<Rlimit> {
        self.nofile.map(|(current, maximum)| Rlimit { current, maximum })
    }

    pub(in crate::supervise) fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        out.text(&self.program);
        out.list(&self.args, |out, arg| out.text(arg));
        out.list(&self.env, |out, (name, value)| {
            out.text(name);
            out.text(value);
        });
        out.option(self.cwd.as_ref(), |out, cwd| out.text(cwd.as_os_str()));
        out.option(self.account.as_ref(), |out, account| {
            out.number(account.uid.into());
            out.number(account.gid.into());
            out.list(&account.groups, |out, group| out.number((*group).into()));
        });
        out.option(self.nofile.as_ref(), |out, (current, maximum)| {
            out.option(current.as_ref(), |out, limit| out.number(*limit));
            out.option(maximum.as_ref(), |out, limit| out.number(*limit));
        });
        out.number(self.foreground.into());
        out.number(self.stdin_null.into());
        out.option(self.folder.as_ref(), |out, (path, Identity(device, inode))| {
            out.text(path.as_os_str());
            out.number(*device);
            out.number(*inode);
        });
        out.0
    }

    /// `None` when it is not what [`Spec::encode`] wrote.
    pub(in crate::supervise) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let spec = Self {
            program: from.text()?,
            args: from.list(Reader::text)?,
            env: from.list(|from| Some((from.text()?, from.text()?)))?,
            cwd: from.option(|from| from.text().map(PathBuf::from))?,
            account: from.option(|from| {
                Some(Account {
                    uid: from.number()?.try_into().ok()?,
                    gid: from.number()?.try_into().ok()?,
                    groups: from.list(|from| from.number()?.try_into().ok())?,
                })
            })?,
            nofile: from.option(|from| Some((from.option(Reader::number)?, from.option(Reader::number)?)))?,
            foreground: from.number()? == 1,
            stdin_null: from.number()? == 1,
            folder: from.option(|from| Some((from.text()?.into(), Identity(from.number()?, from.number()?))))?,
        };
        from.0.is_empty().then_some(spec)
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_ne_bytes());
    }

    fn text(&mut self, text: &OsStr) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn list<T>(&mut self, all: &[T], write: impl Fn(&mut Self, &T)) {
        self.number(all.len() as u64);
        all.iter().for_each(|one| write(self, one));
    }

    fn option<T>(&mut self, option: Option<&T>, write: impl FnOnce(&mut Self, &T)) {
        self.number(option.is_some().into());
        if let Some(value) = option {
            write(self, value);
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_ne_bytes(*number))
    }

    fn text(&mut self) -> Option<OsString> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(OsString::from_vec(text.to_vec()))
    }

    fn list<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        // No room is made beforehand: a count alone must not take memory.
        (0..self.number()?).map(|_| read(self)).collect()
    }

    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.number()? {
            0 => Some(None),
            _ => read(self).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_written_is_read() {
        let full = Spec {
            program: "uvicorn".into(),
            args: vec!["app:app".into(), "".into(), OsString::from_vec(vec![0xff, b'\n'])],
            env: vec![("PORT".into(), "1".into()), ("EMPTY".into(), "".into())],
            cwd: Some("/srv/my app".into()),
            account: Some(Account {
                uid: 33,
                gid: 44,
                groups: vec![44, 55],
            }),
            nofile: Some((Some(1024), None)),
            foreground: true,
            stdin_null: false,
            folder: Some(("/run/greenroom-1".into(), Identity(5, u64::MAX))),
        };
        for spec in [full, Spec::default()] {
            assert_eq!(Spec::decode(&spec.encode()), Some(spec.clone()));
            let bytes = spec.encode();
            for length in 0..bytes.len() {
                assert_eq!(Spec::decode(&bytes[..length]), None, "cut at {length}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Spec::decode(&bytes);
        }
    }
}
