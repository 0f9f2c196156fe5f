//! Event types as the configuration wants them.

use anyhow::{Context as _, Result, ensure};
use harness::upstream::Seen;
use harness::{Answer, Gateway, Recorder, Upstream, wait};
use hyper::Method;
use serde_json::json;

use crate::world::tell;

#[tokio::test(flavor = "multi_thread")]
async fn namespace_tense_nesting_renames_and_plurals_shape_the_type() {
    tell(async |run| {
        let upstream = Upstream::start(|seen: &Seen| match seen.method.as_str() {
            "POST" => Answer::json(201, r#"{"id":"1"}"#),
            _ => Answer::json(200, r#"{"id":"1"}"#),
        })
        .await?;
        let recorder = Recorder::start().await?;
        let gateway = Gateway::before(upstream.address(), recorder.address())
            .filter(&json!({
                "namespace": "acme.crm", "tense": "past", "nested": true,
                "verbs": {"cancel": "called_off"}, "singulars": {"sensordata": "sensor_datum"},
                "resources": [{"path": "/v1/wares/{sku}", "noun": "shop.ware", "verbs": {"PUT": "replace", "DELETE": null},
                               "actions": {"sell-out": "sell_out"}}],
            }))
            .start(run)
            .await?;
        let caller = gateway.caller();
        let cases = [
            (Method::POST, "/v1/contacts", "acme.crm.contact.created"),
            (Method::PATCH, "/v1/users/42/orders/7", "acme.crm.user.order.updated"),
            (Method::POST, "/v1/users/42/orders", "acme.crm.user.order.created"),
            (Method::PUT, "/v1/orders/7", "acme.crm.order.updated"),
            (Method::DELETE, "/v1/sensordata/7", "acme.crm.sensor_datum.deleted"),
            (Method::PUT, "/v1/wares/red-shoe", "acme.crm.shop.ware.replace"),
            (Method::DELETE, "/v1/wares/red-shoe", ""),
            (Method::POST, "/v1/wares", "acme.crm.shop.ware.created"),
        ];
        for (method, path, _) in &cases {
            let answer = caller.call(method.clone(), path).body("{}").send().await.context(*path)?;
            ensure!((200..300).contains(&answer.status), "{path} was answered {}", answer.status);
        }
        let expected: Vec<&str> = cases.iter().map(|case| case.2).filter(|name| !name.is_empty()).collect();
        let events = recorder.accepted_at_least(expected.len(), wait::PATIENCE).await?;
        let types: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
        ensure!(types == expected, "{types:?}");
        actions(&gateway, &recorder, expected.len()).await
    })
    .await;
}

/// Actions are answered 201 by this API, so the automatic rule takes them for creations; a resource's actions it does not.
async fn actions(gateway: &Gateway, recorder: &Recorder, before: usize) -> Result<()> {
    let caller = gateway.caller();
    for path in ["/v1/wares/red-shoe/sell-out", "/v1/orders/7:cancel"] {
        caller.post(path).body("{}").send().await?.expect(201)?;
    }
    let events = recorder.accepted_at_least(before + 2, wait::PATIENCE).await?;
    let found = |at: usize| (events[before + at]["type"].as_str(), events[before + at]["subject"].as_str());
    ensure!(found(0) == (Some("acme.crm.shop.ware.sell_out"), Some("/v1/wares/red-shoe")), "{:?}", found(0));
    ensure!(found(1).0 == Some("acme.crm.order.called_off"), "{:?}", found(1));
    Ok(())
}
