//! Tells a file from another without reading it: whether the configuration's file is the one that was loaded.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Which file it is, how long, and when it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark([i128; 6]);

impl Mark {
    /// Of what is there now, if anything is.
    #[must_use]
    pub fn of(file: &Path) -> Option<Self> {
        std::fs::metadata(file).ok().map(|about| Self::by(&about))
    }

    pub(super) fn by(about: &Metadata) -> Self {
        Self([
            about.dev().into(),
            about.ino().into(),
            about.size().into(),
            about.mtime().into(),
            about.mtime_nsec().into(),
            about.ctime_nsec().into(),
        ])
    }
}
