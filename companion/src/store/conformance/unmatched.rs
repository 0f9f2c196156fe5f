//! Counting unmatched shapes, bounded.

use super::*;

fn shape(method: &str, path: &str, count: u64, status: u16) -> Shape {
    Shape { method: method.into(), path: path.into(), count, status }
}

#[tokio::test]
async fn unmatched_shapes_are_summed_over_reports_and_restarts_until_forgotten() {
    for bench in Bench::all().await {
        let report =
            vec![shape("POST", "/a", 2, 200), shape("PUT", "/a", 3, 204), shape("POST", "/a", 5, 201)];
        bench.store.count_unmatched("one".into(), report, 9, at(0)).await.unwrap();
        bench.store.count_unmatched("two".into(), vec![shape("POST", "/a", 1, 200)], 9, at(1)).await.unwrap();
        let bench = bench.reopen().await;
        bench.store.count_unmatched("one".into(), vec![shape("PUT", "/a", 9, 200)], 9, at(2)).await.unwrap();
        let found = bench.store.unmatched(None, 9).await.unwrap();
        let shown: Vec<_> = found
            .iter()
            .map(|found| {
                (
                    &*found.source,
                    &*found.method,
                    found.place.count,
                    found.status,
                    found.first_at,
                    found.last_at,
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("one", "PUT", 12, 200, at(0), at(2)),
                ("one", "POST", 7, 201, at(0), at(0)),
                ("two", "POST", 1, 200, at(1), at(1))
            ]
        );
        let rest = bench.store.unmatched(Some(found[0].place), 1).await.unwrap();
        assert_eq!(rest, found[1..2]);
        bench.store.forget_unmatched().await.unwrap();
        assert!(bench.reopen().await.store.unmatched(None, 9).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_new_unmatched_shape_takes_the_place_of_the_least_recently_seen() {
    for bench in Bench::all().await {
        for (second, path) in ["/a", "/b", "/c", "/a", "/d"].into_iter().enumerate() {
            let report = vec![shape("POST", path, 1, 200)];
            bench.store.count_unmatched("one".into(), report, 3, at(second as i64)).await.unwrap();
        }
        let found = bench.store.unmatched(None, 9).await.unwrap();
        assert_eq!(found.iter().map(|found| &*found.path).collect::<Vec<_>>(), ["/a", "/c", "/d"]);
        let flood = (0..50).map(|number| shape("POST", &format!("/{number}"), 1, 200)).collect();
        bench.store.count_unmatched("one".into(), flood, 3, at(9)).await.unwrap();
        assert_eq!(bench.store.unmatched(None, 99).await.unwrap().len(), 3);
    }
}

#[tokio::test]
async fn an_unmatched_count_that_is_full_stays_a_number() {
    for bench in Bench::all().await {
        for count in [1, u64::MAX, u64::MAX] {
            let report = vec![shape("POST", "/a", count, 200)];
            bench.store.count_unmatched("one".into(), report, 9, at(0)).await.unwrap();
        }
        assert_eq!(bench.store.unmatched(None, 9).await.unwrap()[0].place.count, (1 << 53) - 1);
    }
}
