//! Parts of the test `audit`: what chooses and runs its tests, those of what happens later than a start, and those of what must not be claimed.

pub(crate) mod claims;
pub(crate) mod harness;
pub(crate) mod later;
pub(crate) mod load;
pub(crate) mod results;
