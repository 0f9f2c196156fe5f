//! The story: a contact is created, changed and deleted, and what the three receivers make of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::http::Response;
use harness::kinto::as_user;
use harness::{Arrival, receiver};
use hyper::Method;
use serde_json::{Value, json};

use crate::parts::{COLLECTION, FAILURES, Parts, Subscriber};
use crate::screen::{Screen, Tone, cut, milliseconds, seconds};

/// Far more than any step needs.
const DEADLINE: Duration = Duration::from_secs(30);

/// Tells it, and checks it on the way.
pub(crate) async fn tell(screen: &Screen, parts: &Parts) -> Result<()> {
    let contact = json!({"data": {"name": "Ada Lovelace", "email": "ada@example.com"}});
    let created =
        write(screen, parts, Method::POST, COLLECTION, Some(&contact), 201, "contact.create").await?;
    let id = created.body.json()?["data"]["id"].as_str().context("Kinto gives an id")?.to_owned();
    ensure!(
        created.delivered["data"] == created.body.json()?["data"],
        "the event is not what the API answered"
    );
    let flaky = recovery(screen, parts, created.answered).await?;
    let off = switched_off(screen, parts, created.answered).await?;

    let path = format!("{COLLECTION}/{id}");
    let change = json!({"data": {"email": "countess@example.com"}});
    let updated = write(screen, parts, Method::PATCH, &path, Some(&change), 200, "contact.update").await?;
    ensure!(updated.delivered["data"]["email"] == "countess@example.com", "the update is not in the event");
    let deleted = write(screen, parts, Method::DELETE, &path, None, 200, "contact.delete").await?;
    ensure!(deleted.delivered["data"]["id"] == id.as_str(), "the deletion names another contact");

    screen.heading("What held");
    screen.done(
        "mirrored",
        "create, update and delete arrived; the standardwebhooks crate verified each",
        "",
    );
    screen.done("retried", &flaky, "");
    screen.done("gone", &off, "");
    screen.done("tampered", &tampering(&updated.arrival, &parts.steady)?, "");
    screen.line(&format!(
        "\n  {} in {}",
        screen.paint(Tone::Good, "Everything held,"),
        seconds(screen.elapsed())
    ));
    Ok(())
}

/// A write that went through Envoy and arrived at the steady receiver.
struct Written {
    body: Response,
    answered: Instant,
    arrival: Arc<Arrival>,
    delivered: Value,
}

async fn write(
    screen: &Screen,
    parts: &Parts,
    method: Method,
    path: &str,
    body: Option<&Value>,
    expected: u16,
    event_type: &str,
) -> Result<Written> {
    screen.heading(&format!("{method} {}", shorten(path)));
    let call = as_user(parts.gateway.caller().call(method.clone(), path), "ada");
    let call = if let Some(body) = body { call.json(body) } else { call };
    let started = Instant::now();
    let response = call.send().await?.expect(expected)?;
    let answered = Instant::now();
    screen.step(
        "API",
        &format!("{expected} to the caller, through Envoy"),
        &milliseconds(answered - started),
    );

    let steady = &parts.steady.receiver;
    let of_type = |arrivals: &[Arc<Arrival>]| {
        arrivals.iter().find(|arrival| arrival.event_type() == event_type).cloned()
    };
    let arrival = steady.wait_until(DEADLINE, of_type).await?;
    if let Err(reason) = &arrival.verified {
        anyhow::bail!("the signature of {event_type} does not verify: {reason}");
    }
    let event = event(parts, event_type).await?;
    let subject = event["subject"].as_str().context("an event has its resource as subject")?;
    screen.step("event", &format!("{event_type}, of {}", shorten(subject)), "");
    let after = arrival.at.saturating_duration_since(answered);
    screen.done("steady", "200, signature verified", &format!("+{}", milliseconds(after)));
    let delivered = arrival.json();
    screen.body(&delivered);
    Ok(Written { body: response, answered, arrival, delivered })
}

/// The event as the companion keeps it.
async fn event(parts: &Parts, event_type: &str) -> Result<Value> {
    let events = parts.companion.list("/v1/events").await?;
    let found = events.into_iter().find(|event| event["type"] == event_type);
    found.with_context(|| format!("the companion lists no {event_type}"))
}

/// Follows the flaky receiver until it has recovered, and asks the companion whether it agrees.
async fn recovery(screen: &Screen, parts: &Parts, answered: Instant) -> Result<String> {
    let arrivals = parts.flaky.receiver.wait_for(FAILURES + 1, DEADLINE).await?;
    for (number, arrival) in arrivals.iter().enumerate() {
        ensure!(arrival.verified.is_ok(), "attempt {number} does not verify: {:?}", arrival.verified);
        let after = format!("+{}", milliseconds(arrival.at.saturating_duration_since(answered)));
        let attempt = format!("attempt {}", number + 1);
        if arrival.was_taken() {
            screen.done(parts.flaky.name, &format!("{attempt}: 200, signature verified"), &after);
        } else {
            screen.step(parts.flaky.name, &format!("{attempt}: 500"), &after);
        }
    }
    let first = arrivals.first().context("it arrived")?.webhook_id().to_owned();
    ensure!(
        arrivals.iter().all(|arrival| arrival.webhook_id() == first),
        "an attempt came under another webhook-id"
    );
    let delivered = |deliveries: &Value| deliveries["data"][0]["status"] == "delivered";
    let deliveries = parts
        .companion
        .read_until(&format!("/v1/deliveries?subscription={}", parts.flaky.id()), delivered)
        .await?;
    let id = deliveries["data"][0]["id"].as_str().context("a delivery has an id")?;
    let delivery = parts.companion.read(&format!("/v1/deliveries/{id}")).await?;
    let attempts = delivery["attempts"].as_array().map_or(0, Vec::len);
    ensure!(attempts == FAILURES + 1, "the companion recorded {attempts} attempts");
    Ok(format!("the flaky receiver took it on attempt {attempts}, each under the same webhook-id"))
}

/// Checks that 410 turned the subscription off.
async fn switched_off(screen: &Screen, parts: &Parts, answered: Instant) -> Result<String> {
    let arrival = parts.gone.receiver.wait_for(1, DEADLINE).await?;
    let path = format!("/v1/subscriptions/{}", parts.gone.id());
    let off = parts.companion.read_until(&path, |subscription| subscription["status"] == "off").await?;
    let reason = off["off_reason"].as_str().context("a subscription that went off says why")?;
    let at = arrival.first().context("it arrived")?.at;
    let after = format!("+{}", milliseconds(at.saturating_duration_since(answered)));
    screen.done(parts.gone.name, "410, its subscription goes off", &after);
    Ok(format!("410 turned the subscription off: {}", cut(reason, 60)))
}

/// Changes one letter of a genuine message and shows that the verifier notices.
fn tampering(genuine: &Arrival, subscriber: &Subscriber) -> Result<String> {
    let secret = subscriber.subscription["secret"].as_str().context("the secret was shown")?;
    receiver::verify(secret, &genuine.body, &genuine.headers).map_err(anyhow::Error::msg)?;
    let forged = String::from_utf8(genuine.body.to_vec())?.replacen("countess", "impostor", 1);
    ensure!(forged.as_bytes() != genuine.body, "nothing was changed");
    match receiver::verify(secret, forged.as_bytes(), &genuine.headers) {
        Ok(()) => anyhow::bail!("a forged body was taken for genuine"),
        Err(reason) => Ok(format!("the same message with another e-mail address is refused: {reason}")),
    }
}

/// A path with the long id of a record cut short.
fn shorten(path: &str) -> String {
    match path.strip_prefix(COLLECTION).and_then(|rest| rest.strip_prefix('/')) {
        Some(id) => format!("{COLLECTION}/{}", cut(id, 9)),
        None => path.to_owned(),
    }
}
