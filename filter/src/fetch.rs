//! Events that wait for their representation to be read by GET.
//!
//! Pure: what to read next, and what an answer means for those that wait. Several writes of one resource that wait share
//! one GET, but never one that is under way already, for it may have seen the resource before the later write. The events
//! of one resource leave in the order of their writes, those that need no GET included. Everything is bounded.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use crate::config::Config;
use crate::draft::Draft;
use crate::event::Thin;
use crate::exchange::Media;
use crate::headers::Headers;

/// What to read, and with whose credentials; these leave Envoy's memory for nothing but this GET.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// The Envoy cluster.
    pub cluster: String,
    /// The `:authority`.
    pub authority: String,
    /// The `:path`, with its query.
    pub path: String,
    /// Headers of the caller's own request.
    pub headers: Headers,
}

/// An event that waits.
pub struct Waiting {
    /// The configuration under which it was observed.
    pub config: Rc<Config>,
    /// The event.
    pub draft: Draft<'static>,
    /// What it will bear; `None` for what the GET brings.
    pub data: Option<Result<Vec<u8>, Thin>>,
}

/// Names one GET.
pub type FetchNumber = u64;

/// All that wait, of one destination.
#[derive(Default)]
pub struct Fetches {
    waiting: VecDeque<Fetch>,
    in_flight: Vec<(FetchNumber, Duration, Fetch)>,
    next_number: FetchNumber,
    count: usize,
    bytes: usize,
}

struct Fetch {
    target: Target,
    timeout: Duration,
    events: Vec<Waiting>,
}

impl Fetch {
    fn is_of(&self, subject: &str) -> bool {
        self.events.iter().any(|waiting| waiting.draft.subject == subject)
    }
}

impl Fetches {
    /// Has an event wait for this GET; gives it back if too many wait.
    pub fn push(&mut self, waiting: Waiting, target: Target) -> Result<(), Box<Waiting>> {
        let (most, most_bytes) = (waiting.config.fetch.max_waiting, waiting.config.limits.outbox_bytes);
        if self.count >= most || self.bytes + size(&waiting) > most_bytes {
            return Err(Box::new(waiting));
        }
        self.account(&waiting);
        match self.waiting.iter_mut().find(|fetch| fetch.target == target) {
            Some(fetch) => fetch.events.push(waiting),
            None => {
                let timeout = waiting.config.fetch.timeout;
                self.waiting.push_back(Fetch { target, timeout, events: vec![waiting] });
            }
        }
        Ok(())
    }

    /// Has an event that needs no GET wait for earlier ones of its resource that do; gives it back if there are none.
    pub fn push_behind(&mut self, waiting: Waiting) -> Result<(), Box<Waiting>> {
        let subject = waiting.draft.subject.clone();
        let last = self.waiting.iter_mut().rev().find(|fetch| fetch.is_of(&subject));
        let under_way = self.in_flight.iter_mut().map(|(_, _, fetch)| fetch);
        let last = last.or_else(|| under_way.into_iter().find(|fetch| fetch.is_of(&subject)));
        let Some(fetch) = last else { return Err(Box::new(waiting)) };
        // These are bounded by the number of GETs that they follow and by memory alone, because they may not be dropped
        // for being late: whoever comes too late for the bound goes ahead.
        if self.bytes + size(&waiting) > waiting.config.limits.outbox_bytes {
            return Err(Box::new(waiting));
        }
        self.count += 1;
        self.bytes += size(&waiting);
        fetch.events.push(waiting);
        Ok(())
    }

    /// The next GET and its time limit, unless as many are under way as may be.
    pub fn take(&mut self, now: Duration, most: usize) -> Option<(FetchNumber, Target, Duration)> {
        if self.in_flight.len() >= most {
            return None;
        }
        // One at a time for a resource, so that its events leave in order.
        let busy = |fetch: &Fetch| {
            let subjects = fetch.events.iter().map(|waiting| &waiting.draft.subject);
            self.in_flight.iter().any(|(_, _, other)| subjects.clone().any(|subject| other.is_of(subject)))
        };
        let at = self.waiting.iter().position(|fetch| !busy(fetch))?;
        let fetch = self.waiting.remove(at)?;
        let (number, target, timeout) = (self.next_number, fetch.target.clone(), fetch.timeout);
        self.next_number += 1;
        self.in_flight.push((number, now, fetch));
        Some((number, target, timeout))
    }

    /// The events whose GET has ended, in the order of their writes.
    pub fn settle(&mut self, number: FetchNumber) -> Vec<Waiting> {
        let Some(at) = self.in_flight.iter().position(|(own, _, _)| *own == number) else {
            return Vec::new();
        };
        let (_, _, fetch) = self.in_flight.remove(at);
        self.count = self.count.saturating_sub(fetch.events.len());
        self.bytes = self.bytes.saturating_sub(fetch.events.iter().map(size).sum());
        fetch.events
    }

    /// GETs that are this much later than their time limit, whose answer will not come any more.
    pub fn overdue(&mut self, now: Duration, grace: Duration) -> Vec<FetchNumber> {
        for (_, since, _) in &mut self.in_flight {
            // The clock was set back: the wait starts anew.
            *since = (*since).min(now);
        }
        let late =
            |(_, since, fetch): &&(_, Duration, Fetch)| now.saturating_sub(*since) > fetch.timeout + grace;
        self.in_flight.iter().filter(late).map(|(number, _, _)| *number).collect()
    }

    /// Gives up everything, and says how many events that were.
    pub fn clear(&mut self) -> usize {
        let lost = self.count;
        *self = Self { next_number: self.next_number, ..Self::default() };
        lost
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// Whether earlier events of this subject wait.
    pub fn holds(&self, subject: &str) -> bool {
        let under_way = self.in_flight.iter().map(|(_, _, fetch)| fetch);
        self.waiting.iter().chain(under_way).any(|fetch| fetch.is_of(subject))
    }

    /// Whether something waits that is not under way.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn account(&mut self, waiting: &Waiting) {
        self.count += 1;
        self.bytes += size(waiting);
    }
}

fn size(waiting: &Waiting) -> usize {
    let data = waiting.data.as_ref().and_then(|data| data.as_ref().ok()).map_or(0, Vec::len);
    waiting.draft.size() + data
}

/// What the answer to a GET brings, from its headers and its size; `Ok` if its body is worth copying.
pub fn read_head(headers: &Headers, size: usize, max_body_bytes: usize) -> Result<(), Thin> {
    let status = headers.text(":status").and_then(|status| status.parse::<u16>().ok());
    let media = headers.get("content-type").map_or(Media::Unsaid, Media::of);
    match status {
        // Envoy reports a refused connection as 503 and a timeout as 504, and a reset without any header.
        None | Some(500..) => Err(Thin::FetchFailed),
        Some(200 | 203) if size == 0 => Err(Thin::Empty),
        Some(200 | 203) if size > max_body_bytes => Err(Thin::TooLarge),
        Some(200 | 203) if headers.get("content-encoding").is_some_and(|coding| coding != b"identity") => {
            Err(Thin::Encoded)
        }
        Some(200 | 203) if media == Media::Other => Err(Thin::NotJson),
        Some(200 | 203) => Ok(()),
        Some(_) => Err(Thin::FetchRefused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Source;

    fn waiting(subject: &str, id: &str) -> Waiting {
        let config = Rc::new(Config::parse(br#"{"fetch": {"max_waiting": 4}}"#).unwrap());
        let draft = Draft {
            source: Source::Automatic,
            id: id.to_owned(),
            event_type: "a.update".to_owned(),
            subject: subject.to_owned().into(),
            time: String::new(),
            request_id: None,
            traceparent: None,
            etag: None,
            tenant: None,
            actor: None,
            previous: None,
            deleted: false,
        };
        Waiting { config, draft, data: None }
    }

    fn target(path: &str, credentials: &str) -> Target {
        let headers = [("authorization", credentials)].into_iter().collect();
        Target { cluster: "api".into(), authority: "api".into(), path: path.into(), headers }
    }

    fn push(fetches: &mut Fetches, path: &str, credentials: &str, id: &str) {
        assert!(fetches.push(waiting(path, id), target(path, credentials)).is_ok());
    }

    fn settled(fetches: &mut Fetches, number: FetchNumber) -> Vec<String> {
        fetches.settle(number).into_iter().map(|waiting| waiting.draft.id).collect()
    }

    #[test]
    fn writes_that_wait_share_a_get_but_not_one_that_is_under_way() {
        let mut fetches = Fetches::default();
        push(&mut fetches, "/a/1", "x", "1");
        push(&mut fetches, "/a/1", "x", "2");
        push(&mut fetches, "/a/1", "y", "3");
        let (first, sent, _) = fetches.take(Duration::ZERO, 8).unwrap();
        assert!(sent == target("/a/1", "x"));
        push(&mut fetches, "/a/1", "x", "4");
        assert!(fetches.take(Duration::ZERO, 8).is_none(), "a resource is read once at a time");
        assert_eq!(settled(&mut fetches, first), ["1", "2"]);
        let (second, _, _) = fetches.take(Duration::ZERO, 8).unwrap();
        assert_eq!(settled(&mut fetches, second), ["3"]);
        let (third, _, _) = fetches.take(Duration::ZERO, 8).unwrap();
        assert_eq!(settled(&mut fetches, third), ["4"]);
        assert!(fetches.is_empty() && fetches.count == 0 && fetches.bytes == 0);
    }

    #[test]
    fn an_event_that_needs_no_get_stays_behind_those_of_its_resource_that_do() {
        let mut fetches = Fetches::default();
        push(&mut fetches, "/a/1", "x", "update");
        let deleted = || Waiting { data: Some(Ok(b"{}".to_vec())), ..waiting("/a/1", "delete") };
        assert!(fetches.push_behind(waiting("/a/2", "other")).is_err());
        assert!(fetches.push_behind(deleted()).is_ok());
        let (number, _, _) = fetches.take(Duration::ZERO, 1).unwrap();
        assert!(fetches.push_behind(deleted()).is_ok(), "behind one under way as well");
        assert_eq!(settled(&mut fetches, number), ["update", "delete", "delete"]);
        assert!(fetches.push_behind(deleted()).is_err());
    }

    #[test]
    fn number_and_concurrency_are_bounded() {
        let mut fetches = Fetches::default();
        for n in 0..4 {
            push(&mut fetches, &format!("/a/{n}"), "x", "1");
        }
        assert!(fetches.push(waiting("/a/9", "1"), target("/a/9", "x")).is_err());
        assert!(fetches.take(Duration::ZERO, 2).is_some() && fetches.take(Duration::ZERO, 2).is_some());
        assert!(fetches.take(Duration::ZERO, 2).is_none());
        assert_eq!(fetches.clear(), 4);
        assert!(fetches.is_empty());
    }

    #[test]
    fn a_get_without_an_answer_is_overdue_even_if_the_clock_steps_back() {
        let mut fetches = Fetches::default();
        push(&mut fetches, "/a/1", "x", "1");
        let seconds = Duration::from_secs;
        fetches.take(seconds(100), 1).unwrap();
        assert!(fetches.overdue(seconds(101), seconds(1)).is_empty());
        assert!(fetches.overdue(seconds(50), seconds(1)).is_empty());
        assert_eq!(fetches.overdue(seconds(54), seconds(1)), [0]);
    }

    #[test]
    fn only_a_whole_json_answer_is_a_representation() {
        let head = |status: &str, more: &[(&str, &str)]| -> Headers {
            let pairs = [(":status", status)];
            pairs.iter().chain(more).copied().collect()
        };
        let json = [("content-type", "application/json")];
        assert_eq!(read_head(&head("200", &json), 10, 10), Ok(()));
        assert_eq!(read_head(&head("200", &[]), 10, 10), Ok(()));
        assert_eq!(read_head(&head("200", &json), 11, 10), Err(Thin::TooLarge));
        assert_eq!(read_head(&head("200", &json), 0, 10), Err(Thin::Empty));
        assert_eq!(read_head(&head("200", &[("content-encoding", "gzip")]), 5, 10), Err(Thin::Encoded));
        assert_eq!(read_head(&head("200", &[("content-type", "text/html")]), 5, 10), Err(Thin::NotJson));
        for status in ["401", "404", "302", "204"] {
            assert_eq!(read_head(&head(status, &json), 5, 10), Err(Thin::FetchRefused), "{status}");
        }
        assert_eq!(read_head(&head("504", &json), 5, 10), Err(Thin::FetchFailed));
        assert_eq!(read_head(&Headers::new(), 0, 10), Err(Thin::FetchFailed));
    }
}
