//! `GET /v1/events/stream`: events as they are accepted, as Server-Sent Events (WHATWG HTML §9.2).
//!
//! Read from the store a small page at a time, so a slow reader holds no more than that in memory, and one that comes back
//! with `Last-Event-ID` gets what it missed, each event once. A wake-up of ingest makes it quick, a poll behind it
//! makes it sure: nothing depends on the wake-up.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::super::Api;
use super::super::error::Problem;
use super::super::request::{Params, place};
use super::{Wanted, representation};
use crate::feed::Watch;
use crate::limits;
use crate::store::{AcceptedEvent, EventQuery};

/// Parameters of the stream.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct StreamParams {
    #[serde(rename = "type")]
    event_type: Option<String>,
    subject: Option<String>,
    tenant: Option<String>,
    after: Option<u64>,
}

/// One reader.
struct Reader {
    api: Arc<Api>,
    wanted: Wanted,
    /// It has been sent what it wants up to here.
    position: i64,
    page: VecDeque<AcceptedEvent>,
    watch: Watch,
    /// A token that was taken back reads no further than this.
    ends: Instant,
    _permit: OwnedSemaphorePermit,
}

/// Follows events: after the one that `Last-Event-ID` or `after` names, else from now on.
pub(in crate::api) async fn stream(
    State(api): State<Arc<Api>>,
    Params(params): Params<StreamParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wanted = Wanted::read(params.event_type.as_deref(), params.subject, params.tenant)?;
    let permit = api.feed.room().ok_or_else(|| {
        Problem::busy(&format!("{} streams are open, which is all that are allowed", limits::STREAMS))
    })?;
    let watch = api.feed.watch();
    let position = match headers.get("last-event-id") {
        Some(id) => {
            let id = id.to_str().ok().and_then(|id| id.trim().parse().ok()).map(place);
            id.ok_or_else(|| {
                Problem::malformed("last-event-id", "must be the id of an event of this stream")
            })?
        }
        None => match params.after {
            Some(after) => place(after),
            None => newest(&api).await?,
        },
    };
    let reader = Reader {
        api,
        wanted,
        position,
        page: VecDeque::new(),
        watch,
        ends: Instant::now() + limits::STREAM,
        _permit: permit,
    };
    let messages = stream::unfold(reader, |mut reader| async {
        let message = reader.next().await?;
        Some((Ok::<_, Infallible>(message), reader))
    });
    Ok(Sse::new(messages).keep_alive(KeepAlive::new().interval(limits::STREAM_KEEP_ALIVE)).into_response())
}

/// Place of the newest event.
async fn newest(api: &Api) -> Result<i64, Problem> {
    let newest = api.store.events(EventQuery { limit: 1, ..EventQuery::default() }).await?;
    Ok(newest.first().map_or(0, |accepted| accepted.seq))
}

impl Reader {
    /// The next message; `None` where the companion stops, or the stream's hour is over.
    async fn next(&mut self) -> Option<Message> {
        while Instant::now() < self.ends {
            while let Some(accepted) = self.page.pop_front() {
                self.position = accepted.seq;
                if self.wanted.includes(&accepted.event)
                    && let Some(message) = message(&accepted)
                {
                    return Some(message);
                }
            }
            let query = EventQuery {
                cursor: Some(self.position),
                oldest_first: true,
                limit: limits::STREAM_PAGE,
                ..EventQuery::default()
            };
            match self.api.store.events(query).await {
                Ok(page) if !page.is_empty() => self.page = page.into(),
                Ok(_) => self.watch.fresh().await?,
                Err(error) => {
                    // The reader waits, and goes on where it was.
                    self.api.metrics.store_errors.inc();
                    tracing::error!(error = format!("{error:#?}"), "a stream waits for the store");
                    self.watch.pause().await?;
                }
            }
        }
        None
    }
}

/// An event as a message. A carriage return in JSON is white space, and the one character that a message cannot carry.
fn message(accepted: &AcceptedEvent) -> Option<Message> {
    let json = serde_json::to_string(&representation(accepted).ok()?).ok()?;
    let json = json.replace("\r\n", "\n").replace('\r', "\n");
    // A type has no line break: that was checked when it was accepted.
    Some(Message::default().id(accepted.seq.to_string()).event(&accepted.event.event_type).data(json))
}
