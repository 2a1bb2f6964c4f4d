//! Panics on demand: a request whose header `x-trap` names a callback makes that callback panic,
//! the next time that this worker's VM comes through it.
//!
//! Only under the feature `trap`, for the tests of what a panic costs. Nothing else in the filter
//! can be made to panic by a request.
#![allow(clippy::panic)]

use std::cell::RefCell;

use super::calls;

thread_local! {
    static SET: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Sets the trap that a request's headers ask for, and springs it if it is one for them.
pub(super) fn set() {
    if let Some(callback) = calls::request_header("x-trap") {
        SET.replace(callback);
    }
    spring("on_request_headers");
}

/// Panics in this callback if its trap is set.
pub(super) fn spring(callback: &str) {
    if SET.with_borrow(|set| set == callback.as_bytes()) {
        panic!("the trap in {callback}");
    }
}
