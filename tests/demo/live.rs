//! After the story: everything stays up to be played with, and what arrives is shown as it arrives.

use std::time::Duration;

use anyhow::Result;
use harness::workspace::RunDirectory;
use harness::{companion, process};

use crate::parts::{COLLECTION, Parts, Subscriber};
use crate::screen::{Screen, Tone};

/// Practically never; the wait for the next arrival is not meant to end by itself.
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Shows how to try it by hand, then every delivery, until a signal stops the process with all that it started.
pub(crate) async fn stay_up(screen: &Screen, parts: &Parts, run: &RunDirectory) -> Result<()> {
    process::on_signal(|| {
        println!("\n  Every process is stopped.");
        0
    });
    let (api, own) = (parts.gateway.address(), parts.companion.address());
    let admin = format!("-H 'authorization: Bearer {}'", companion::ADMIN_TOKEN);
    screen.heading("Try it yourself");
    let body = "-H 'content-type: application/json' -d";
    screen.line(&format!(
        "  write      curl -u you:secret {body} '{{\"data\": {{\"name\": \"Grace Hopper\"}}}}' \\"
    ));
    screen.line(&format!("               http://{api}{COLLECTION}"));
    screen.line(&format!("  look       curl {admin} http://{own}/v1/deliveries"));
    screen.line(&format!("  subscribe  curl {admin} {body} \\"));
    screen.line("               '{\"target_url\": \"http://127.0.0.1:9000/yours\", \"events\": [\"*\"]}' \\");
    screen.line(&format!("               http://{own}/v1/subscriptions"));
    screen.line(&format!("  watch      http://{own}/portal#token={}", companion::ADMIN_TOKEN));
    screen.line(&format!("  logs       {}", run.path().display()));
    screen.heading("Deliveries, as they arrive (Ctrl-C ends it)");
    tokio::try_join!(follow(screen, &parts.steady, true), follow(screen, &parts.flaky, false))?;
    Ok(())
}

async fn follow(screen: &Screen, subscriber: &Subscriber, with_body: bool) -> Result<()> {
    let mut shown = subscriber.receiver.arrivals().len();
    loop {
        let arrivals = subscriber.receiver.wait_for(shown + 1, A_DAY).await?;
        for arrival in arrivals.iter().skip(shown) {
            let event_type = arrival.event_type();
            match &arrival.verified {
                Ok(()) => screen.done(subscriber.name, &format!("{event_type}, signature verified"), ""),
                Err(reason) => screen.step(subscriber.name, &screen.paint(Tone::Bad, reason), ""),
            }
            if with_body {
                screen.body(&arrival.json());
            }
        }
        shown = arrivals.len();
    }
}
