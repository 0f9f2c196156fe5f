//! The suite.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use companion::limits;
use companion::queue::connect;
use harness::Cable;
use harness::cable::Condition;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

use crate::bench::{Bench, Broker, Held, PATIENCE, all, ids, says};

/// Time in which something would have come that does not.
const NOTHING_MORE: Duration = Duration::from_secs(3);

/// Time in which a server that says nothing is tried more than once.
const SOME_ATTEMPTS: Duration = Duration::from_secs(25);

/// Runs every case, and fails with the names of those that failed.
pub(crate) async fn holds<B: Broker>(broker: B) {
    LocalSet::new().run_until(cases_hold(broker)).await;
}

async fn cases_hold<B: Broker>(broker: B) {
    let broker = Arc::new(broker);
    let mut cases = JoinSet::new();
    macro_rules! run {
        ($($case:ident),+ $(,)?) => {$({
            let broker = Arc::clone(&broker);
            cases.spawn_local(async move {
                let ended = async {
                    let bench = Bench::new(broker).await?;
                    let ended = $case(&bench).await;
                    bench.broker.remove(&bench.queue).await?;
                    ended
                };
                (stringify!($case), ended.await)
            });
        })+};
    }
    run!(
        a_published_id_comes_once,
        receivers_share_the_work,
        what_is_given_up_comes_to_another,
        what_is_settled_does_not_come_again,
        closing_sends_what_waits,
        a_server_that_is_away_blocks_nobody,
        a_server_that_falls_silent_is_left_and_found_again,
        old_tickets_harm_no_new_connection,
        a_slow_receiver_holds_a_bounded_number,
        foreign_messages_are_thrown_away,
        a_refused_start_says_why,
    );
    let mut failed = Vec::new();
    while let Some(ended) = cases.join_next().await {
        match ended.expect("a case fails with an error") {
            (case, Ok(())) => println!("{case}: ok"),
            (case, Err(error)) => failed.push(format!("{case}: {error:#}")),
        }
    }
    assert!(failed.is_empty(), "\n{}\n", failed.join("\n"));
}

async fn a_published_id_comes_once<B: Broker>(bench: &Bench<B>) -> Result<()> {
    let (publisher, receiver) = (bench.handle().await?, bench.handle().await?);
    let published = ids(700);
    let (one, many) = published.split_at(1);
    publisher.publish(one.to_vec());
    let first = all(&receiver, one).await?;
    publisher.publish(many.to_vec());
    let rest = all(&receiver, many).await?;
    ensure!(
        first.ids().union(&rest.ids()).count() == published.len(),
        "something came that was not published"
    );
    first.once()?;
    rest.once()?;
    ensure!(publisher.is_up() && receiver.is_up() && publisher.forgotten() == 0);
    Ok(())
}

async fn receivers_share_the_work<B: Broker>(bench: &Bench<B>) -> Result<()> {
    let publishers = [bench.handle().await?, bench.handle().await?, bench.handle().await?];
    let receivers = [bench.handle().await?, bench.handle().await?];
    let mut seen = [HashSet::new(), HashSet::new()];
    let shared = timeout(PATIENCE, async {
        while seen.iter().any(HashSet::is_empty) {
            let mut open: HashSet<_> = HashSet::new();
            for publisher in &publishers {
                let published = ids(50);
                open.extend(published.clone());
                publisher.publish(published);
            }
            while !open.is_empty() {
                let (index, calls) = tokio::select! {
                    calls = receivers[0].receive() => (0, calls),
                    calls = receivers[1].receive() => (1, calls),
                };
                for call in calls {
                    ensure!(
                        open.remove(&call.delivery),
                        "{} came twice, or was never published",
                        call.delivery
                    );
                    seen[index].insert(call.delivery);
                }
            }
        }
        Ok(())
    });
    shared.await.context("one receiver had nothing to do")?
}

async fn what_is_given_up_comes_to_another<B: Broker>(bench: &Bench<B>) -> Result<()> {
    let (dies, lives) = (bench.handle().await?, bench.handle().await?);
    let published = ids(40);
    dies.publish(published.clone());
    let held = all(&dies, &published).await?;
    drop(dies);
    // Its tickets are of no use any more, whenever they are dropped.
    let came = all(&lives, &published[..20]).await?;
    drop(held);
    let missing: Vec<_> = published.iter().filter(|id| !came.has(id)).cloned().collect();
    let late = all(&lives, &missing).await?;
    drop((came, late));
    lives.close().await;
    bench.is_empty().await
}

async fn what_is_settled_does_not_come_again<B: Broker>(bench: &Bench<B>) -> Result<()> {
    let handle = bench.handle().await?;
    let published = ids(300);
    handle.publish(published.clone());
    drop(all(&handle, &published).await?);
    handle.close().await;
    bench.is_empty().await
}

async fn closing_sends_what_waits<B: Broker>(bench: &Bench<B>) -> Result<()> {
    let (closes, receiver) = (bench.handle().await?, bench.handle().await?);
    let published = ids(1_000);
    closes.publish(published.clone());
    closes.close().await;
    ensure!(closes.forgotten() == 0, "{} forgotten", closes.forgotten());
    closes.publish(ids(3));
    ensure!(closes.forgotten() == 3, "a closed handle says that it sends");
    let mut seen = HashSet::new();
    timeout(PATIENCE, async {
        while !published.iter().all(|id| seen.contains(id)) {
            seen.extend(receiver.receive().await.into_iter().map(|call| call.delivery));
        }
    })
    .await?;
    Ok(())
}

async fn a_server_that_is_away_blocks_nobody<B: Broker>(bench: &Bench<B>) -> Result<()> {
    let cable = Cable::to(bench.broker.address()).await?;
    let (publisher, receiver) = (bench.handle_by(cable.address()).await?, bench.handle().await?);
    let before = ids(1);
    publisher.publish(before.clone());
    drop(all(&receiver, &before).await?);
    cable.becomes(Condition::Cut);
    let mut published = ids(1);
    publisher.publish(published.clone());
    says(&publisher, false).await?;
    let more = ids(limits::CALLS_WAITING + 50);
    published.extend(more.clone());
    publisher.publish(more);
    // Two that were published before wait as well, where they were on their way when the cable was cut.
    let forgotten = publisher.forgotten();
    ensure!((50..=52).contains(&forgotten), "{forgotten} forgotten");
    cable.becomes(Condition::Whole);
    let fits = &published[..limits::CALLS_WAITING - 1];
    let mut seen = HashSet::new();
    let came = timeout(PATIENCE, async {
        while !fits.iter().all(|id| seen.contains(id)) {
            seen.extend(receiver.receive().await.into_iter().map(|call| call.delivery));
        }
    });
    let in_time = came.await.is_ok();
    ensure!(in_time, "{} of {} came", seen.len(), fits.len());
    says(&publisher, true).await
}

async fn a_server_that_falls_silent_is_left_and_found_again<B: Broker>(bench: &Bench<B>) -> Result<()> {
    let cable = Cable::to(bench.broker.address()).await?;
    let handle = bench.handle_by(cable.address()).await?;
    let before = ids(5);
    handle.publish(before.clone());
    drop(all(&handle, &before).await?);
    cable.becomes(Condition::Silent);
    let meanwhile = ids(5);
    handle.publish(meanwhile.clone());
    says(&handle, false).await?;
    tokio::time::sleep(SOME_ATTEMPTS).await;
    ensure!(!handle.is_up(), "a silent server is up");
    cable.becomes(Condition::Whole);
    drop(all(&handle, &meanwhile).await?);
    says(&handle, true).await
}

async fn old_tickets_harm_no_new_connection<B: Broker>(bench: &Bench<B>) -> Result<()> {
    let cable = Cable::to(bench.broker.address()).await?;
    let (publisher, receiver) = (bench.handle().await?, bench.handle_by(cable.address()).await?);
    let old = ids(30);
    publisher.publish(old.clone());
    let tickets = all(&receiver, &old).await?;
    cable.becomes(Condition::Cut);
    says(&receiver, false).await?;
    cable.becomes(Condition::Whole);
    let new = ids(30);
    publisher.publish(new.clone());
    let held = all(&receiver, &new).await?;
    // Ways out and in come back one by one.
    says(&receiver, true).await?;
    drop(tickets);
    drop(held);
    let newest = ids(30);
    publisher.publish(newest.clone());
    drop(all(&receiver, &newest).await?);
    ensure!(receiver.is_up(), "the connection was lost again");
    receiver.close().await;
    // What the lost connection did not settle may have come again, or be there still.
    let mut rest = Held::default();
    while let Ok(calls) = timeout(NOTHING_MORE, publisher.receive()).await {
        rest.add(calls);
    }
    ensure!(rest.ids().is_subset(&old.into_iter().collect()), "more came again than was lost");
    drop(rest);
    publisher.close().await;
    bench.is_empty().await
}

async fn a_slow_receiver_holds_a_bounded_number<B: Broker>(bench: &Bench<B>) -> Result<()> {
    let (slow, other) = (bench.handle().await?, bench.handle().await?);
    let published = ids(limits::CALLS_HELD + 500);
    slow.publish(published.clone());
    let mut held = Held::default();
    while let Ok(calls) = timeout(NOTHING_MORE, slow.receive()).await {
        ensure!(calls.len() <= limits::CALLS, "{} calls at once", calls.len());
        held.add(calls);
    }
    let bounds = limits::CALLS_HELD - limits::CALLS..=limits::CALLS_HELD;
    ensure!(bounds.contains(&held.len()), "{} are held", held.len());
    let rest: Vec<_> = published.into_iter().filter(|id| !held.has(id)).collect();
    drop(all(&other, &rest).await?);
    other.close().await;
    // Room again.
    drop(held);
    let more = ids(10);
    slow.publish(more.clone());
    drop(all(&slow, &more).await?);
    slow.close().await;
    bench.is_empty().await
}

async fn foreign_messages_are_thrown_away<B: Broker>(bench: &Bench<B>) -> Result<()> {
    let handle = bench.handle().await?;
    let long = format!("dlv_{}", "a".repeat(100_000));
    for body in ["hello", "dlv_", "{\"id\": \"dlv_1\"}", "sub_1", &long] {
        bench.broker.post(&bench.queue, body).await?;
    }
    let published = ids(20);
    handle.publish(published.clone());
    let held = all(&handle, &published).await?;
    ensure!(held.len() == published.len(), "a foreign message became a call");
    drop(held);
    // They may come last, so they are waited for as well.
    tokio::select! {
        calls = handle.receive() => anyhow::bail!("{calls:?} came of a foreign message"),
        empty = bench.is_empty() => empty?,
    }
    handle.close().await;
    bench.is_empty().await
}

async fn a_refused_start_says_why<B: Broker>(bench: &Bench<B>) -> Result<()> {
    let silent = Cable::to(bench.broker.address()).await?;
    silent.becomes(Condition::Silent);
    let mut refusals = bench.broker.refusals(&bench.queue).await?;
    refusals.push((bench.broker.url(&bench.queue, silent.address()), "does not answer"));
    for (url, words) in refusals {
        let refused = timeout(PATIENCE, connect(&url)).await.context("a start that does not end")?;
        let error = refused.err().with_context(|| format!("{url} was taken"))?;
        let said = format!("{error:#}");
        ensure!(said.contains(words) && !said.contains("hush"), "{url}: {said:?} does not say {words:?}");
        ensure!(!said.contains('\n'), "{said:?} is more than one sentence");
    }
    Ok(())
}
