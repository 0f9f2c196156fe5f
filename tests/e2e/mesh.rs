//! The manifests for Istio, Envoy Gateway and Kubernetes, as their control planes hand them to Envoy.
//!
//! `harness::mesh` says what of that is taken from whose source, and what could not be tried without a cluster.

use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use harness::companion::Settings;
use harness::mesh::{self, Extension};
use harness::workspace::RunDirectory;
use harness::{Companion, Gateway, Receiver, Recorder, Upstream, wait, wasm};
use hyper::Method;
use serde_json::{Value, json};

use crate::identity::{keys, token};
use crate::world::{World, create, numbers, store, tell};

/// A gateway with this filter in place of the sample's, which knows the companion under this name.
async fn world(run: &Arc<RunDirectory>, filter: Value, cluster: String) -> Result<World> {
    let change = move |gateway: harness::gateway::Builder| {
        gateway.change(move |sample| {
            sample.rename_cluster("gatehook", &cluster)?;
            sample.replace_http_filter("gatehook", &filter)
        })
    };
    World::start(run, change).await
}

/// The filter of a WasmPlugin or a TrafficExtension, with its extension in a file.
fn of_plugin(run: &Arc<RunDirectory>, extension: &Extension) -> Result<Value> {
    let file = run.numbered("extension");
    extension.write(&file)?;
    Ok(extension.http_filter(&file))
}

/// A write and a read; the write's event arrives, and nothing else.
async fn a_write_is_told_of(world: &World) -> Result<()> {
    create(&world.gateway.caller(), 7).await?;
    world.gateway.caller().get("/v1/contacts/7").send().await?.expect(200)?;
    world.gateway.metric_becomes("gatehook_handed_over", 1).await?;
    let arrivals = world.receiver.wait_for(1, wait::PATIENCE).await?;
    ensure!(numbers(&arrivals) == [7], "{arrivals:?}");
    Ok(())
}

/// The answers to two writes from a gateway with this filter; at the first, a filter that fails on demand fails.
async fn answers(run: &Arc<RunDirectory>, filter: Value) -> Result<(u16, u16)> {
    let upstream = Upstream::start(store).await?;
    let recorder = Recorder::start().await?;
    let gateway = Gateway::before(upstream.address(), recorder.address());
    let gateway =
        gateway.change(move |sample| sample.replace_http_filter("gatehook", &filter)).start(run).await?;
    let write = || gateway.caller().post("/v1/contacts").json(&json!({"id": "7"}));
    let first = write().header("trap", "1").send().await?.status;
    Ok((first, write().send().await?.status))
}

/// The whole road, with what Istio makes of a plugin.
async fn plugin(run: &Arc<RunDirectory>, file: &str, kind: &str) -> Result<()> {
    let extension = Extension::of_plugin(&mesh::resource(file, kind)?)?.fetched(&wasm::module()?)?;
    a_write_is_told_of(&world(run, of_plugin(run, &extension)?, extension.cluster()?).await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_istio_makes_of_a_wasm_plugin_tells_of_writes() {
    tell(async |run| plugin(run, "istio/wasmplugin.yaml", "WasmPlugin").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_istio_makes_of_a_traffic_extension_tells_of_writes() {
    tell(async |run| plugin(run, "istio/trafficextension.yaml", "TrafficExtension").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_envoy_filter_puts_the_filter_behind_the_matcher() {
    tell(async |run| {
        let resource = mesh::resource("istio/envoyfilter.yaml", "EnvoyFilter")?;
        let extension = Extension::of_envoy_filter(&resource)?.fetched(&wasm::module()?)?;
        let file = run.numbered("extension");
        extension.write(&file)?;
        let world = world(run, mesh::inserted(&resource, &file)?, extension.cluster()?).await?;
        a_write_is_told_of(&world).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_envoy_filter_for_mode_hold_holds() {
    tell(async |run| {
        let resource = mesh::resource("istio/envoyfilter-hold.yaml", "EnvoyFilter")?;
        let extension = Extension::of_envoy_filter(&resource)?.fetched(&wasm::module()?)?;
        let file = run.numbered("extension");
        extension.write(&file)?;
        let world = world(run, mesh::inserted(&resource, &file)?, extension.cluster()?).await?;
        a_write_is_told_of(&world).await?;
        world.gateway.metric_becomes("gatehook_held", 1).await?;
        world.companion.freeze()?;
        create(&world.gateway.caller(), 8).await?;
        // It waited for the companion as long as the file says, and went on.
        world.gateway.metric_becomes("gatehook_hold_timed_out", 1).await?;
        world.companion.thaw()?;
        world.gateway.metric_becomes("gatehook_handed_over", 2).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_whom_the_verified_token_names_and_nobody_else() {
    tell(tenants).await;
}

async fn tenants(run: &Arc<RunDirectory>) -> Result<()> {
    let authentication = mesh::resource("istio/jwt.yaml", "RequestAuthentication")?;
    let authn = mesh::of_request_authentication(&authentication, &keys())?;
    let extension = Extension::of_plugin(&mesh::resource("istio/wasmplugin.yaml", "WasmPlugin")?)?;
    let extension = extension.fetched(&wasm::module()?)?;
    let (filter, cluster) = (of_plugin(run, &extension)?, extension.cluster()?);
    let upstream = Upstream::start(store).await?;
    let recorder = Recorder::start().await?;
    let gateway = Gateway::before(upstream.address(), recorder.address())
        .change(move |sample| {
            sample.rename_cluster("gatehook", &cluster)?;
            sample.replace_http_filter("gatehook", &filter)?;
            sample.first_http_filter(&authn)
        })
        .start(run)
        .await?;
    let rule = &authentication["spec"]["jwtRules"][0];
    let claims = json!({"iss": rule["issuer"], "aud": rule["audiences"][0], "sub": "ada", "tenant": "acme"});
    let bearer = format!("Bearer {}", token(&claims)?);
    // Whatever callers say, with a token or without one, the header bears what the token says or is not there.
    for (authorization, tenant) in [(Some(&bearer), Some("acme")), (None, None)] {
        let call = gateway.caller().post("/v1/contacts").json(&json!({"id": "7"}));
        let mut call = call.header("x-gatehook-tenant", "blue");
        if let Some(bearer) = authorization {
            call = call.header("authorization", bearer);
        }
        call.send().await?.expect(201)?;
        let seen = upstream.seen().pop().context("the API saw nothing")?;
        ensure!(seen.header("x-gatehook-tenant") == tenant.map(str::as_bytes), "another tenant: {seen:?}");
    }
    let events = recorder.accepted_at_least(2, wait::PATIENCE).await?;
    ensure!(events[0]["tenant"] == "acme" && events[0]["actor"] == "ada", "{events:?}");
    ensure!(events[1].get("tenant").is_none(), "{events:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_istio_cannot_fetch_the_module_the_api_still_answers() {
    tell(async |run| {
        let mut resource = mesh::resource("istio/wasmplugin.yaml", "WasmPlugin")?;
        let open = of_plugin(run, &Extension::of_plugin(&resource)?.unfetched())?;
        ensure!(answers(run, open).await? == (201, 201));
        // What the head of the file warns of.
        resource["spec"]["failStrategy"] = "FAIL_RELOAD".into();
        let closed = of_plugin(run, &Extension::of_plugin(&resource)?.unfetched())?;
        ensure!(answers(run, closed).await? == (403, 403));

        let resource = mesh::resource("istio/envoyfilter.yaml", "EnvoyFilter")?;
        let (denied, silent) = (run.numbered("extension"), run.numbered("extension"));
        Extension::of_envoy_filter(&resource)?.unfetched().write(&denied)?;
        // The control plane has nothing under that name: then the default of the EnvoyFilter holds.
        std::fs::write(&silent, r#"{"resources": []}"#)?;
        for file in [denied, silent] {
            ensure!(answers(run, mesh::inserted(&resource, &file)?).await? == (201, 201));
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_fails_hurts_callers_of_the_plugin_and_none_of_the_envoy_filter() {
    tell(async |run| {
        let trap = wasm::example("trap")?;
        let plugin = Extension::of_plugin(&mesh::resource("istio/wasmplugin.yaml", "WasmPlugin")?)?;
        let answered = answers(run, of_plugin(run, &plugin.fetched(&trap)?)?).await?;
        ensure!(answered == (503, 201), "the plugin: {answered:?}");

        let resource = mesh::resource("istio/envoyfilter.yaml", "EnvoyFilter")?;
        let file = run.numbered("extension");
        Extension::of_envoy_filter(&resource)?.fetched(&trap)?.write(&file)?;
        let answered = answers(run, mesh::inserted(&resource, &file)?).await?;
        ensure!(answered == (201, 201), "the EnvoyFilter: {answered:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_envoy_gateway_makes_of_its_policy_tells_of_writes() {
    tell(async |run| {
        let resource = mesh::resource("gateway/extension.yaml", "EnvoyExtensionPolicy")?;
        let filter = mesh::of_extension_policy(&resource, &wasm::module()?)?;
        let cluster = mesh::cluster(&filter["typed_config"])?;
        let name = filter["name"].as_str().context("a filter without a name")?.to_owned();
        // The route `api-writes`; what it does not match goes on to the sample's own route, as to `api-reads`.
        let turned_on = json!({
            name: {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}},
        });
        let post = json!({"name": ":method", "string_match": {"exact": "POST"}});
        let route = json!({
            "match": {"prefix": "/", "headers": [post]},
            "route": {"cluster": "api"},
            "typed_per_filter_config": turned_on,
        });
        let change = move |gateway: harness::gateway::Builder| {
            gateway.change(move |sample| {
                sample.rename_cluster("gatehook", &cluster)?;
                sample.replace_http_filter("gatehook", &filter)?;
                sample.first_route(&route)
            })
        };
        let world = World::start(run, change).await?;
        a_write_is_told_of(&world).await?;
        // The filter is off where no route turns it on.
        world.gateway.caller().call(Method::PUT, "/v1/contacts/7").body("{}").send().await?.expect(200)?;
        create(&world.gateway.caller(), 8).await?;
        world.gateway.metric_becomes("gatehook_observed", 2).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pre_stop_of_the_gateway_empties_the_outbox() {
    tell(pre_stop).await;
}

async fn pre_stop(run: &Arc<RunDirectory>) -> Result<()> {
    let text = std::fs::read_to_string(harness::workspace::root().join("envoy/kubernetes/envoy.yaml"))?;
    let deployment = mesh::documents(&text)?.into_iter().find(|own| own["kind"] == "Deployment");
    let deployment = deployment.context("no Deployment")?;
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let script = container["lifecycle"]["preStop"]["exec"]["command"][2].as_str().context("no script")?;

    let upstream = Upstream::start(store).await?;
    let companion = Companion::start(run, Settings::default()).await?;
    let receiver = Receiver::start().await?;
    companion.subscribe(&receiver, &["*"]).await?;
    // Events wait this long for company, so that they are still in the outbox when the script begins.
    let slow = json!({"batch": {"linger": "1s"}});
    let gateway = Gateway::before(upstream.address(), companion.address()).filter(&slow).start(run).await?;
    let admin = gateway.admin_address()?.port();
    for number in 0..20 {
        create(&gateway.caller(), number).await?;
    }
    let (script, port) = (script.replace("sleep 20", "sleep 2"), admin.to_string());
    ensure!(script.contains("9901") && script.contains("sleep 2"), "the script has another form");
    let mut command = Command::new("bash");
    command.arg("-c").arg(script.replace("9901", &port));
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    ensure!(String::from_utf8_lossy(&output.stdout).contains("200 OK"), "{output:?}");
    // Nothing is left that even this could lose.
    gateway.kill()?;
    let arrivals = receiver.wait_for(20, wait::PATIENCE).await?;
    ensure!(numbers(&arrivals) == (0..20).collect::<Vec<_>>(), "an event was lost");
    Ok(())
}
