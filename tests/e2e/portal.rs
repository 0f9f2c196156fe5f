//! The portal in a real browser, against a real companion: an operator's day, every view, and what it says to paste.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use harness::companion::{ADMIN_TOKEN, Settings};
use harness::ports::ReservedPort;
use harness::process::Process;
use harness::workspace::{self, RunDirectory};
use harness::{Browser, Companion, Receiver, Reply, browser, node, python, wait};
use serde_json::{Value, json};

use crate::self_service;
use crate::world::tell;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_makes_tests_watches_and_ends_a_subscription() {
    tell(async |run| {
        let browser = Browser::find()?;
        let companion = Companion::start(run, Settings::default()).await?;
        let receiver = Receiver::start().await?;
        let mut known = known(&companion);
        known["receiver"] = json!(receiver.url());
        let answer = async |question: Value| answer(&companion, &receiver, &question).await;
        browser.play(run, &script("operator.mjs"), &known, answer).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_view_fits_the_screen_and_is_accessible_light_and_dark() {
    tell(async |run| {
        let browser = Browser::find()?;
        let settings = Settings { retry_schedule: "0s,100ms,1h".into(), ..Settings::default() };
        let companion = Companion::start(run, settings).await?;
        let well = Receiver::start().await?;
        let badly = Receiver::scripted(|_| Reply::Status(503)).await?;
        companion.subscribe(&well, &["contact.*", "order.create"]).await?;
        let subscription = companion.subscribe(&badly, &["contact.*"]).await?;
        let types = ["contact.create", "contact.update", "order.create"];
        for (number, event_type) in types.iter().cycle().take(9).enumerate() {
            accept(&companion, number, event_type).await?;
        }
        let failing = format!("/v1/deliveries?status=pending&subscription={}", text(&subscription["id"])?);
        let tried = |list: &Value| {
            let mut deliveries = list["data"].as_array()?.iter();
            deliveries.find(|one| one["attempt_count"] != 0).map(|one| one["id"].clone())
        };
        let deliveries = companion.read_until(&failing, |list| tried(list).is_some()).await?;
        let mut known = known(&companion);
        known["subscription"] = subscription["id"].clone();
        known["delivery"] = tried(&deliveries).context("a delivery")?;
        known["type"] = json!(types[0]);
        println!("screenshots: {}", browser::screenshots()?.display());
        browser.play(run, &script("views.mjs"), &known, async |_| bail!("nothing is asked")).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_page_says_to_paste_verifies_deliveries() {
    tell(async |run| {
        let browser = Browser::find()?;
        let companion = Companion::start(run, Settings::default()).await?;
        let answer = async |question: Value| {
            let (language, code) = (text(&question["language"])?, text(&question["code"])?);
            pasted(run, &companion, language, code).await.context(language.to_owned())?;
            Ok(json!({}))
        };
        browser.play(run, &script("verify.mjs"), &known(&companion), answer).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_its_day_another_sees_nothing_of_it_and_an_operator_sees_both() {
    tell(async |run| {
        let browser = Browser::find()?;
        let world = self_service::World::start(run).await?;
        let (acme, blue) = (Receiver::start().await?, Receiver::start().await?);
        let portal = format!("http://{}/webhooks/portal", world.gateway.address());
        let told = json!({
            "portal": portal, "token": world.issuer.token("acme"), "receiver": acme.url(),
            "other": {"portal": portal, "token": world.issuer.token("blue")},
            "operator": known(&world.companion),
        });
        let answer = async |question: Value| match text(&question["do"])? {
            // Not accepted by the companion alone: a write through the API.
            "accept" => {
                let number = question["number"].as_u64().context("a number")?;
                world.write("acme", text(&question["type"])?, number).await?;
                Ok(json!({}))
            }
            "link" => {
                let link = world.link(text(&question["tenant"])?).await?;
                Ok(json!({"link": format!("http://{}{link}", world.gateway.address())}))
            }
            "subscribe" => {
                world.subscribe(text(&question["tenant"])?, &blue).await?;
                Ok(json!({}))
            }
            "unmatched" => {
                world.writes_what_fits_no_rule().await?;
                Ok(json!({}))
            }
            _ => answer(&world.companion, &acme, &question).await,
        };
        browser.play(run, &script("tenant.mjs"), &told, answer).await
    })
    .await;
}

fn known(companion: &Companion) -> Value {
    json!({"portal": format!("http://{}/portal", companion.address()), "token": ADMIN_TOKEN})
}

fn script(name: &str) -> PathBuf {
    workspace::root().join("tests/e2e/portal").join(name)
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("no text: {value}"))
}

async fn accept(companion: &Companion, number: usize, event_type: &str) -> Result<()> {
    let event = json!({"specversion": "1.0", "id": format!("portal-{number}"), "source": "e2e", "type": event_type,
        "subject": format!("/contacts/{number}"), "data": {"id": number, "name": "Ada"}});
    let call = companion.ingest().post("/v1/events").header("content-type", "application/cloudevents+json");
    call.body(event.to_string()).send().await?.expect(202)?;
    Ok(())
}

/// What a story in the browser needs of what stands around it.
async fn answer(companion: &Companion, receiver: &Receiver, question: &Value) -> Result<Value> {
    match text(&question["do"])? {
        "trust" => receiver.trust(text(&question["secret"])?),
        "accept" => {
            let number = usize::try_from(question["number"].as_u64().context("a number")?)?;
            accept(companion, number, text(&question["type"])?).await?;
        }
        // So many arrivals of a type that verify.
        "arrived" => {
            let (event_type, count) =
                (text(&question["type"])?, question["count"].as_u64().context("a count")?);
            let genuine = |arrivals: &[Arc<harness::Arrival>]| {
                let found =
                    arrivals.iter().filter(|one| one.event_type() == event_type && one.verified.is_ok());
                (found.count() as u64 >= count).then_some(())
            };
            receiver.wait_until(wait::PATIENCE, genuine).await?;
        }
        "make_token" => {
            let wanted = json!({"scope": text(&question["scope"])?});
            return companion.admin().post("/v1/tokens").json(&wanted).send().await?.expect(201)?.json();
        }
        "end_token" => {
            let path = format!("/v1/tokens/{}", text(&question["id"])?);
            companion.admin().call(hyper::Method::DELETE, &path).send().await?.expect(204)?;
        }
        other => bail!("what is {other}?"),
    }
    Ok(json!({}))
}

/// Runs what was to be pasted: it takes a ping with the subscription's secret, and with another one it does not.
async fn pasted(run: &Arc<RunDirectory>, companion: &Companion, language: &str, code: &str) -> Result<()> {
    let port = ReservedPort::any()?.release().port();
    let wanted = json!({"target_url": format!("http://127.0.0.1:{port}/"), "events": ["*"]});
    let subscription =
        companion.admin().post("/v1/subscriptions").json(&wanted).send().await?.expect(201)?.json()?;
    let path = format!("/v1/subscriptions/{}/ping", text(&subscription["id"])?);
    let secrets = [(text(&subscription["secret"])?, 204), ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 400)];
    for (secret, expected) in secrets {
        let mut command = match language {
            "JavaScript" => {
                let mut command = node::environment(&["standardwebhooks@1.1.1"])?.node();
                command.args(["--input-type=module", "-e", code]);
                command
            }
            "Python" => {
                let mut command = python::environment(&["standardwebhooks==1.1.0"])?.python();
                command.args(["-c", code]);
                command
            }
            other => bail!("{other} is not run here"),
        };
        command.env("WEBHOOK_SECRET", secret).env("PORT", port.to_string());
        let mut receiver = Process::start(run, "pasted", &mut command)?;
        let listens = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok();
        receiver.ready(wait::PATIENCE, listens).await?;
        let answer = companion.admin().post(&path).send().await?.expect(200)?.json()?;
        ensure!(answer["status"] == expected, "expected {expected}: {answer}");
        receiver.kill()?;
    }
    Ok(())
}
