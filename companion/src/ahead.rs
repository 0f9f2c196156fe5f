//! Claiming ahead: a delivery may be claimed in the transaction that accepts its event, and handed to the worker in memory.
//!
//! That saves a healthy delivery a claim of its own and the reading back of what was just written. It is open only while
//! nothing older is due for the subscription and its receiver answers, so nobody is overtaken; and it is bounded, per
//! subscription and over all. The rest goes the long way, by the store; what is lost on the short one is found by its lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use jiff::Timestamp;

use crate::limits;
use crate::model::SubscriptionId;
use crate::queue::Ticket;
use crate::store::Claimed;

/// A delivery that is claimed already: as it was accepted, or because a queue named it.
#[derive(Debug)]
pub struct Ready {
    /// Whose it is.
    pub subscription: SubscriptionId,
    /// The delivery.
    pub claimed: Claimed,
    /// When the claim ends.
    pub lease_until: Timestamp,
    /// Keeps its room until it is sent, where it was claimed as it was accepted.
    pub place: Option<Place>,
    /// The message that named it, where one did.
    pub ticket: Option<Ticket>,
}

/// Whether one subscription's deliveries may be claimed ahead, and how many wait to be sent.
#[derive(Debug, Default)]
pub struct Ahead {
    open: AtomicBool,
    count: AtomicUsize,
    all: Arc<All>,
}

/// What all subscriptions share.
#[derive(Debug, Default)]
pub struct All {
    bytes: AtomicUsize,
    stopped: AtomicBool,
}

impl All {
    /// Ends claiming ahead for good, for a process that stops.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

impl Ahead {
    /// A closed one.
    pub fn new(all: &Arc<All>) -> Self {
        Self { all: all.clone(), ..Self::default() }
    }

    /// Nothing older is due, and the receiver is well.
    pub fn open(&self) {
        self.open.store(true, Ordering::Relaxed);
    }

    /// What comes from now on goes by the store.
    pub fn close(&self) {
        self.open.store(false, Ordering::Relaxed);
    }

    /// Room for one delivery of an event of so many bytes, where it is open and has any.
    pub fn place(self: &Arc<Self>, bytes: usize) -> Option<Place> {
        if !self.open.load(Ordering::Relaxed) || self.all.stopped.load(Ordering::Relaxed) {
            return None;
        }
        let place = Place { ahead: self.clone(), bytes };
        // Counted first, so that many who ask at once do not all get the last place; dropping it takes it back.
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let held = self.all.bytes.fetch_add(bytes, Ordering::Relaxed);
        (count < limits::AHEAD && held + bytes <= limits::AHEAD_BYTES).then_some(place)
    }
}

/// Room that one delivery takes; dropping it gives it back.
#[derive(Debug)]
pub struct Place {
    ahead: Arc<Ahead>,
    bytes: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.ahead.count.fetch_sub(1, Ordering::Relaxed);
        self.ahead.all.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_only_while_open_and_within_bounds() {
        let all = Arc::default();
        let (one, other) = (Arc::new(Ahead::new(&all)), Arc::new(Ahead::new(&all)));
        assert!(one.place(1).is_none());
        one.open();
        let mut places: Vec<Place> = (0..limits::AHEAD).map_while(|_| one.place(1)).collect();
        assert_eq!(places.len(), limits::AHEAD);
        assert!(one.place(1).is_none());
        places.pop();
        places.push(one.place(1).expect("a place was given back"));
        other.open();
        assert!(other.place(limits::AHEAD_BYTES).is_none(), "the bytes are of all");
        drop(places);
        let large = other.place(limits::AHEAD_BYTES);
        assert!(large.is_some() && one.place(1).is_none());
        drop(large);
        one.close();
        assert!(one.place(1).is_none());
        all.stop();
        assert!(other.place(1).is_none());
    }
}
