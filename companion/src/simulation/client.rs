//! Who offers events and does things through the API, and goes on where a life ended.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower_service::Service;

use super::plan::{Action, LAST_ACTION};
use super::store::wait_for;
use super::world::World;
use crate::api::{self, Api};
use crate::directory::Directory;
use crate::model::SubscriptionId;
use crate::store::Store;

/// How long it waits for an answer before it hangs up.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Client {
    router: Router,
    directory: Arc<Directory>,
    store: Arc<dyn Store>,
    world: Arc<World>,
}

impl Client {
    pub(super) fn new(api: Arc<Api>, store: Arc<dyn Store>, world: Arc<World>) -> Self {
        Self { directory: api.directory.clone(), router: api::router(api), store, world }
    }

    /// Status and body of the answer; 0 where there was none in time.
    async fn call(&self, method: &str, path: &str, key: Option<String>, body: &Value) -> (u16, Value) {
        let is_event = path == "/v1/events";
        let token = if is_event { "Bearer ingest" } else { "Bearer admin" };
        let media_type = match method {
            "PATCH" => "application/merge-patch+json",
            _ if is_event => "application/cloudevents-batch+json",
            _ => "application/json",
        };
        let mut request = Request::builder().method(method).uri(path).header("content-type", media_type);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let request = request.header("authorization", token).body(Body::from(body.to_string())).unwrap();
        let answer = async {
            let response = self.router.clone().call(request).await.unwrap();
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, serde_json::from_slice(&body).unwrap_or_default())
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| {
            self.world.count("requests given up");
            (0, Value::Null)
        });
        self.world.note(|| format!("{method} {path}: {}", answer.0));
        answer
    }

    /// Makes the subscriptions that are not there yet.
    pub(super) async fn subscribe(&self) {
        for (index, planned) in self.world.plan.subscriptions.iter().enumerate() {
            let mut body = planned.body.clone();
            body["target_url"] = format!("http://127.0.0.1:9/{index}").into();
            while self.world.state().subscriptions.len() <= index {
                let key = Some(format!("subscription-{index}"));
                let (status, made) = self.call("POST", "/v1/subscriptions", key, &body).await;
                assert!(!(300..500).contains(&status), "{made}");
                match made["id"].as_str() {
                    Some(id) => {
                        let mut state = self.world.state();
                        state.subscriptions.push(id.to_owned());
                        state.promised.insert(id.to_owned(), Some("on"));
                    }
                    None => tokio::time::sleep(Duration::from_secs(1)).await,
                }
            }
        }
    }

    /// Offers each batch at its time, and again until it is heard that all of it is accepted.
    pub(super) async fn offer(&self) {
        let mut first = 0;
        let offers = self.world.plan.batches.iter().map(|(at, subjects)| {
            let numbers = first..first + subjects.len();
            first = numbers.end;
            let event = |(number, subject): (usize, &String)| {
                json!({
                    "specversion": "1.0", "id": number.to_string(), "source": "/simulation",
                    "type": "contact.update", "subject": subject, "data": {"number": number, "subject": subject},
                })
            };
            let batch: Value = numbers.clone().zip(subjects).map(event).collect();
            async move {
                self.world.until(*at).await;
                while !numbers.clone().all(|number| self.world.state().accepted.contains(&number)) {
                    self.offer_one(numbers.clone(), &batch).await;
                }
            }
        });
        futures_util::future::join_all(offers).await;
    }

    async fn offer_one(&self, numbers: std::ops::Range<usize>, batch: &Value) {
        let (status, receipt) = self.call("POST", "/v1/events", None, batch).await;
        if status == 202 {
            let known = receipt["accepted"].as_array().map_or(0, Vec::len)
                + receipt["repeated"].as_array().map_or(0, Vec::len);
            assert_eq!(known, numbers.len(), "{receipt}");
            // Said is said, whether it is heard or not.
            self.world.state().accepted.extend(numbers.clone());
        }
        let is_unheard = {
            let mut state = self.world.state();
            let unheard = self.world.plan.unheard;
            unheard > 0 && state.dice.percent(unheard)
        };
        if status != 202 || is_unheard {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        if is_unheard {
            self.world.count("answers unheard");
            self.call("POST", "/v1/events", None, batch).await;
        }
    }

    /// Does what is planned; what was begun before a crash counts as done.
    pub(super) async fn act(&self) {
        loop {
            let next = self.world.state().actions_done;
            let Some((at, action)) = self.world.plan.actions.get(next) else { return };
            self.world.until(*at).await;
            if *at == LAST_ACTION {
                self.directory_is_right();
            }
            self.world.state().actions_done += 1;
            self.world.note(|| format!("{action:?}"));
            self.carry_out(action).await;
        }
    }

    /// Checks that the companion knows its subscriptions as the store has them, long after the last change.
    fn directory_is_right(&self) {
        let ids = self.world.state().subscriptions.clone();
        for id in ids {
            let id = SubscriptionId(id);
            let known = self.directory.get(&id).map(|entry| entry.subscription.revision);
            let stored = wait_for(self.store.subscription(&id)).ok().map(|stored| stored.revision);
            if known != stored {
                self.world.fault(format!("{id} is known in revision {known:?} and stored in {stored:?}"));
            }
        }
    }

    async fn carry_out(&self, action: &Action) {
        let subscription = |number: usize| {
            let state = self.world.state();
            state.subscriptions[number % state.subscriptions.len()].clone()
        };
        match action {
            Action::Off(number) => self.set_status(&subscription(*number), "off").await,
            Action::On(number) => self.set_status(&subscription(*number), "on").await,
            Action::Delete(number) => self.delete(&subscription(*number)).await,
            Action::Redeliver(number) => self.redeliver(*number).await,
            Action::Recover(number) => self.ask_again(subscription(*number), "recover").await,
            Action::Replay(number) => self.ask_again(subscription(*number), "replay").await,
            Action::Restart => self.world.stopped.notify_one(),
        }
    }

    async fn set_status(&self, id: &str, word: &'static str) {
        let before = self.world.begin_change(id, word == "off");
        let path = format!("/v1/subscriptions/{id}");
        let promised = match self.call("PATCH", &path, None, &json!({"status": word})).await.0 {
            200 => Some(Some(word)),
            404 => before,
            _ => None,
        };
        promised.map(|promised| self.world.state().promised.insert(id.to_owned(), promised));
    }

    async fn delete(&self, id: &str) {
        self.world.count("deleted");
        self.world.begin_change(id, true);
        let path = format!("/v1/subscriptions/{id}");
        if self.call("DELETE", &path, None, &Value::Null).await.0 == 204 {
            self.world.state().promised.insert(id.to_owned(), None);
        }
    }

    async fn redeliver(&self, number: usize) {
        let (_, list) = self.call("GET", "/v1/deliveries?limit=100", None, &Value::Null).await;
        let list = list["data"].as_array().cloned().unwrap_or_default();
        let Some(delivery) = list.get(number % list.len().max(1)) else { return };
        self.world.state().asked_again.insert(delivery["subscription"].as_str().unwrap().to_owned());
        self.world.count("asked again");
        let path = format!("/v1/deliveries/{}/redeliver", delivery["id"].as_str().unwrap());
        self.call("POST", &path, None, &Value::Null).await;
    }

    async fn ask_again(&self, id: String, what: &str) {
        let path = format!("/v1/subscriptions/{id}/{what}");
        self.world.state().asked_again.insert(id);
        self.world.count("asked again");
        self.call("POST", &path, None, &json!({"since": "2020-01-01T00:00:00Z"})).await;
    }

    pub(super) async fn is_anything_pending(&self) -> bool {
        let (status, list) =
            self.call("GET", "/v1/deliveries?status=pending&limit=1", None, &Value::Null).await;
        status != 200 || list["data"].as_array().is_none_or(|list| !list.is_empty())
    }
}
