//! Counts for charts: added up, summed up, pruned, and gone with their subscription.

use super::*;
use crate::statistics::{Counts, HOUR_S, Key, MINUTE_S, Row};

/// The beginning of an hour, and seconds after it.
fn hour(second: i64) -> Timestamp {
    Timestamp::from_second(1_699_999_200 + second).unwrap()
}

/// A row of a minute or an hour.
fn row(resolution_s: i64, second: i64, subscription: &str, event_type: &str, owner: i64, failed: i64) -> Row {
    let numbers = (0..24).map(|number| if number < 4 { 0 } else { number });
    let counts = Counts { attempts: failed + 1, delivered: 1, failed, exhausted: 1, ..Counts::of(numbers) };
    let (subscription, event_type) = (subscription.to_owned(), event_type.to_owned());
    Row { key: Key { resolution_s, at: hour(second), subscription, event_type, owner }, counts }
}

/// Rows of a minute and of its hour for each of `second, subscription, type, owner, failed`, and those of all together.
fn rows(of: &[(i64, &str, &str, i64, i64)]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (second, subscription, event_type, owner, failed) in of {
        let begin = second - second % HOUR_S;
        for (subscription, owner) in [(*subscription, *owner), ("", 0)] {
            rows.push(row(MINUTE_S, *second, subscription, event_type, owner, *failed));
            rows.push(row(HOUR_S, begin, subscription, event_type, owner, *failed));
        }
    }
    rows.sort_by(|one, other| one.key.cmp(&other.key));
    rows
}

fn query(to: i64, step_s: i64) -> ChartQuery {
    ChartQuery {
        from: hour(0),
        to: hour(to),
        step_s,
        subscriptions: None,
        owner: None,
        event_type: None,
        group: None,
        most_groups: 9,
        most_rows: 99,
    }
}

impl Bench {
    /// Adds rows one at a time, as keys that are the same are not to be in one call.
    async fn add(&self, of: &[(i64, &str, &str, i64, i64)]) {
        for of in of {
            self.store.add_statistics(rows(&[*of])).await.unwrap();
        }
    }

    /// Seconds and attempts of a chart's steps, keys and attempts of its groups.
    async fn chart(&self, query: ChartQuery) -> (Vec<(i64, i64)>, Vec<(String, i64)>) {
        let chart = self.store.statistics(query).await.unwrap().unwrap();
        let second = |at: Timestamp| at.as_second() - hour(0).as_second();
        let steps = chart.steps.iter().map(|(at, counts)| (second(*at), counts.attempts));
        let groups = chart.groups.into_iter().map(|(key, counts)| (key, counts.attempts));
        (steps.collect(), groups.collect())
    }
}

async fn with_subscriptions(bench: &Bench) {
    for name in ["a", "b", "c"] {
        bench.store.create_subscription(subscription(name), Note::default()).await.unwrap();
    }
    bench
        .add(&[(0, "a", "x", 7, 0), (60, "a", "y", 7, 1), (60, "b", "x", 8, 2), (3_600, "a", "x", 9, 3)])
        .await;
}

#[tokio::test]
async fn counts_add_up_over_processes_and_restarts() {
    for bench in Bench::all().await {
        with_subscriptions(&bench).await;
        let bench = bench.reopen().await;
        bench.add(&[(0, "a", "x", 7, 5)]).await;
        let only_a = ChartQuery { subscriptions: Some(vec![sub("a")]), ..query(60, MINUTE_S) };
        let chart = bench.store.statistics(only_a).await.unwrap().unwrap();
        let (mut expected, more) = (row(0, 0, "", "", 0, 0).counts, row(0, 0, "", "", 0, 5).counts);
        expected.add(&more);
        assert_eq!(chart, Chart { steps: vec![(hour(0), expected)], groups: Vec::new() });
        bench.store.add_statistics(Vec::new()).await.unwrap();
    }
}

#[tokio::test]
async fn a_chart_sums_up_by_steps_and_groups_what_is_asked_for() {
    for bench in Bench::all().await {
        with_subscriptions(&bench).await;
        let all = [(0, 1), (60, 5), (3_600, 4)];
        assert_eq!(bench.chart(query(7_200, MINUTE_S)).await.0, all);
        assert_eq!(bench.chart(query(7_200, 300)).await.0, [(0, 6), (3_600, 4)]);
        assert_eq!(bench.chart(query(7_200, HOUR_S)).await.0, [(0, 6), (3_600, 4)]);
        assert_eq!(bench.chart(query(3_600, HOUR_S)).await.0, [(0, 6)], "its end is not part of it");
        let later = ChartQuery { from: hour(3_600), ..query(7_200, HOUR_S) };
        assert_eq!(bench.chart(later).await.0, [(3_600, 4)]);
        let by_subscription = ChartQuery { group: Some(Group::Subscription), ..query(7_200, HOUR_S) };
        let expected = ([(0, 6), (3_600, 4)].to_vec(), [("a".to_owned(), 7), ("b".to_owned(), 3)].to_vec());
        assert_eq!(bench.chart(by_subscription.clone()).await, expected);
        let one = ChartQuery { most_groups: 1, ..by_subscription };
        assert_eq!(bench.chart(one).await.1, [("a".to_owned(), 7)]);
        let by_type = ChartQuery { group: Some(Group::EventType), ..query(7_200, MINUTE_S) };
        assert_eq!(bench.chart(by_type.clone()).await.1, [("x".to_owned(), 8), ("y".to_owned(), 2)]);
        let of_b = ChartQuery { subscriptions: Some(vec![sub("b")]), ..by_type };
        assert_eq!(bench.chart(of_b).await, (vec![(60, 3)], vec![("x".to_owned(), 3)]));
        let of_type = ChartQuery { event_type: Some("y".into()), ..query(7_200, MINUTE_S) };
        assert_eq!(bench.chart(of_type).await.0, [(60, 2)]);
        let nothing = ChartQuery { event_type: Some("\0".into()), ..query(7_200, MINUTE_S) };
        assert_eq!(bench.chart(nothing).await, Default::default());
        let nobody = ChartQuery { subscriptions: Some(vec![sub("\0"), sub("no")]), ..query(7_200, MINUTE_S) };
        assert_eq!(bench.chart(nobody).await, Default::default());
    }
}

#[tokio::test]
async fn an_owner_sees_what_was_counted_while_a_subscription_was_its_own() {
    for bench in Bench::all().await {
        with_subscriptions(&bench).await;
        let own = |owner, names: &[&str]| ChartQuery {
            subscriptions: Some(names.iter().map(|name| sub(name)).collect()),
            owner: Some(owner),
            group: Some(Group::Subscription),
            ..query(7_200, MINUTE_S)
        };
        // It went from 7 to 9.
        assert_eq!(bench.chart(own(9, &["a"])).await, (vec![(3_600, 4)], vec![("a".to_owned(), 4)]));
        assert_eq!(bench.chart(own(7, &["a", "b"])).await.0, [(0, 1), (60, 2)]);
        assert_eq!(bench.chart(own(7, &[])).await, Default::default());
    }
}

#[tokio::test]
async fn a_chart_that_takes_too_much_reading_is_refused() {
    for bench in Bench::all().await {
        with_subscriptions(&bench).await;
        for (most_rows, group, drawn) in [
            (3, None, false),
            (4, None, true),
            (3, Some(Group::Subscription), false),
            (4, Some(Group::Subscription), true),
        ] {
            let query = ChartQuery { most_rows, group, ..query(7_200, MINUTE_S) };
            assert_eq!(bench.store.statistics(query).await.unwrap().is_some(), drawn, "{most_rows}");
        }
    }
}

#[tokio::test]
async fn counts_are_pruned_in_chunks_minutes_before_hours() {
    for bench in Bench::all().await {
        with_subscriptions(&bench).await;
        assert_eq!(bench.store.prune_statistics(hour(0), hour(0), 99).await.unwrap(), 0);
        let mut chunks = Vec::new();
        while chunks.last() != Some(&0) {
            chunks.push(bench.store.prune_statistics(hour(3_600), hour(0), 4).await.unwrap());
        }
        assert_eq!(chunks, [4, 2, 0]);
        assert_eq!(bench.chart(query(7_200, MINUTE_S)).await.0, [(3_600, 4)]);
        assert_eq!(bench.chart(query(7_200, HOUR_S)).await.0, [(0, 6), (3_600, 4)]);
        bench.store.prune_statistics(hour(9_000), hour(3_600), 99).await.unwrap();
        assert_eq!(bench.chart(query(7_200, MINUTE_S)).await.0, []);
        assert_eq!(bench.chart(query(7_200, HOUR_S)).await.0, [(3_600, 4)]);
    }
}

#[tokio::test]
async fn counts_go_with_a_subscription_that_is_erased_and_stay_with_one_that_is_deleted() {
    for bench in Bench::all().await {
        with_subscriptions(&bench).await;
        bench.store.delete_subscription(sub("b"), Note::default()).await.unwrap();
        let mut chunks = 1;
        while bench.store.erase_subscription(sub("a"), 2).await.unwrap().next.is_some() {
            chunks += 1;
        }
        assert_eq!(chunks, 4, "six rows, two at a time");
        // What comes late is of nobody any more.
        bench.add(&[(60, "a", "x", 7, 1), (60, "b", "x", 7, 1)]).await;
        let groups = ChartQuery { group: Some(Group::Subscription), ..query(7_200, MINUTE_S) };
        assert_eq!(bench.chart(groups).await.1, [("b".to_owned(), 3)]);
    }
}
