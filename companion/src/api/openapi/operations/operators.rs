//! Operations for operators and gateways alone, and those that need no token.

use super::super::Who::{Admin, Anybody, Ingest};
use super::super::{Operation, Parameter};
use super::{BLANK, KEY, LIMIT, PLACE, json, optional};

pub(super) const ALL: &[Operation] = &[
    Operation {
        path: "/v1/unmatched",
        id: "list_unmatched",
        summary: "Writes that no rule of a filter named, by the shape of their path, the most frequent first.",
        parameters: &[
            LIMIT,
            Parameter::query("cursor", "UnmatchedPlace", "`next_cursor` of the page before."),
        ],
        answer: (200, "UnmatchedPage"),
        ..BLANK
    },
    Operation {
        method: "post",
        path: "/v1/unmatched",
        id: "report_unmatched",
        summary: "Takes a filter's report of such writes.",
        who: Ingest,
        body: json("UnmatchedReport"),
        answer: (202, "UnmatchedReceipt"),
        ..BLANK
    },
    Operation {
        method: "delete",
        path: "/v1/unmatched",
        id: "forget_unmatched",
        summary: "Forgets them.",
        who: Admin,
        answer: (204, ""),
        ..BLANK
    },
    Operation {
        path: "/v1/signing-keys",
        id: "list_signing_keys",
        summary: "The companion's own Ed25519 keys, the current one first.",
        answer: (200, "SigningKeys"),
        ..BLANK
    },
    Operation {
        method: "post",
        path: "/v1/signing-keys/rotate",
        id: "rotate_signing_keys",
        summary: "Makes a new current key; the older ones sign along until their overlap ends.",
        who: Admin,
        body: optional("KeyRotation"),
        answer: (200, "SigningKeys"),
        faults: &[409],
        ..BLANK
    },
    Operation {
        path: "/v1/tokens",
        id: "list_tokens",
        summary: "All bearer tokens that were made, never the tokens themselves.",
        answer: (200, "TokenList"),
        ..BLANK
    },
    Operation {
        method: "post",
        path: "/v1/tokens",
        id: "create_token",
        summary: "Makes a token; the answer alone bears it.",
        who: Admin,
        parameters: &[KEY],
        body: json("TokenFields"),
        answer: (201, "Token"),
        faults: &[409],
    },
    Operation {
        method: "delete",
        path: "/v1/tokens/{id}",
        id: "delete_token",
        summary: "Takes a token back.",
        who: Admin,
        answer: (204, ""),
        ..BLANK
    },
    Operation {
        method: "post",
        path: "/v1/portal-links",
        id: "create_portal_link",
        summary: "Makes a link by which a tenant's people get into the portal; nothing of it is kept.",
        who: Admin,
        body: json("PortalLinkFields"),
        answer: (200, "PortalLink"),
        ..BLANK
    },
    Operation {
        method: "post",
        path: "/v1/erase",
        id: "erase",
        summary: "Forgets everything of a subject, or of a tenant.",
        who: Admin,
        body: json("Erasure"),
        answer: (200, "Erased"),
        faults: &[500],
        ..BLANK
    },
    Operation {
        path: "/v1/audit",
        id: "list_audit",
        summary: "Who changed what, newest first.",
        parameters: &[LIMIT, PLACE],
        answer: (200, "AuditPage"),
        ..BLANK
    },
    Operation {
        path: "/.well-known/jwks.json",
        id: "jwks",
        summary: "The companion's public keys as a JWK set.",
        who: Anybody,
        answer: (200, "Jwks"),
        ..BLANK
    },
    Operation {
        path: "/openapi.json",
        id: "openapi",
        summary: "This description.",
        who: Anybody,
        answer: (200, "Object"),
        ..BLANK
    },
    Operation {
        path: "/healthz",
        id: "health",
        summary: "Whether the process is there.",
        who: Anybody,
        answer: (200, "PlainText"),
        ..BLANK
    },
    Operation {
        path: "/readyz",
        id: "readiness",
        summary: "Whether the store answers.",
        who: Anybody,
        answer: (200, "PlainText"),
        faults: &[503],
        ..BLANK
    },
    Operation {
        path: "/metrics",
        id: "metrics",
        summary: "Metrics in OpenMetrics text.",
        who: Anybody,
        answer: (200, "OpenMetrics"),
        ..BLANK
    },
];
