//! Follows the accepted events, in their order, and learns the catalogue from them.
//!
//! Nobody who accepts or delivers waits for it. It holds nothing between two rounds: how far it has come stands in the store,
//! in the transaction of what it has learnt, so a crash repeats nothing and leaves nothing out. Events that are pruned before
//! it has seen them are passed over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::lesson::{Lesson, choose, needed};
use super::observed::Change;
use crate::board::Board;
use crate::clock::{Clock, random_id_bytes};
use crate::directory::Directory;
use crate::feed::Watch;
use crate::limits;
use crate::news;
use crate::retry::later;
use crate::store::{Note, Round, Store, StoreError};
use crate::telemetry::Metrics;

/// All that learning needs.
pub struct Follower {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// Who is told of changes.
    pub directory: Arc<Directory>,
    /// What wakes the worker.
    pub board: Arc<Board>,
    /// Told that events were accepted.
    pub accepted: Watch,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Follower {
    /// Learns until `stop` turns true. Reads the store only where events may have come, and at its start.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let is_shared = self.store.is_shared();
        while !*stop.borrow() {
            let pause = self.round_in_time().await;
            tokio::select! {
                () = self.rest(pause, is_shared) => {}
                // An error means that nobody is left to say stop; that is a stop.
                changed = stop.changed() => if changed.is_err() { break },
            }
        }
    }

    /// Waits for the next round: so long at least, and until there may be events where there were no more.
    async fn rest(&mut self, pause: Option<Duration>, is_shared: bool) {
        if let Some(pause) = pause {
            return tokio::time::sleep(pause).await;
        }
        tokio::time::sleep(limits::CATALOGUE_EVERY).await;
        tokio::select! {
            () = self.accepted.woken() => {}
            // Another process may have accepted some.
            () = tokio::time::sleep(limits::VERSION_EVERY), if is_shared => {}
        }
    }

    /// Has a round; says how long until the next one where that need not wait for events.
    async fn round_in_time(&mut self) -> Option<Duration> {
        match self.round().await {
            Ok(more) => more.then_some(limits::CATALOGUE_PAUSE),
            // Another process came first, or what it had learnt is to be forgotten.
            Err(StoreError::Conflict) => Some(limits::CATALOGUE_PAUSE),
            Err(error) => {
                self.metrics.store_errors.inc();
                tracing::error!(error = format!("{error:#?}"), "the catalogue was put off");
                Some(limits::STORE_PAUSE)
            }
        }
    }

    /// Learns from the next events; says whether there are more.
    async fn round(&mut self) -> Result<bool, StoreError> {
        if !self.store.leads().await? {
            return Ok(false);
        }
        let ahead = self.store.passed(limits::CATALOGUE_PAGE).await?;
        let Some(position) = ahead.passed.last().map(|last| last.seq) else {
            self.metrics.catalogue_behind.set(0);
            return Ok(false);
        };
        let mut lesson = Lesson::default();
        lesson.count(&ahead.passed);
        let chosen = choose(&ahead.passed);
        if !chosen.is_empty() {
            self.look(&mut lesson, chosen).await?;
        }
        let (learnt, changes) = lesson.finish();
        let now = self.clock.now();
        // What an upgrade finds in the past is learnt, and news to nobody.
        let is_recent =
            ahead.passed.last().is_some_and(|last| later(last.accepted_at, limits::CATALOGUE_NEWS) > now);
        let note = if is_recent { self.note(&changes, now) } else { Note::default() };
        let wanted_by = note.wanted_by();
        let keep = (limits::CATALOGUE_TYPES, limits::CATALOGUE_OF_TENANTS);
        self.store.learn(Round { place: ahead.place, position, learnt, keep }, note, now).await?;
        self.board.wake(wanted_by);
        self.metrics.catalogue_behind.set(ahead.newest.saturating_sub(position));
        Ok(ahead.passed.len() == limits::CATALOGUE_PAGE)
    }

    /// Looks into some of the events that were counted.
    async fn look(&self, lesson: &mut Lesson, chosen: Vec<i64>) -> Result<(), StoreError> {
        let events = self.store.events_at(chosen).await?;
        let needed = needed(events.iter().map(|accepted| &accepted.event));
        let states: BTreeMap<_, _> = self.store.states(needed).await?.into_iter().collect();
        for accepted in &events {
            lesson.look(&accepted.event, &states);
            // Others wait no longer than for one of them.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// What is told of changes.
    fn note(&self, changes: &BTreeMap<String, Vec<Change>>, now: Timestamp) -> Note {
        let news = changes.iter().map(|(event_type, changes)| {
            tracing::info!(event_type, changes = changes.len(), "the data of an event type have changed");
            self.directory.address(news::schema_changed(event_type, changes, random_id_bytes(), now), now)
        });
        Note { news: news.collect(), ..Note::default() }
    }
}

#[cfg(test)]
mod tests;
