//! REST servers that nobody here wrote, each behind the real Envoy with a few lines of configuration at most.
//!
//! What arrives is compared with what the server itself answered, or, where its answers leave the resource out, with
//! what it serves when asked past Envoy.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use harness::apis::{self, Api, guillotina};
use harness::companion::Settings;
use harness::http::{Call, Client, Response};
use harness::workspace::RunDirectory;
use harness::{Companion, Gateway, Receiver, wait};
use hyper::Method;
use serde_json::{Value, json};

use crate::world::tell;

/// Nobody should have to write more than this for complete events; `companion`, which every configuration has, not counted.
const MOST_LINES: usize = 10;

/// With the automatic rule alone.
const JSON_SERVER: &str = "{}";

/// The resource stands in an envelope.
const JSON_API: &str = r#"{
  "unwrap": "/data"
}"#;

/// PATCH is answered with nothing.
const SCIM: &str = r#"{
  "representation": "fetch"
}"#;

/// Names for ids, which no rule can tell from collections, and answers without the resource.
const GUILLOTINA: &str = r#"{
  "resources": [{
    "path": "/db/crm/contacts/{name}",
    "noun": "contact",
    "representation": "fetch",
    "previous": "fetch"
  }]
}"#;

#[tokio::test(flavor = "multi_thread")]
async fn json_server_needs_no_configuration() {
    tell(async |run| {
        let api = apis::json_server::start(run, &["contacts"]).await?;
        let mut road = Road::to(run, &api, JSON_SERVER).await?;
        let created =
            road.write(Method::POST, "/contacts", Some(json!({"name": "Ada"})), 201).await?.json()?;
        let path = format!("/contacts/{}", created["id"]);
        road.brings("contact.create", &path, &created).await?;
        let replaced =
            road.write(Method::PUT, &path, Some(json!({"name": "Ada Lovelace"})), 200).await?.json()?;
        road.brings("contact.update", &path, &replaced).await?;
        let changed =
            road.write(Method::PATCH, &path, Some(json!({"title": "Countess"})), 200).await?.json()?;
        ensure!(changed["name"] == "Ada Lovelace", "json-server answers PATCH with the whole resource");
        road.brings("contact.update", &path, &changed).await?;
        road.write(Method::DELETE, &path, None, 200).await?;
        road.brings("contact.delete", &path, &json!({"id": created["id"].to_string()})).await?;
        road.ends().await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_api_server_needs_its_envelope_named() {
    tell(async |run| {
        let api = apis::json_api::start(run).await?;
        let mut road = Road::to(run, &api, JSON_API).await?;
        road.media = "application/vnd.api+json";
        let person = |id: Option<&str>, lastname: &str| {
            let attributes = json!({"firstname": "Ada", "lastname": lastname, "email": "ada@example.com"});
            let mut resource = json!({"type": "people", "attributes": attributes});
            if let Some(id) = id {
                resource["id"] = id.into();
            }
            Some(json!({"data": resource}))
        };
        let created = road.write(Method::POST, "/rest/people", person(None, "Byron"), 201).await?.json()?;
        let id = created["data"]["id"].as_str().context("an id")?;
        let path = format!("/rest/people/{id}");
        road.brings("person.create", &path, &created["data"]).await?;
        let changed = road.write(Method::PATCH, &path, person(Some(id), "Lovelace"), 200).await?.json()?;
        ensure!(changed["data"]["attributes"]["lastname"] == "Lovelace", "not changed: {changed}");
        road.brings("person.update", &path, &changed["data"]).await?;
        road.write(Method::DELETE, &path, None, 200).await?;
        road.brings("person.delete", &path, &json!({"id": id})).await?;
        road.ends().await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scim_server_needs_its_empty_answers_filled() {
    tell(async |run| {
        let api = apis::scim::start(run).await?;
        let mut road = Road::to(run, &api, SCIM).await?;
        road.media = "application/scim+json";
        let user = |name: &str| {
            let schemas = ["urn:ietf:params:scim:schemas:core:2.0:User"];
            Some(json!({"schemas": schemas, "userName": "ada", "displayName": name}))
        };
        let created = road.write(Method::POST, "/v2/Users", user("Ada"), 201).await?.json()?;
        let id = created["id"].as_str().context("an id")?;
        let path = format!("/v2/Users/{id}");
        road.brings("user.create", &path, &created).await?;
        let replaced = road.write(Method::PUT, &path, user("Ada Lovelace"), 200).await?.json()?;
        road.brings("user.update", &path, &replaced).await?;
        let patch = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [{"op": "replace", "path": "displayName", "value": "Countess of Lovelace"}],
        });
        road.write(Method::PATCH, &path, Some(patch), 204).await?;
        let served = road.read(&path).await?;
        ensure!(served["displayName"] == "Countess of Lovelace", "not changed: {served}");
        road.brings("user.update", &path, &served).await?;
        road.write(Method::DELETE, &path, None, 204).await?;
        road.brings("user.delete", &path, &json!({"id": id})).await?;
        road.ends().await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guillotina_needs_its_names_told_and_its_answers_filled() {
    tell(async |run| {
        let api = guillotina::start(run).await?;
        let mut road = Road::to(run, &api, GUILLOTINA).await?;
        road.sign = guillotina::as_root;
        let item = |title: &str| Some(json!({"@type": "Item", "id": "ada-lovelace", "title": title}));
        let answered = road.write(Method::POST, guillotina::FOLDER, item("Ada"), 201).await?.json()?;
        ensure!(answered.get("title").is_none(), "Guillotina now answers with the resource: {answered}");
        let path = format!("{}/ada-lovelace", guillotina::FOLDER);
        let served = road.read(&path).await?;
        road.brings("contact.create", &path, &served).await?;
        for method in [Method::PATCH, Method::PUT] {
            let before = road.read(&path).await?;
            let change = json!({"@type": "Item", "title": method.as_str()});
            road.write(method.clone(), &path, Some(change), 204).await?;
            let after = road.read(&path).await?;
            ensure!(after["title"] == method.as_str(), "not changed: {after}");
            let arrived = road.brings("contact.update", &path, &after).await?;
            ensure!(arrived["previous"] == before, "it was {before}, and {arrived} arrived");
        }
        let last = road.read(&path).await?;
        road.write(Method::DELETE, &path, None, 200).await?;
        road.brings("contact.delete", &path, &last).await?;
        road.ends().await
    })
    .await;
}

/// A caller, a server that is a stranger to us, and a receiver; in between, everything that users run.
struct Road {
    gateway: Gateway,
    receiver: Receiver,
    stranger: Client,
    media: &'static str,
    sign: fn(Call) -> Call,
    seen: usize,
    _companion: Companion,
}

impl Road {
    async fn to(run: &Arc<RunDirectory>, api: &Api, configuration: &str) -> Result<Self> {
        let lines = configuration.lines().count();
        println!("{lines} lines of configuration:\n{configuration}");
        ensure!(lines <= MOST_LINES, "{lines} lines of configuration, at most {MOST_LINES}");
        let companion = Companion::start(run, Settings::default()).await?;
        let receiver = Receiver::start().await?;
        companion.subscribe(&receiver, &["*"]).await?;
        let gateway = Gateway::before(api.address(), companion.address());
        let gateway = gateway.filter(&serde_json::from_str(configuration)?).start(run).await?;
        let (stranger, media) = (api.direct(), "application/json");
        let sign = |call| call;
        Ok(Self { gateway, receiver, stranger, media, sign, seen: 0, _companion: companion })
    }

    /// Writes through Envoy; any status but the expected is an error.
    async fn write(&self, method: Method, path: &str, body: Option<Value>, status: u16) -> Result<Response> {
        let call = (self.sign)(self.gateway.caller().call(method, path));
        let call = match body {
            Some(body) => call.header("content-type", self.media).body(body.to_string()),
            None => call,
        };
        call.send().await?.expect(status)
    }

    /// What the server serves, asked past Envoy under Envoy's name, which it puts into its links.
    async fn read(&self, path: &str) -> Result<Value> {
        let call = (self.sign)(self.stranger.get(path));
        call.header("host", self.gateway.address().to_string()).send().await?.expect(200)?.json()
    }

    /// Compares the one event that came since the last with what should have come, and gives what was delivered.
    async fn brings(&mut self, event_type: &str, subject: &str, data: &Value) -> Result<Value> {
        self.seen += 1;
        let arrivals = self.receiver.wait_for(self.seen, wait::PATIENCE).await?;
        ensure!(arrivals.len() == self.seen, "{} came, not {}", arrivals.len(), self.seen);
        let arrival = arrivals.last().context("an arrival")?;
        ensure!(arrival.verified.is_ok(), "it does not verify: {:?}", arrival.verified);
        let body = arrival.json();
        let expected = json!({"type": event_type, "subject": subject, "data": data});
        let arrived = json!({"type": body["type"], "subject": body["subject"], "data": body["data"]});
        ensure!(arrived == expected, "expected {expected:#}, arrived {arrived:#}");
        Ok(body)
    }

    /// Nothing else was observed, and nothing was without its data.
    async fn ends(&self) -> Result<()> {
        self.gateway.metric_becomes("gatehook_handed_over", u64::try_from(self.seen)?).await?;
        self.gateway.metric_becomes("gatehook_observed", u64::try_from(self.seen)?).await?;
        self.gateway.metric_becomes("gatehook_thin", 0).await
    }
}
