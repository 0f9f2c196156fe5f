//! Every operation of the API, one line of facts each: what a caller may send, and what may come back.

use super::Who::{Admin, Ingest, Looks};
use super::{Body, Operation, Parameter};
use crate::model::{DeliveryStatus, ReplayStatus, SubscriptionStatus};

mod operators;

const LIMIT: Parameter = Parameter::query("limit", "Limit", "Rows of one page.");
const CURSOR: Parameter = Parameter::query("cursor", "Cursor", "`next_cursor` of the page before.");
const PLACE: Parameter = Parameter::query("cursor", "Place", "`next_cursor` of the page before.");
const TENANT: Parameter = Parameter::query("tenant", "Text", "Of this tenant.");
const TYPES: Parameter = Parameter::query("type", "Types", "Patterns of event types, separated by commas.");
const SUBJECT: Parameter = Parameter::query("subject", "Text", "Of this subject.");
const KEY: Parameter =
    Parameter::header("idempotency-key", "IdempotencyKey", "A repeat within 24 hours gets the same answer.");
const MATCH: Parameter = Parameter::header("if-match", "Text", "The `etag` that the change rests on.");

const fn json(schema: &'static str) -> Option<Body> {
    Some(Body { media_types: &["application/json"], schema, needed: true })
}

const fn optional(schema: &'static str) -> Option<Body> {
    Some(Body { media_types: &["application/json"], schema, needed: false })
}

/// An operation without parameters and body that answers 200; the table below says what differs.
const BLANK: Operation = Operation {
    method: "get",
    path: "",
    id: "",
    summary: "",
    who: Looks,
    parameters: &[],
    body: None,
    answer: (200, ""),
    faults: &[],
};

/// All operations.
pub(super) fn all() -> impl Iterator<Item = &'static Operation> {
    ALL.iter().chain(operators::ALL)
}

/// What has to do with subscriptions, events and deliveries.
const ALL: &[Operation] = &[
    Operation {
        path: "/v1/session",
        id: "read_session",
        summary: "As whom the caller is known.",
        answer: (200, "Session"),
        ..BLANK
    },
    Operation {
        path: "/v1/subscriptions",
        id: "list_subscriptions",
        summary: "A page of subscriptions, oldest first.",
        parameters: &[
            TENANT,
            Parameter::words("status", SubscriptionStatus::WORDS, "With this status."),
            LIMIT,
            CURSOR,
        ],
        answer: (200, "SubscriptionPage"),
        ..BLANK
    },
    Operation {
        method: "post",
        path: "/v1/subscriptions",
        id: "create_subscription",
        summary: "Makes a subscription; the answer alone bears its secret.",
        who: Admin,
        parameters: &[KEY],
        body: json("SubscriptionFields"),
        answer: (201, "Subscription"),
        faults: &[409],
    },
    Operation {
        path: "/v1/subscriptions/{id}",
        id: "read_subscription",
        summary: "One subscription.",
        answer: (200, "Subscription"),
        ..BLANK
    },
    Operation {
        method: "put",
        path: "/v1/subscriptions/{id}",
        id: "replace_subscription",
        summary: "Replaces what is the caller's to write; the secret stays where none is given.",
        who: Admin,
        parameters: &[MATCH],
        body: json("SubscriptionFields"),
        answer: (200, "Subscription"),
        faults: &[409, 412],
    },
    Operation {
        method: "patch",
        path: "/v1/subscriptions/{id}",
        id: "change_subscription",
        summary: "Changes what a merge patch (RFC 7396) names.",
        who: Admin,
        parameters: &[MATCH],
        body: Some(Body {
            media_types: &["application/merge-patch+json", "application/json"],
            schema: "SubscriptionPatch",
            needed: true,
        }),
        answer: (200, "Subscription"),
        faults: &[409, 412],
    },
    Operation {
        method: "delete",
        path: "/v1/subscriptions/{id}",
        id: "delete_subscription",
        summary: "Removes a subscription; what is pending for it is cancelled.",
        who: Admin,
        parameters: &[MATCH],
        answer: (204, ""),
        faults: &[409, 412],
        ..BLANK
    },
    Operation {
        method: "post",
        path: "/v1/subscriptions/{id}/rotate-secret",
        id: "rotate_secret",
        summary: "Makes a new secret; the old one signs too until its overlap ends.",
        who: Admin,
        parameters: &[MATCH],
        body: optional("Rotation"),
        answer: (200, "Subscription"),
        faults: &[409, 412],
    },
    Operation {
        method: "post",
        path: "/v1/subscriptions/{id}/ping",
        id: "ping_subscription",
        summary: "Sends a signed `gatehook.ping` now, whatever the status, and says how it went.",
        who: Admin,
        answer: (200, "Attempt"),
        ..BLANK
    },
    Operation {
        path: "/v1/subscriptions/{id}/retry-preview",
        id: "preview_retries",
        summary: "When the attempts of a delivery made now would run, were each answered with `status`.",
        parameters: &[
            Parameter::query("status", "HttpStatus", "What each attempt is answered with; 500 where absent."),
            Parameter::query("retry_after", "Seconds", "The answer's `retry-after`."),
        ],
        answer: (200, "RetryPreview"),
        ..BLANK
    },
    Operation {
        method: "post",
        path: "/v1/subscriptions/{id}/replay",
        id: "replay_events",
        summary: "Delivers past events that the subscription wants and has not had.",
        who: Admin,
        parameters: &[KEY],
        body: optional("ReplayFields"),
        answer: (202, "Replay"),
        faults: &[409],
    },
    Operation {
        method: "post",
        path: "/v1/subscriptions/{id}/recover",
        id: "recover_subscription",
        summary: "Tries the subscription's failed deliveries again.",
        who: Admin,
        parameters: &[KEY],
        body: optional("RecoveryFields"),
        answer: (202, "Replay"),
        faults: &[409],
    },
    Operation {
        path: "/v1/replays",
        id: "list_replays",
        summary: "A page of replays and recoveries, newest first.",
        parameters: &[
            Parameter::query("subscription", "Text", "Of this subscription."),
            Parameter::words("state", ReplayStatus::WORDS, "In this state."),
            LIMIT,
            CURSOR,
        ],
        answer: (200, "ReplayPage"),
        ..BLANK
    },
    Operation {
        path: "/v1/replays/{id}",
        id: "read_replay",
        summary: "One replay with its progress.",
        answer: (200, "Replay"),
        ..BLANK
    },
    Operation {
        method: "delete",
        path: "/v1/replays/{id}",
        id: "cancel_replay",
        summary: "Ends a replay; what it has made stays.",
        who: Admin,
        answer: (200, "Replay"),
        ..BLANK
    },
    Operation {
        path: "/v1/events",
        id: "list_events",
        summary: "A page of events, newest first to look at, oldest first to poll.",
        parameters: &[
            TYPES,
            SUBJECT,
            TENANT,
            Parameter::words("order", &["newest", "oldest"], "Which come first."),
            LIMIT,
            PLACE,
        ],
        answer: (200, "EventPage"),
        ..BLANK
    },
    Operation {
        method: "post",
        path: "/v1/events",
        id: "accept_events",
        summary: "Takes CloudEvents 1.0: batched, structured or binary; 202 once they are on disk.",
        who: Ingest,
        body: Some(Body {
            media_types: &["application/cloudevents-batch+json", "application/cloudevents+json"],
            schema: "CloudEvents",
            needed: true,
        }),
        answer: (202, "Receipt"),
        ..BLANK
    },
    Operation {
        path: "/v1/events/stream",
        id: "stream_events",
        summary: "Events as they are accepted, as Server-Sent Events; goes on after `last-event-id`.",
        parameters: &[
            TYPES,
            SUBJECT,
            TENANT,
            Parameter::query("after", "Place", "Begin after the event with this id; 0 is the oldest kept."),
            Parameter::header("last-event-id", "Place", "The id of the last event seen."),
        ],
        answer: (200, "EventStream"),
        ..BLANK
    },
    Operation {
        path: "/v1/events/{id}",
        id: "read_event",
        summary: "One event by its id.",
        parameters: &[Parameter::query("source", "Text", "Which one, where several sources have this id.")],
        answer: (200, "AcceptedEvent"),
        faults: &[409],
        ..BLANK
    },
    Operation {
        path: "/v1/event-types",
        id: "list_event_types",
        summary: "A page of the event types that are known, by name.",
        parameters: &[LIMIT, CURSOR],
        answer: (200, "EventTypePage"),
        ..BLANK
    },
    Operation {
        path: "/v1/event-types/{id}",
        id: "read_event_type",
        summary: "One event type: how often it came, a masked sample of its data, their schema.",
        answer: (200, "EventType"),
        ..BLANK
    },
    Operation {
        method: "patch",
        path: "/v1/event-types/{id}",
        id: "describe_event_type",
        summary: "Changes what is said of an event type (merge patch, RFC 7396).",
        who: Admin,
        body: Some(Body {
            media_types: &["application/merge-patch+json", "application/json"],
            schema: "EventTypePatch",
            needed: true,
        }),
        answer: (200, "EventType"),
        ..BLANK
    },
    Operation {
        method: "delete",
        path: "/v1/event-types/{id}",
        id: "forget_event_type",
        summary: "Forgets an event type; where it comes again it is learnt anew.",
        who: Admin,
        answer: (204, ""),
        ..BLANK
    },
    Operation {
        path: "/v1/catalogue/openapi.json",
        id: "export_openapi",
        summary: "The event types as webhooks of OpenAPI 3.1.",
        answer: (200, "Object"),
        ..BLANK
    },
    Operation {
        path: "/v1/catalogue/asyncapi.json",
        id: "export_asyncapi",
        summary: "The event types as messages of AsyncAPI 3.0.",
        answer: (200, "Object"),
        ..BLANK
    },
    Operation {
        path: "/v1/deliveries",
        id: "list_deliveries",
        summary: "A page of deliveries, newest first.",
        parameters: &[
            Parameter::query("subscription", "Text", "Of this subscription."),
            Parameter::words("status", DeliveryStatus::WORDS, "With this status."),
            Parameter::query("event", "Text", "Of events with this id."),
            Parameter::query("type", "Text", "Of this event type."),
            Parameter::query("from", "Time", "Made at this time or later."),
            Parameter::query("to", "Time", "Made before this time."),
            LIMIT,
            CURSOR,
        ],
        answer: (200, "DeliveryPage"),
        ..BLANK
    },
    Operation {
        method: "post",
        path: "/v1/deliveries/redeliver",
        id: "recover_deliveries",
        summary: "Tries all failed deliveries again that fit the query.",
        who: Admin,
        parameters: &[KEY],
        body: optional("RecoveryQuery"),
        answer: (202, "Replay"),
        faults: &[409],
    },
    Operation {
        path: "/v1/deliveries/{id}",
        id: "read_delivery",
        summary: "One delivery with its attempts.",
        answer: (200, "Delivery"),
        ..BLANK
    },
    Operation {
        path: "/v1/deliveries/{id}/request",
        id: "read_delivery_request",
        summary: "What an attempt would send now, signed; secrets are shown as `***`.",
        answer: (200, "DeliveryRequest"),
        faults: &[409],
        ..BLANK
    },
    Operation {
        method: "post",
        path: "/v1/deliveries/{id}/redeliver",
        id: "redeliver",
        summary: "Begins a new round of attempts, whatever the delivery's status; it keeps its id.",
        who: Admin,
        answer: (202, "Delivery"),
        faults: &[409],
        ..BLANK
    },
    Operation {
        path: "/v1/statistics",
        id: "read_statistics",
        summary: "Attempts, failures and durations over time, for charts.",
        parameters: &[
            Parameter::query("subscription", "Text", "Of this subscription."),
            Parameter::query("type", "Text", "Of this event type."),
            Parameter::query("from", "Time", "A day before `to` where absent."),
            Parameter::query("to", "Time", "Now where absent."),
            Parameter::query(
                "step",
                "Duration",
                "Whole minutes; where absent, so that there are at most 120 steps.",
            ),
            Parameter::words("group", &["subscription", "type"], "Sums the whole range up by these besides."),
        ],
        answer: (200, "Statistics"),
        faults: &[422],
        ..BLANK
    },
];
