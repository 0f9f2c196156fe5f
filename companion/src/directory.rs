//! The subscriptions in memory: who matches an event, and what the worker needs to deliver to them.
//!
//! A cache of the store, never the truth: whoever changes a subscription writes the store first and then
//! [`Directory::put`]s the result. Older revisions are ignored, so the order of two puts does not matter.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use hyper::Uri;

use crate::matcher::{Index, Pattern};
use crate::model::{Subscription, SubscriptionId, SubscriptionStatus};
use crate::payload;
use crate::store::{Store, StoreError, SubscriptionQuery};
use crate::target::{Blocked, Guard};

/// A subscription with all that can be worked out once instead of per delivery.
#[derive(Debug)]
pub struct Entry {
    /// The subscription.
    pub subscription: Subscription,
    /// [`payload::hook`] of it.
    pub hook: String,
    /// Where to send, or why that is not allowed.
    pub target: Result<Uri, Blocked>,
    patterns: Vec<Pattern>,
}

/// All subscriptions of this process.
pub struct Directory {
    guard: Guard,
    inner: RwLock<Inner>,
    changes: tokio::sync::Mutex<()>,
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
    pub async fn load(store: &dyn Store, guard: Guard) -> Result<Self, StoreError> {
        let directory = Self { guard, inner: RwLock::default(), changes: tokio::sync::Mutex::default() };
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

    /// Held while a subscription is changed in the store and here, so that changes cannot overtake each other.
    pub async fn change(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changes.lock().await
    }

    /// Takes a subscription in, or its newer revision.
    pub fn put(&self, subscription: Subscription) {
        let patterns: Vec<Pattern> =
            subscription.events.iter().filter_map(|text| Pattern::parse(text).ok()).collect();
        let target = self.guard.parse(&subscription.target_url).and_then(|url| {
            url.as_str()
                .parse::<Uri>()
                .map_err(|error| Blocked(format!("not a URL that can be called: {error}")))
        });
        let hook = payload::hook(&subscription);
        let entry = Arc::new(Entry { subscription, hook, target, patterns });
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let id = &entry.subscription.id;
        if inner.entries.get(id).is_some_and(|old| old.subscription.revision >= entry.subscription.revision) {
            return;
        }
        inner.forget(id);
        if entry.subscription.status == SubscriptionStatus::On {
            inner.index.insert(id, entry.subscription.tenant.as_deref(), &entry.patterns);
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

    /// The subscriptions that are on and want an event.
    pub fn matching(&self, event_type: &str, tenant: Option<&str>) -> Vec<SubscriptionId> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).index.matching(event_type, tenant)
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
            self.index.remove(id, old.subscription.tenant.as_deref(), &old.patterns);
        }
    }
}
