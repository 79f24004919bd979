//! Parts of the test `audit`: what chooses its tests, and those of what happens later than a start.

pub(crate) mod harness;
pub(crate) mod later;
