//! Who the child runs as: names and numbers, looked up before anything is forked.
//!
//! Asks the system's own databases (`getpwnam_r`, `getgrnam_r`, `getgrouplist`), so
//! users of a directory service are found too. Bounded by [`limits::ACCOUNT_MAX`]
//! bytes for one entry and the kernel's own 65,536 groups.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

use greenroom_core::limits;

/// What a process becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// All of its groups.
    pub(super) groups: Vec<u32>,
}

/// Why nobody is known by a name.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// No such user.
    #[error("there is no user `{0}` on this machine (see getent passwd)")]
    NoUser(String),
    /// No such group.
    #[error("there is no group `{0}` on this machine (see getent group)")]
    NoGroup(String),
    /// A number without an entry has no group of its own.
    #[error("user {0} has no entry in passwd, so its group is not known: give `group` too")]
    NoGroupOfUser(u32),
    /// The databases could not be asked.
    #[error("cannot look up `{name}`: {error}")]
    Lookup {
        /// The name.
        name: String,
        /// What the system said; part of the message, so no `source`.
        error: io::Error,
    },
}

struct User {
    name: CString,
    uid: u32,
    gid: u32,
    home: OsString,
}

impl Account {
    /// Who `user` and `group` are together, and the variables that go with it.
    /// `None` when neither is given.
    pub(super) fn find(user: Option<&str>, group: Option<&str>) -> Result<Option<(Self, Variables)>, AccountError> {
        let gid = group.map(group_of).transpose()?;
        let Some(asked) = user else {
            let uid = rustix::process::getuid().as_raw();
            let account = |gid| {
                (
                    Self {
                        uid,
                        gid,
                        groups: vec![gid],
                    },
                    Variables::new(),
                )
            };
            return Ok(gid.map(account));
        };
        let user = match number(asked) {
            None => by_name(asked)?.ok_or_else(|| AccountError::NoUser(asked.into()))?,
            Some(uid) => match by_number(asked, uid)? {
                Some(user) => user,
                None => {
                    let gid = gid.ok_or(AccountError::NoGroupOfUser(uid))?;
                    return Ok(Some((
                        Self {
                            uid,
                            gid,
                            groups: vec![gid],
                        },
                        Variables::new(),
                    )));
                }
            },
        };
        let gid = gid.unwrap_or(user.gid);
        let groups = groups_of(&user.name, gid);
        let name = OsStr::from_bytes(user.name.to_bytes()).to_owned();
        let variables = vec![
            ("USER".into(), name.clone()),
            ("LOGNAME".into(), name),
            ("HOME".into(), user.home),
        ];
        Ok(Some((
            Self {
                uid: user.uid,
                gid,
                groups,
            },
            variables,
        )))
    }

    /// Whether it is what we are already, so that nothing has to be changed.
    pub(super) fn is_ours(&self) -> bool {
        self.uid == rustix::process::getuid().as_raw()
            && self.uid == rustix::process::geteuid().as_raw()
            && self.gid == rustix::process::getgid().as_raw()
            && self.gid == rustix::process::getegid().as_raw()
    }

    /// Makes the calling process this account: groups first, as only who may still
    /// change them can, and the user last. For the time between fork and exec.
    pub(super) fn take(&self) -> io::Result<()> {
        let done = |code: libc::c_int| {
            if code == 0 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        };
        // SAFETY: the pointer and the length are those of a living Vec; the others take numbers.
        unsafe {
            done(libc::setgroups(self.groups.len() as _, self.groups.as_ptr()))?;
            done(libc::setresgid(self.gid, self.gid, self.gid))?;
            done(libc::setresuid(self.uid, self.uid, self.uid))
        }
    }
}

/// The number that `text` is. The largest means "leave it as it is" to the kernel, and is nobody's.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

/// Names and values for the environment.
pub(super) type Variables = Vec<(OsString, OsString)>;

fn by_name(name: &str) -> Result<Option<User>, AccountError> {
    let Ok(c_name) = CString::new(name) else {
        return Ok(None); // a name with a zero in it is nobody's
    };
    // SAFETY: all pointers are to living things, the buffer's length is its own.
    user(name, |entry, buffer, found| unsafe {
        libc::getpwnam_r(c_name.as_ptr(), entry, buffer.as_mut_ptr().cast(), buffer.len(), found)
    })
}

fn by_number(name: &str, uid: u32) -> Result<Option<User>, AccountError> {
    // SAFETY: as above.
    user(name, |entry, buffer, found| unsafe {
        libc::getpwuid_r(uid, entry, buffer.as_mut_ptr().cast(), buffer.len(), found)
    })
}

fn user(
    name: &str,
    mut ask: impl FnMut(*mut libc::passwd, &mut [u8], *mut *mut libc::passwd) -> libc::c_int,
) -> Result<Option<User>, AccountError> {
    with_room(name, |buffer| {
        // SAFETY: passwd is plain numbers and pointers; all zero is an empty one.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        let code = ask(&raw mut entry, buffer, &raw mut found);
        let user = (!found.is_null()).then(|| {
            // SAFETY: a found entry's strings lie in `buffer` and end with a zero.
            let (name, home) = unsafe { (CStr::from_ptr(entry.pw_name), CStr::from_ptr(entry.pw_dir)) };
            User {
                name: name.to_owned(),
                uid: entry.pw_uid,
                gid: entry.pw_gid,
                home: OsStr::from_bytes(home.to_bytes()).to_owned(),
            }
        });
        (code, user)
    })
}

fn group_of(name: &str) -> Result<u32, AccountError> {
    if let Some(gid) = number(name) {
        return Ok(gid);
    }
    let missing = || AccountError::NoGroup(name.into());
    let c_name = CString::new(name).map_err(|_| missing())?;
    let gid = with_room(name, |buffer| {
        // SAFETY: as in `user`.
        let mut entry: libc::group = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: all pointers are to living things, the buffer's length is its own.
        let code = unsafe {
            libc::getgrnam_r(
                c_name.as_ptr(),
                &raw mut entry,
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                &raw mut found,
            )
        };
        (code, (!found.is_null()).then_some(entry.gr_gid))
    })?;
    gid.ok_or_else(missing)
}

/// Asks with more and more room, up to the limit.
fn with_room<T>(
    name: &str,
    mut ask: impl FnMut(&mut [u8]) -> (libc::c_int, Option<T>),
) -> Result<Option<T>, AccountError> {
    let mut buffer = vec![0; 1024];
    loop {
        match ask(&mut buffer) {
            (0, found) => return Ok(found),
            (libc::ERANGE, _) if buffer.len() < limits::ACCOUNT_MAX => buffer.resize(buffer.len() * 4, 0),
            (libc::EINTR, _) => {}
            // Some systems say so for a name that is not there.
            (libc::ENOENT | libc::ESRCH, _) => return Ok(None),
            (code, _) => {
                return Err(AccountError::Lookup {
                    name: name.into(),
                    error: io::Error::from_raw_os_error(code),
                });
            }
        }
    }
}

fn groups_of(name: &CStr, gid: u32) -> Vec<u32> {
    let mut groups = vec![0; 64];
    loop {
        let mut count = libc::c_int::try_from(groups.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: the name ends with a zero, the count is that of the living Vec.
        let code = unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
        let told = usize::try_from(count).unwrap_or(0);
        if code >= 0 {
            groups.truncate(told);
            return groups;
        }
        if groups.len() > 65_536 {
            return vec![gid]; // more than the kernel takes: the own one is what counts
        }
        groups.resize(told.max(groups.len() * 2), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_its_number_are_the_same_user_with_its_variables() {
        let (by_name, variables) = Account::find(Some("root"), None).unwrap().unwrap();
        let (by_number, _) = Account::find(Some("0"), None).unwrap().unwrap();
        assert_eq!(by_name, by_number);
        assert_eq!((by_name.uid, by_name.gid), (0, 0));
        assert!(by_name.groups.contains(&0));
        assert!(variables.contains(&("HOME".into(), "/root".into())), "{variables:?}");
    }

    #[test]
    fn what_is_unknown_is_named() {
        let said = |user, group| Account::find(user, group).unwrap_err().to_string();
        assert!(said(Some("no-such-user"), None).contains("no user `no-such-user`"));
        assert!(said(Some("root"), Some("no-such-group")).contains("no group `no-such-group`"));
        assert!(said(Some("4123456789"), None).contains("give `group` too"));
        assert!(said(Some("a\0b"), None).contains("no user"));
        assert!(
            said(Some("4294967295"), None).contains("no user"),
            "it would mean: stay who you are"
        );
        assert_eq!(Account::find(None, None).unwrap(), None);
    }

    #[test]
    fn a_group_alone_and_a_number_with_a_group_are_enough() {
        let (account, _) = Account::find(None, Some("root")).unwrap().unwrap();
        assert_eq!((account.gid, &account.groups[..]), (0, &[0][..]));
        let (account, variables) = Account::find(Some("4123456789"), Some("7")).unwrap().unwrap();
        assert_eq!((account.uid, account.gid, variables.len()), (4_123_456_789, 7, 0));
    }
}
