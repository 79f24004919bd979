//! One read buffer per thread.
//!
//! An idle connection owns no buffer: whoever has something to read borrows the
//! thread's for the time of one system call and what follows from it, never
//! across an await.

use std::cell::RefCell;

use greenroom_core::limits::RELAY_BUFFER;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; RELAY_BUFFER].into_boxed_slice());
}

/// Lends the thread's buffer. A second loan inside of the first (there is none) gets a fresh buffer.
pub(crate) fn with_scratch<T>(use_it: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
        Ok(mut scratch) => use_it(&mut scratch),
        Err(_) => use_it(&mut vec![0; RELAY_BUFFER]),
    })
}
