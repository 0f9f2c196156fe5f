//! Writes that fit no rule leave no event, and a user finds them at the companion.

use anyhow::ensure;
use harness::companion::Settings;
use harness::{Answer, Companion, Gateway, Upstream, wait};
use hyper::Method;
use serde_json::{Value, json};

use crate::world::tell;

#[tokio::test(flavor = "multi_thread")]
async fn what_fits_no_rule_is_counted_by_shape_and_shown_by_the_companion() {
    tell(async |run| {
        let upstream = Upstream::start(|_| Answer::json(200, r#"{"ok":true}"#)).await?;
        let companion = Companion::start(run, Settings::default()).await?;
        let gateway = Gateway::before(upstream.address(), companion.address()).start(run).await?;
        let caller = gateway.caller();
        for number in 0..7 {
            caller.call(Method::PUT, &format!("/v1/users/{number}/settings")).body("{}").send().await?;
        }
        for _ in 0..5 {
            caller.post("/v1/graphql").body("{}").send().await?.expect(200)?;
        }
        let shapes = [("PUT", "/v1/users/{id}/settings", 7), ("POST", "/v1/graphql", 5)];
        let expected: Vec<Value> = shapes
            .iter()
            .map(|(method, path, count)| json!({"method": method, "path": path, "count": count, "status": 200}))
            .collect();
        let same = |shown: &Value| {
            let fields = ["method", "path", "count", "status"];
            expected.iter().any(|one| fields.iter().all(|field| one[field] == shown[field]))
        };
        let listed = async || {
            let shown = companion.list("/v1/unmatched").await.ok()?;
            (shown.len() == 2 && shown.iter().all(same)).then_some(())
        };
        wait::until("the companion to show both shapes", wait::PATIENCE, listed).await?;
        gateway.metric_becomes("gatehook_unmatched", 12).await?;
        ensure!(companion.list("/v1/events").await?.is_empty(), "there was an event");
        Ok(())
    })
    .await;
}
