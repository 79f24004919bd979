//! Parts of the test `audit`: what chooses its tests, those of what happens later than a start, and those of what must not be claimed.

pub(crate) mod claims;
pub(crate) mod harness;
pub(crate) mod later;
