//! Self-service through the same gateway: the sample with the real jwt_authn, real tokens, and callers who try what they can.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use harness::companion::Settings;
use harness::gateway::SelfService;
use harness::http::{self, Response};
use harness::issuer::{self, Issuer};
use harness::workspace::RunDirectory;
use harness::{Companion, Gateway, Receiver, Upstream};
use hyper::Method;
use serde_json::{Value, json};

use crate::world::{store, tell};

const GATEWAY_TOKEN: &str = "shown-by-the-gateway";

/// An API whose tenants manage their own webhooks.
pub(crate) struct World {
    pub(crate) issuer: Issuer,
    pub(crate) companion: Companion,
    pub(crate) gateway: Gateway,
    pub(crate) _upstream: Upstream,
}

impl World {
    pub(crate) async fn start(run: &Arc<RunDirectory>) -> Result<Self> {
        let issuer = Issuer::new(1);
        let upstream = Upstream::start(store).await?;
        let arguments = ["--public-listen", "127.0.0.1:0", "--gateway-token", GATEWAY_TOKEN];
        let arguments = arguments.map(str::to_owned).to_vec();
        let companion = Companion::start(run, Settings { arguments, ..Settings::default() }).await?;
        let own = SelfService {
            companion: companion.public_address()?,
            keys: issuer.keys(),
            token: GATEWAY_TOKEN.to_owned(),
        };
        let gateway = Gateway::before(upstream.address(), companion.address());
        let gateway = gateway.self_service(own).start(run).await?;
        Ok(Self { issuer, companion, gateway, _upstream: upstream })
    }

    /// A tenant's request, with the token that it has for the API.
    async fn ask(&self, tenant: &str, method: Method, path: &str, body: &Value) -> Result<Response> {
        let caller = self.gateway.caller().bearer(&self.issuer.token(tenant));
        caller.call(method, path).json(body).send().await
    }

    /// Makes a subscription of a tenant's own to everything; returns it with its secret.
    pub(crate) async fn subscribe(&self, tenant: &str, receiver: &Receiver) -> Result<Value> {
        let body = json!({"target_url": receiver.url(), "events": ["*"]});
        let made =
            self.ask(tenant, Method::POST, "/webhooks/subscriptions", &body).await?.expect(201)?.json()?;
        receiver.trust(made["secret"].as_str().context("no secret")?);
        Ok(made)
    }

    /// Writes a contact through the API, so that there is an event of this type.
    pub(crate) async fn write(&self, tenant: &str, event_type: &str, number: u64) -> Result<()> {
        let contact = json!({"id": number.to_string(), "name": "Ada", "since": "2026-01-31T12:00:00Z"});
        let (method, path, status) = match event_type {
            "contact.create" => (Method::POST, "/v1/contacts".to_owned(), 201),
            "contact.update" => (Method::PUT, format!("/v1/contacts/{number}"), 200),
            other => anyhow::bail!("what is {other}?"),
        };
        self.ask(tenant, method, &path, &contact).await?.expect(status)?;
        Ok(())
    }

    /// A link to the portal for a tenant, as a path of the gateway.
    pub(crate) async fn link(&self, tenant: &str) -> Result<String> {
        let wanted = json!({"tenant": tenant});
        let made = self.companion.admin().post("/v1/portal-links").json(&wanted).send().await?;
        Ok(made.expect(200)?.json()?["url"].as_str().context("no url")?.to_owned())
    }

    /// Writes what the automatic rule leaves out, and waits until the companion has been told.
    pub(crate) async fn writes_what_fits_no_rule(&self) -> Result<()> {
        for number in 0..5 {
            let path = format!("/v1/users/{number}/settings");
            self.ask("acme", Method::PUT, &path, &json!({"ok": true})).await?.expect(200)?;
        }
        let told =
            async || self.companion.list("/v1/unmatched").await.ok().filter(|shapes| !shapes.is_empty());
        harness::wait::until("the companion to be told", harness::wait::PATIENCE, told).await?;
        Ok(())
    }

    /// Ids of what a tenant finds there.
    async fn ids(&self, tenant: &str, path: &str) -> Result<Vec<String>> {
        let page = self.ask(tenant, Method::GET, path, &json!({})).await?.expect(200)?.json()?;
        let rows = page["data"].as_array().context("no list")?;
        Ok(rows.iter().filter_map(|row| row["id"].as_str().map(str::to_owned)).collect())
    }

    /// A request with these headers alone.
    async fn with(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Result<Response> {
        let call = self.gateway.caller().call(method, path);
        headers.iter().fold(call, |call, (name, value)| call.header(name, value)).send().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_manage_their_own_webhooks_with_the_apis_own_tokens() {
    tell(async |run| {
        let world = World::start(run).await?;
        let (acme, blue) = (Receiver::start().await?, Receiver::start().await?);
        let made = world.subscribe("acme", &acme).await?;
        world.subscribe("blue", &blue).await?;
        for tenant in ["acme", "blue", "acme"] {
            let contact = json!({"id": "7", "of": tenant});
            world.ask(tenant, Method::POST, "/v1/contacts", &contact).await?.expect(201)?;
        }
        let arrived = acme.wait_for(2, harness::wait::PATIENCE).await?;
        ensure!(arrived.iter().all(|one| one.was_taken() && one.json()["data"]["of"] == "acme"));
        let arrived = blue.wait_for(1, harness::wait::PATIENCE).await?;
        ensure!(arrived[0].was_taken() && arrived[0].json()["data"]["of"] == "blue");
        ensure!(world.ids("acme", "/webhooks/deliveries").await?.len() == 2);
        ensure!(world.ids("blue", "/webhooks/deliveries").await?.len() == 1);

        // What passes at /webhooks/ is no event of the API, or there would be more of them by now.
        let path = format!("/webhooks/subscriptions/{}", made["id"].as_str().context("no id")?);
        world.ask("acme", Method::PATCH, &path, &json!({"description": "mine"})).await?.expect(200)?;
        world.ask("acme", Method::DELETE, &path, &json!({})).await?.expect(204)?;
        world.ask("blue", Method::PUT, "/v1/contacts/7", &json!({"of": "blue"})).await?.expect(200)?;
        let arrived = blue.wait_for(2, harness::wait::PATIENCE).await?;
        ensure!(arrived[1].event_type() == "contact.update", "{}", arrived[1].event_type());
        let events = world.companion.list("/v1/events").await?;
        ensure!(events.len() == 4, "{events:?}");
        ensure!(events.iter().all(|event| event["actor"] == "user-7"));
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_header_and_no_made_up_token_makes_anybody_a_tenant() {
    tell(async |run| {
        let world = World::start(run).await?;
        let receiver = Receiver::start().await?;
        world.subscribe("blue", &receiver).await?;
        let list = "/webhooks/subscriptions";
        let claims = json!({"iss": "https://issuer.example.com", "aud": "https://api.example.com", "tenant": "blue", "exp": 4_102_444_800_i64});
        let good = world.issuer.token("blue");
        let (head, _) = good.rsplit_once('.').context("a token has parts")?;
        let bad_tokens = [
            Issuer::new(2).token("blue"),
            world.issuer.token_with("blue", &json!({"exp": 978_307_200})),
            world.issuer.token_with("blue", &json!({"iss": "https://elsewhere.example.com"})),
            world.issuer.token_with("blue", &json!({"aud": "https://other.example.com"})),
            world.issuer.token_with("blue", &json!({"nbf": 4_102_444_000_i64})),
            format!("{}.", issuer::unsigned("none", &claims)),
            format!("{}.", issuer::unsigned("EdDSA", &claims)),
            format!("{head}.AAAA"),
            "not-a-token".to_owned(),
        ];
        for token in &bad_tokens {
            let bearer = format!("Bearer {token}");
            for headers in [vec![("authorization", bearer.as_str())], vec![("authorization", bearer.as_str()), ("x-gatehook-tenant", "blue")]] {
                let answer = world.with(Method::GET, list, &headers).await?;
                ensure!(matches!(answer.status, 401 | 403), "{token}: {}", answer.status);
            }
        }
        let own = format!("Bearer {}", world.issuer.token("acme"));
        let forged: [&[(&str, &str)]; 8] = [
            &[("x-gatehook-tenant", "blue")],
            &[("X-GATEHOOK-TENANT", "blue"), ("x-gatehook-tenant", "blue")],
            &[("x-gatehook-tenant", "blue"), ("gatehook-gateway", GATEWAY_TOKEN)],
            &[("x-gatehook-tenant", "blue"), ("connection", "x-gatehook-tenant")],
            &[("x_gatehook_tenant", "blue"), ("x-gatehook-tenant ", "blue")],
            &[("x-envoy-original-path", list), ("x-original-url", list), ("x-gatehook-tenant", "blue")],
            &[("x-jwt-payload", r#"{"tenant":"blue"}"#), ("tenant", "blue")],
            &[("cookie", "tenant=blue"), ("x-forwarded-user", "blue")],
        ];
        for headers in forged {
            // One of these names is no name of a header at all, which the client refuses by itself.
            let headers: Vec<_> = headers.iter().copied().filter(|(name, _)| !name.ends_with(' ')).collect();
            let answer = world.with(Method::GET, list, &headers).await?;
            ensure!(answer.status == 401, "{headers:?}: {}", answer.status);
            // With a token of its own it is that one's tenant, whatever else it says.
            let with_own = [headers.as_slice(), &[("authorization", own.as_str())]].concat();
            let answer = world.with(Method::GET, list, &with_own).await?.expect(200)?.json()?;
            ensure!(answer["data"] == json!([]), "{headers:?}: {answer}");
        }
        for authorization in ["Gatehook-Link blue", "Gatehook-Link", "Basic Ymx1ZTpibHVl", "Bearer demo-admin-token"] {
            let answer = world.with(Method::GET, list, &[("authorization", authorization)]).await?;
            ensure!(answer.status == 401, "{authorization}: {}", answer.status);
        }
        // A claim that is no name of a tenant names none.
        for claim in [json!(""), json!(["blue", "acme"]), json!({"name": "blue"}), json!(null)] {
            let token = world.issuer.token_with("acme", &json!({"tenant": claim}));
            let answer = world.with(Method::GET, list, &[("authorization", &format!("Bearer {token}"))]).await?;
            let seen = answer.json()?["data"] != json!([]) && answer.status == 200;
            ensure!(!seen, "{claim}: {}", answer.status);
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_leads_around_the_gateways_rules() {
    tell(async |run| {
        let world = World::start(run).await?;
        let receiver = Receiver::start().await?;
        let blue = world.subscribe("blue", &receiver).await?["id"].as_str().context("no id")?.to_owned();
        let token = world.issuer.token("acme");
        let paths = [
            "/webhooks/../v1/subscriptions".to_owned(),
            "/webhooks/%2e%2e/v1/subscriptions".to_owned(),
            "/webhooks/..%2fv1/subscriptions".to_owned(),
            "/webhooks/..;/v1/subscriptions".to_owned(),
            "/webhooks/portal/../subscriptions".to_owned(),
            "/webhooks/portal/%2e%2e/subscriptions".to_owned(),
            "/webhooks/portal/..%2fsubscriptions".to_owned(),
            "/webhooks/portal%2f..%2fsubscriptions".to_owned(),
            "/webhooks/portal;/subscriptions".to_owned(),
            "/webhooks//subscriptions".to_owned(),
            "//webhooks/subscriptions".to_owned(),
            "/./webhooks/./subscriptions".to_owned(),
            "/WEBHOOKS/subscriptions".to_owned(),
            "/%77ebhooks/subscriptions".to_owned(),
            "/webhooks/openapi.json/../subscriptions".to_owned(),
            "/webhooks/.well-known/jwks.json/../../subscriptions".to_owned(),
            "/webhooks\\subscriptions".to_owned(),
            format!("/webhooks/subscriptions/{blue}"),
            format!("/webhooks/subscriptions/x/../{blue}"),
            format!("/webhooks/subscriptions/%2e/{blue}"),
            format!("/webhooks/subscriptions/{blue}%00"),
            format!("/webhooks/subscriptions/{blue}/"),
            format!("/webhooks/subscriptions/{blue};x"),
        ];
        for path in &paths {
            for authorization in ["", &format!("authorization: Bearer {token}\r\n")] {
                let request = format!("GET {path} HTTP/1.1\r\nhost: api\r\nx-gatehook-tenant: blue\r\n{authorization}connection: close\r\n\r\n");
                let mut stream = http::write_raw(world.gateway.address(), request.as_bytes()).await?;
                let answer = http::read_to_end(&mut stream).await?;
                ensure!(!answer.contains(&blue), "{path} {authorization}: {answer}");
                // Without a token nothing is answered but by who refuses.
                let status = answer.split(' ').nth(1).unwrap_or_default();
                ensure!(!authorization.is_empty() || !status.starts_with('2'), "{path}: {answer}");
            }
        }
        // The companion's own listener for tenants takes nothing that did not come through the gateway.
        let around = harness::http::Client::http1(world.companion.public_address()?);
        let answer = around.get("/webhooks/subscriptions").header("x-gatehook-tenant", "blue").send().await?;
        ensure!(answer.status == 403, "{}", answer.status);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_of_the_portal_passes_the_gateway_without_a_token() {
    tell(async |run| {
        let world = World::start(run).await?;
        let receiver = Receiver::start().await?;
        let made = world.subscribe("acme", &receiver).await?;
        let url = world.link("acme").await?;
        let token = url.split_once("#link=").context("no link")?.1.to_owned();
        let bearer = format!("Gatehook-Link {token}");
        let page = world.with(Method::GET, "/webhooks/subscriptions", &[("authorization", &bearer)]).await?;
        ensure!(page.expect(200)?.json()?["data"][0]["id"] == made["id"]);
        // It lets nobody into the API itself.
        let api = world.with(Method::GET, "/v1/contacts", &[("authorization", &bearer)]).await?;
        ensure!(api.status == 401, "{}", api.status);
        Ok(())
    })
    .await;
}
