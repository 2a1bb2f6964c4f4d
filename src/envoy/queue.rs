//! The queue of one root: it hears of jobs and settlements by it.

use std::cell::RefCell;

use super::calls;
use crate::dedup::Listener;

thread_local! {
    // The host never deletes a queue, so a root takes over one that another root of this VM has
    // left. Nothing else is shared between the configurations that run side by side in a VM.
    static LEFT: RefCell<Vec<Queue>> = const { RefCell::new(Vec::new()) };
}

/// A queue that no other root of this VM listens to.
pub(super) struct Queue {
    name: String,
    id: Listener,
}

impl Queue {
    /// Takes over a queue, or opens one. Its name is random, so that no other VM has it too: without
    /// random numbers there is none.
    pub(super) fn open() -> Option<Self> {
        let name = match LEFT.with_borrow_mut(Vec::pop) {
            Some(left) => left.name,
            None => format!("wecom/{:016x}", u64::from_ne_bytes(calls::random()?)),
        };
        let id = calls::open_queue(&name)?; // again: it now calls this root
        Some(Self { name, id })
    }

    /// The number to send to.
    pub(super) fn id(&self) -> Listener {
        self.id
    }

    /// Leaves the queue to a root that comes later.
    pub(super) fn leave(self) {
        LEFT.with_borrow_mut(|left| left.push(self));
    }
}
