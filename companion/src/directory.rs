//! The subscriptions in memory: who matches an event, and what the worker needs to deliver to them.
//!
//! A cache of the store, never the truth: whoever changes a subscription writes the store first and then
//! [`Directory::put`]s the result. Older revisions are ignored, so the order of two puts does not matter.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{self, AtomicI64};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};

use jiff::Timestamp;
use serde_json::Value;

use crate::ahead::{self, Ahead, Ready};
use crate::clock::random_id_bytes;
use crate::condition::{Condition, View};
use crate::lanes::Terms;
use crate::limits;
use crate::matcher::{Index, Pattern, may_see};
use crate::model::{DeliveryId, Event, Ordering, Subscription, SubscriptionId, SubscriptionStatus};
use crate::news;
use crate::payload::{self, Shape, Wanted};
use crate::retry::{Policy, later};
use crate::sender::Access;
use crate::statistics;
use crate::store::{
    AuditEntry, Claimed, Lease, NewDelivery, NewEvent, Note, Store, StoreError, SubscriptionQuery,
};
use crate::target::{Blocked, Guard};

/// A subscription with all that can be worked out once instead of per delivery.
#[derive(Debug)]
pub struct Entry {
    /// The subscription.
    pub subscription: Subscription,
    /// [`statistics::owner`] of its tenant.
    pub owner: i64,
    /// [`payload::hook`] of it.
    pub hook: String,
    /// What its deliveries look like, or why none can be made.
    pub shape: Result<Shape, String>,
    /// Where to send, or why that is not allowed.
    pub target: Result<Uri, Blocked>,
    /// Headers that let its deliveries in.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What else lets them in: a token to be fetched, a certificate.
    pub access: Option<Arc<Access>>,
    /// When attempts are made.
    pub retry: Policy,
    /// The bounds of its lane.
    pub(crate) terms: Terms,
    /// Whether its deliveries may be claimed as they are accepted.
    pub ahead: Arc<Ahead>,
    may_be_claimed_ahead: bool,
    patterns: Vec<Pattern>,
    condition: Option<Condition>,
}

impl Entry {
    /// Whether its time is over at `now`.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.subscription.expires_at.is_some_and(|expires_at| expires_at <= now)
    }

    /// Whether the subscription wants an event, be it on or off.
    pub fn wants(&self, event: &Event) -> bool {
        may_see(self.subscription.tenant.as_deref(), event.tenant.as_deref())
            && self.patterns.iter().any(|pattern| pattern.matches(&event.event_type))
            && self.condition.as_ref().is_none_or(|condition| condition.matches(&View::new(event)))
    }

    /// A new delivery of an event to this subscription.
    pub fn delivery(&self, event: &Event, now: Timestamp) -> NewDelivery {
        let resource =
            event.subject.clone().filter(|_| self.subscription.options.ordering == Ordering::Resource);
        NewDelivery {
            id: DeliveryId::new(now, random_id_bytes()),
            subscription: self.subscription.id.clone(),
            due_at: later(now, self.retry.first()),
            resource,
            lease: None,
        }
    }

    /// Claims a new delivery, where its worker would do nothing else with it.
    fn claim_ahead(
        &self,
        delivery: &mut NewDelivery,
        event: &Arc<Event>,
        lease: Lease,
        now: Timestamp,
    ) -> Option<Ready> {
        if delivery.resource.is_some() || delivery.due_at > now || !self.may_be_claimed_ahead {
            return None;
        }
        let place = self.ahead.place(event.size())?;
        delivery.lease = Some(lease);
        let claimed = Claimed {
            id: delivery.id.clone(),
            claim: lease.claim,
            attempt_count: 0,
            step: 0,
            began_at: now,
            sequence: None,
            event: event.clone(),
        };
        let subscription = self.subscription.id.clone();
        Some(Ready { subscription, claimed, lease_until: lease.until, place: Some(place), ticket: None })
    }
}

/// What holds for all subscriptions alike.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// The retry policy of those that have none of their own.
    pub retry: Policy,
    /// Where the API is, without a slash at its end.
    pub base_url: Option<String>,
}

/// All subscriptions of this process.
pub struct Directory {
    guard: Guard,
    retry: Policy,
    base_url: Option<String>,
    inner: RwLock<Inner>,
    changes: tokio::sync::Mutex<()>,
    doubtful: Mutex<BTreeSet<SubscriptionId>>,
    ahead: Arc<ahead::All>,
    is_shared: bool,
    version: AtomicI64,
}

/// A change under way. Where it ends in any other way than by one of its methods, because the store failed or the caller
/// hung up, the store may have it all the same; then the worker's sweep reads it again.
pub struct Change<'a> {
    directory: &'a Directory,
    id: Option<SubscriptionId>,
    _turn: tokio::sync::MutexGuard<'a, ()>,
}

impl Change<'_> {
    /// The store has the subscription like this.
    pub fn put(mut self, subscription: Subscription) {
        self.settle();
        self.directory.put(subscription);
    }

    /// The store has it no more.
    pub fn remove(mut self) {
        if let Some(id) = self.settle() {
            self.directory.remove(&id);
        }
    }

    /// The store has it as before.
    pub fn give_up(mut self) {
        self.settle();
    }

    fn settle(&mut self) -> Option<SubscriptionId> {
        let id = self.id.take()?;
        self.directory.doubtful.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        Some(id)
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.directory.doubt(id);
        }
    }
}

#[derive(Default)]
struct Inner {
    entries: HashMap<SubscriptionId, Arc<Entry>>,
    index: Index<SubscriptionId>,
}

impl Directory {
    /// Reads all subscriptions of the store.
    ///
    /// # Errors
    /// Where the store does not answer.
    pub async fn load(store: &dyn Store, guard: Guard, defaults: Defaults) -> Result<Self, StoreError> {
        let Defaults { retry, base_url } = defaults;
        let changes = tokio::sync::Mutex::default();
        let (inner, doubtful, ahead) = (RwLock::default(), Mutex::default(), Arc::default());
        let (is_shared, version) = (store.is_shared(), AtomicI64::new(store.version().await?));
        let directory = Self { guard, retry, base_url, inner, changes, doubtful, ahead, is_shared, version };
        let mut after = None;
        loop {
            let page =
                store.subscriptions(SubscriptionQuery { after, limit: 1_000, ..Default::default() }).await?;
            let Some(last) = page.last() else {
                return Ok(directory);
            };
            after = Some(last.id.0.clone());
            for subscription in page {
                directory.put(subscription);
            }
        }
    }

    /// The store's version that this is a copy of, at least.
    pub fn version(&self) -> i64 {
        self.version.load(atomic::Ordering::Acquire)
    }

    /// Reads again what is not as the store has it, which is of `version` at least; returns which those were. Changes of
    /// this process wait meanwhile.
    ///
    /// # Errors
    /// Where the store does not answer; what was read by then stays.
    pub async fn catch_up(&self, store: &dyn Store, version: i64) -> Result<Vec<SubscriptionId>, StoreError> {
        let _turn = self.changes.lock().await;
        let revisions: HashMap<SubscriptionId, i64> = store.revisions().await?.into_iter().collect();
        let known: HashMap<SubscriptionId, i64> = {
            let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
            let entries = inner.entries.iter();
            entries.map(|(id, entry)| (id.clone(), entry.subscription.revision)).collect()
        };
        let gone = known.keys().filter(|id| !revisions.contains_key(*id)).cloned();
        let mut changed: Vec<SubscriptionId> = gone.collect();
        changed.iter().for_each(|id| self.remove(id));
        for (id, revision) in revisions {
            if known.get(&id).is_some_and(|known| *known >= revision) {
                continue;
            }
            match store.subscription(&id).await {
                Ok(subscription) => self.put(subscription),
                Err(StoreError::NotFound) => self.remove(&id),
                Err(error) => {
                    // One that this process cannot read must not keep the others from being read.
                    store.ping().await?;
                    tracing::error!(subscription.id = %id, error = format!("{error:#?}"), "a subscription was not read");
                }
            }
            changed.push(id);
        }
        self.version.fetch_max(version, atomic::Ordering::AcqRel);
        Ok(changed)
    }

    /// Begins a change of a subscription in the store and here; changes do not overtake each other.
    pub async fn change(&self, id: &SubscriptionId) -> Change<'_> {
        Change { directory: self, id: Some(id.clone()), _turn: self.changes.lock().await }
    }

    /// Remembers that what the store has of a subscription is not known here.
    pub fn doubt(&self, id: SubscriptionId) {
        let mut doubtful = self.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        if doubtful.len() < limits::DOUBTFUL {
            doubtful.insert(id);
        }
    }

    /// Those of which what the store has is not known here.
    pub fn doubtful(&self) -> BTreeSet<SubscriptionId> {
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A `target_url` as the sender calls it.
    ///
    /// # Errors
    /// Why it may not be called.
    pub fn target(&self, subscription: &Subscription) -> Result<Uri, Blocked> {
        let guard = self.guard.of(subscription.tenant.is_some());
        let url = guard.parse(&subscription.target_url)?;
        url.as_str().parse().map_err(|error| Blocked(format!("not a URL that can be called: {error}")))
    }

    /// Takes a subscription in, or its newer revision.
    pub fn put(&self, subscription: Subscription) {
        let patterns: Vec<Pattern> =
            subscription.events.iter().filter_map(|text| Pattern::parse(text).ok()).collect();
        let target = self.target(&subscription);
        let hook = payload::hook(&subscription);
        // What is stored was read by the same rule before it was written.
        let own = subscription.options.retry.as_ref().and_then(|retry| Policy::parse(retry, "").ok());
        let retry = own.unwrap_or_else(|| self.retry.clone());
        let headers = subscription.credentials.headers();
        let access = Access::of(&subscription.id, subscription.revision, &subscription.credentials);
        let terms = Terms {
            max_in_flight: subscription.options.max_in_flight.unwrap_or(limits::IN_FLIGHT),
            rate: subscription.options.rate_limit.as_deref().and_then(|rate| rate.parse().ok()),
        };
        // Among several processes only the store knows how many attempts are under way.
        let is_capped = self.is_shared && subscription.options.max_in_flight.is_some();
        let may_be_claimed_ahead = terms.rate.is_none() && !is_capped;
        let condition = subscription.options.condition.as_ref();
        let condition = condition.map(|value| Condition::parse(value).unwrap_or_else(|_| Condition::never()));
        let wanted = Wanted::of(subscription.format, &subscription.options, self.base_url.as_deref());
        let shape = Shape::new(&wanted).map_err(|fault| format!("{}: {}", fault.pointer, fault.detail));
        let old = self.get(&subscription.id);
        let entry = Arc::new(Entry {
            ahead: old.map_or_else(|| Arc::new(Ahead::new(&self.ahead)), |old| old.ahead.clone()),
            owner: statistics::owner(subscription.tenant.as_deref()),
            subscription,
            hook,
            shape,
            target,
            headers,
            access,
            retry,
            terms,
            may_be_claimed_ahead,
            patterns,
            condition,
        });
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let id = &entry.subscription.id;
        if inner.entries.get(id).is_some_and(|old| old.subscription.revision >= entry.subscription.revision) {
            return;
        }
        inner.forget(id);
        if entry.subscription.status == SubscriptionStatus::On {
            inner.index.insert(
                id,
                entry.subscription.tenant.as_deref(),
                &entry.patterns,
                entry.condition.as_ref(),
            );
        }
        inner.entries.insert(id.clone(), entry);
    }

    /// Drops a subscription.
    pub fn remove(&self, id: &SubscriptionId) {
        self.inner.write().unwrap_or_else(PoisonError::into_inner).forget(id);
    }

    /// The subscription of this id.
    pub fn get(&self, id: &SubscriptionId) -> Option<Arc<Entry>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).entries.get(id).cloned()
    }

    /// The subscriptions of a tenant, on and off.
    pub fn of_tenant(&self, tenant: &str) -> Vec<SubscriptionId> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let own = inner.entries.values().filter(|entry| entry.subscription.tenant.as_deref() == Some(tenant));
        own.map(|entry| entry.subscription.id.clone()).collect()
    }

    /// An event with a delivery for each subscription that is on at `now` and wants it.
    pub fn address(&self, event: Event, now: Timestamp) -> NewEvent {
        let deliveries =
            self.wanted_by(&event, now).iter().map(|entry| entry.delivery(&event, now)).collect();
        NewEvent { deliveries, event: event.into() }
    }

    /// As [`Directory::address`], and what of it is claimed with `lease` for the worker of this process.
    pub fn address_ahead(&self, event: Arc<Event>, lease: Lease, now: Timestamp) -> (NewEvent, Vec<Ready>) {
        let wanted_by = self.wanted_by(&event, now);
        let (mut deliveries, mut ready) = (Vec::with_capacity(wanted_by.len()), Vec::new());
        for entry in wanted_by {
            let mut delivery = entry.delivery(&event, now);
            ready.extend(entry.claim_ahead(&mut delivery, &event, lease, now));
            deliveries.push(delivery);
        }
        (NewEvent { event, deliveries }, ready)
    }

    /// The subscriptions that are on at `now` and want an event.
    fn wanted_by(&self, event: &Event, now: Timestamp) -> Vec<Arc<Entry>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let ids = inner.index.matching(&View::new(event));
        let entries = ids.iter().filter_map(|id| inner.entries.get(id));
        entries.filter(|entry| !entry.has_expired(now)).cloned().collect()
    }

    /// Ends claiming ahead, for a process that stops.
    pub fn stop_ahead(&self) {
        self.ahead.stop();
    }

    /// What is told of a subscription that goes off for a reason of ours.
    pub fn note_off(&self, subscription: &Subscription, reason: &str, now: Timestamp) -> Note {
        let off = Subscription {
            status: SubscriptionStatus::Off,
            off_reason: Some(reason.to_owned()),
            ..subscription.clone()
        };
        let audit = AuditEntry {
            at: now,
            actor: "gatehook".to_owned(),
            action: "subscription.off".to_owned(),
            resource: subscription.id.0.clone(),
            detail: Some(Value::from(reason).to_string()),
        };
        Note { audit: Some(audit), news: self.news(&off, now), idempotency: None }
    }

    /// The event that a subscription went on or off, for all but itself.
    pub fn news(&self, subscription: &Subscription, now: Timestamp) -> Vec<NewEvent> {
        let mut news = self.address(news::subscription(subscription, random_id_bytes(), now), now);
        news.deliveries.retain(|delivery| delivery.subscription != subscription.id);
        vec![news]
    }

    /// The subscriptions that are on although their time is over.
    pub fn expired(&self, now: Timestamp) -> Vec<Arc<Entry>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let is_on = |entry: &&Arc<Entry>| entry.subscription.status == SubscriptionStatus::On;
        inner.entries.values().filter(is_on).filter(|entry| entry.has_expired(now)).cloned().collect()
    }

    /// How many there are, on and off.
    pub fn count(&self) -> usize {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).entries.len()
    }

    /// The guard that vets targets.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }
}

impl Inner {
    fn forget(&mut self, id: &SubscriptionId) {
        if let Some(old) = self.entries.remove(id)
            && old.subscription.status == SubscriptionStatus::On
        {
            self.index.remove(id, old.subscription.tenant.as_deref(), &old.patterns, old.condition.as_ref());
        }
    }
}
