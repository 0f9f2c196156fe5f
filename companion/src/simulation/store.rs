//! A real store whose operations fail, take long, lie, and around which the process may be killed.
//!
//! The calling thread waits for the store's own threads, so virtual time stands still meanwhile, and a seed repeats.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::plan::Disk;
use super::world::World;
use crate::model::{
    Attempt, Delivery, DeliveryId, Replay, ReplayId, Shape, Subscription, SubscriptionId, Token,
};
use crate::statistics::Row;
use crate::store::{
    Acceptance, AcceptedEvent, Ahead, AuditLine, Catalogue, Chart, ChartQuery, Charts, Claims, DeliveryQuery,
    Ended, Erased, Erasure, EventQuery, EventType, Housekeeping, Named, NewDelivery, NewEvent, Note, Pruned,
    Recorded, ReplayQuery, Round, Sharing, Store, StoreError, SubscriptionQuery, TypeKey, TypePatch,
    TypeQuery, Unmatched, UnmatchedPlace,
};

/// The store of one life.
pub(super) struct Faulty {
    pub(super) inner: Arc<dyn Store>,
    pub(super) world: Arc<World>,
}

struct Unparks(Thread);

impl Wake for Unparks {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future to its end on this thread, which waits.
pub(super) fn wait_for<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unparks(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

impl Faulty {
    async fn operate<T>(
        &self,
        name: &str,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let (disk, crash) = self.world.next_operation();
        if crash == Some(false) {
            self.crash(name, "before").await;
        }
        let drawn = {
            let mut state = self.world.state();
            state.in_doubt |= disk.is_some();
            state.dice.below(100)
        };
        let refused = |what| {
            self.world.count(what);
            self.world.note(|| format!("{name} refused: {what}"));
            Err(StoreError::Unavailable(anyhow::anyhow!("simulated")))
        };
        // Leaves others a chance to come first, as a store that takes its time does.
        tokio::task::yield_now().await;
        match disk {
            Some(Disk::Full) => return refused("writes refused"),
            Some(Disk::Flaky(chance)) if drawn < chance => return refused("writes refused"),
            Some(Disk::Slow(most)) if drawn % 2 == 0 => self.linger(most * drawn / 100).await,
            _ => {}
        }
        let result = wait_for(operation);
        if crash.is_some() {
            self.crash(name, "after").await;
        }
        self.world.note(|| format!("{name} {}", if result.is_ok() { "done" } else { "failed" }));
        match disk {
            Some(Disk::Lies(chance)) if drawn < chance => return refused("writes denied"),
            Some(Disk::Slow(most)) if drawn % 2 == 1 => self.linger(most * drawn / 100).await,
            _ => {}
        }
        result
    }

    async fn linger(&self, ms: u64) {
        self.world.count("slow writes");
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// Ends this life here: nothing of it goes on.
    async fn crash(&self, name: &str, when: &str) {
        self.world.note(|| format!("crash {when} {name}"));
        self.world.crash();
        std::future::pending().await
    }
}

/// Writes a trait's methods so that each is one operation; those after `ref` take their first argument by reference.
macro_rules! faulty {
    ($trait:ident: $(fn $name:ident($($argument:ident: $type:ty),*) -> $output:ty;)*
     ref $(fn $ref_name:ident($first:ident: $first_type:ty $(, $next:ident: $next_type:ty)*) -> $ref_output:ty;)*) => {
        #[async_trait]
        impl $trait for Faulty {
            $(async fn $name(&self, $($argument: $type),*) -> Result<$output, StoreError> {
                self.operate(stringify!($name), self.inner.$name($($argument),*)).await
            })*
            $(async fn $ref_name(&self, $first: &$first_type $(, $next: $next_type)*) -> Result<$ref_output, StoreError> {
                self.operate(stringify!($ref_name), self.inner.$ref_name($first $(, $next)*)).await
            })*
        }
    };
}

faulty! { Store:
    fn create_subscription_within(most: usize, subscription: Subscription, note: Note) -> ();
    fn update_subscription(subscription: Subscription, note: Note) -> ();
    fn turn_off(id: SubscriptionId, reason: &'static str, note: Note, now: Timestamp) -> Option<Subscription>;
    fn delete_subscription(id: SubscriptionId, note: Note) -> ();
    fn subscriptions(query: SubscriptionQuery) -> Vec<Subscription>;
    fn accept(events: Vec<NewEvent>, now: Timestamp) -> Vec<Acceptance>;
    fn claim(subscription: SubscriptionId, limit: usize, now: Timestamp, lease_until: Timestamp) -> Claims;
    fn claim_named(ids: Vec<DeliveryId>, now: Timestamp, lease_until: Timestamp) -> Named;
    fn record(ended: Arc<Vec<Ended>>, now: Timestamp) -> Vec<Recorded>;
    fn release(claims: Vec<(DeliveryId, i64)>, now: Timestamp) -> ();
    fn release_all(now: Timestamp) -> usize;
    fn cancel_pending(subscription: SubscriptionId, reason: String, limit: usize, now: Timestamp) -> usize;
    fn due() -> Vec<(SubscriptionId, Timestamp)>;
    fn redeliver(id: DeliveryId, note: Note, now: Timestamp) -> SubscriptionId;
    fn prune(after: i64, limit: usize, before: Timestamp, first_kept: i64) -> Pruned;
    fn deliveries(query: DeliveryQuery) -> Vec<Delivery>;
    fn events(query: EventQuery) -> Vec<AcceptedEvent>;
    fn count_unmatched(source: String, shapes: Vec<Shape>, keep: usize, now: Timestamp) -> ();
    fn unmatched(after: Option<UnmatchedPlace>, limit: usize) -> Vec<Unmatched>;
    fn forget_unmatched() -> ();
    fn create_replay(replay: Replay, note: Note) -> Replay;
    fn replays(query: ReplayQuery) -> Vec<Replay>;
    fn advance_replay(id: ReplayId, position: i64, deliveries: Vec<(i64, NewDelivery)>, now: Timestamp) -> Replay;
    fn advance_recovery(id: ReplayId, position: i64, events: Vec<i64>, now: Timestamp) -> (Replay, Vec<SubscriptionId>);
    fn cancel_replay(id: ReplayId, note: Note, now: Timestamp) -> Replay;
    fn create_token(token: Token, note: Note) -> ();
    fn tokens() -> Vec<Token>;
    fn delete_token(id: String, note: Note) -> ();
    fn audit(before: Option<i64>, limit: usize) -> Vec<AuditLine>;
    fn meta(name: &'static str, value: Option<Bytes>) -> Option<Bytes>;
    fn ping() -> ();
    ref
    fn subscription(id: SubscriptionId) -> Subscription;
    fn delivery(id: DeliveryId) -> (Delivery, Vec<Attempt>);
    fn replay(id: ReplayId) -> Replay;
    fn replay_ahead(id: ReplayId, limit: usize, most_pending: usize) -> (Vec<AcceptedEvent>, usize);
}

impl Sharing for Faulty {}

faulty! { Charts:
    fn add_statistics(rows: Vec<Row>) -> ();
    fn statistics(query: ChartQuery) -> Option<Chart>;
    fn prune_statistics(minutes_before: Timestamp, hours_before: Timestamp, limit: usize) -> usize;
    ref
}

faulty! { Catalogue:
    fn passed(limit: usize) -> Ahead;
    fn events_at(seqs: Vec<i64>) -> Vec<AcceptedEvent>;
    fn states(keys: Vec<TypeKey>) -> Vec<(TypeKey, String)>;
    fn learn(round: Round, note: Note, now: Timestamp) -> ();
    fn event_types(query: TypeQuery) -> Vec<EventType>;
    fn describe_type(event_type: String, patch: TypePatch, note: Note) -> ();
    fn forget_type(event_type: String, note: Note) -> ();
    ref
}

faulty! { Housekeeping:
    fn first_kept(keep: u64) -> i64;
    fn prune_log(keep: u64, limit: usize, before: Timestamp) -> usize;
    fn reseal(limit: usize) -> usize;
    fn write_note(note: Note) -> ();
    fn replace_meta(name: &'static str, expected: Bytes, value: Bytes, note: Note) -> ();
    fn begin_erasure(what: Erasure, note: Note) -> i64;
    fn erase(what: Erasure, range: (i64, i64), limit: usize, now: Timestamp) -> Erased;
    fn erase_subscription(id: SubscriptionId, limit: usize) -> Erased;
    fn finish_erasure() -> bool;
    fn shift_due(by: Duration, now: Timestamp) -> usize;
    ref
}
