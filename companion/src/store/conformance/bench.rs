//! Where the tests find an empty store of each kind.

use super::*;
use crate::store::postgres::scratch::Schema;
use crate::testing::Folder;

/// A store to test, and what keeps it alive.
pub(super) struct Bench {
    // Dropped before what it stands in.
    pub(super) store: Arc<dyn Store>,
    pub(super) place: Place,
}

/// Where a store stands.
pub(super) enum Place {
    Folder(Folder),
    Schema(Schema),
}

impl Bench {
    /// An empty store of each kind.
    pub(super) async fn all() -> Vec<Self> {
        let mut all = vec![Self::in_file()];
        all.extend(Self::shared().await);
        all
    }

    /// An empty store in a file.
    pub(super) fn in_file() -> Self {
        let folder = Folder::new();
        Self { store: open(&folder, 1).unwrap(), place: Place::Folder(folder) }
    }

    /// An empty store that several processes may share, where there is a server for one.
    pub(super) async fn shared() -> Option<Self> {
        let schema = Schema::new()?;
        Some(Self { store: connect(&schema.url(), vault(1)).await.unwrap(), place: Place::Schema(schema) })
    }

    /// Another process's handle to a shared store.
    pub(super) async fn other(&self) -> Arc<dyn Store> {
        let Place::Schema(schema) = &self.place else { panic!("a file has one process") };
        connect(&schema.url(), vault(1)).await.unwrap()
    }

    pub(super) async fn reopen(self) -> Self {
        self.reopen_with(vault(1)).await
    }

    pub(super) async fn reopen_with(self, vault: Vault) -> Self {
        let Self { store, place } = self;
        drop(store);
        // The writer's thread ends on its own once its handle is gone; until then the file is locked.
        let store = loop {
            match connect(&place.url(), vault.clone()).await {
                Ok(store) => break store,
                Err(error) if format!("{error:#}").contains("in use") => std::thread::yield_now(),
                Err(error) => panic!("{error:#}"),
            }
        };
        Self { store, place }
    }

    /// Does to the database what no use case does.
    pub(super) fn run(&self, sql: &str) {
        match &self.place {
            Place::Folder(folder) => {
                rusqlite::Connection::open(folder.path("test.db")).unwrap().execute_batch(sql).unwrap();
            }
            Place::Schema(schema) => schema.run(sql),
        }
    }

    pub(super) async fn accept(&self, id: &str, subscriptions: &[&str]) -> Vec<DeliveryId> {
        let event = new_event(id, subscriptions);
        let ids = event.deliveries.iter().map(|delivery| delivery.id.clone()).collect();
        assert_eq!(self.store.accept(vec![event], at(0)).await.unwrap(), [Acceptance::Accepted]);
        ids
    }

    pub(super) async fn claim(&self, subscription: &str, limit: usize, now: i64) -> Vec<Claimed> {
        self.store.claim(sub(subscription), limit, at(now), at(now + 60)).await.unwrap().claimed
    }

    pub(super) async fn record(
        &self,
        claimed: &Claimed,
        status: u16,
        verdict: Verdict,
        now: i64,
    ) -> Recorded {
        self.end(ended(claimed, status, verdict, now), now).await
    }

    pub(super) async fn end(&self, ended: Ended, now: i64) -> Recorded {
        self.store.record(Arc::new(vec![ended]), at(now)).await.unwrap().pop().unwrap()
    }

    pub(super) async fn status(&self, id: &DeliveryId) -> DeliveryStatus {
        self.store.delivery(id).await.unwrap().0.status
    }
}

impl Place {
    pub(super) fn url(&self) -> String {
        match self {
            Self::Folder(folder) => format!("sqlite:{}", folder.path("test.db").display()),
            Self::Schema(schema) => schema.url(),
        }
    }
}

pub(super) fn vault(key: u8) -> Vault {
    Vault::new(&[key; 32])
}

pub(super) fn open(folder: &Folder, key: u8) -> anyhow::Result<Arc<dyn Store>> {
    embedded(&format!("sqlite:{}", folder.path("test.db").display()), vault(key))
}
