//! What callers send and what the API answers.

use harness::load;

/// Bytes of an answer.
pub(crate) const ANSWER: usize = 1_024;

/// What a caller's client commonly sends besides its business.
const HEADERS: &str = "accept: application/json\r\naccept-encoding: gzip, deflate, br\r\nuser-agent: bench/1.0\r\n\
                       authorization: Bearer 0123456789abcdef0123456789abcdef\r\n\
                       traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";

/// A kind of request, and its answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// POST, 201 with a representation.
    Create,
    /// PUT, 200 with a representation.
    Update,
    /// PUT, 204.
    Silent,
    /// GET, 200 with a representation.
    Read,
}

impl Traffic {
    pub(crate) fn request(self, number: usize) -> Vec<u8> {
        let headers = format!("{HEADERS}content-type: application/json\r\n");
        let body = format!(r#"{{"name":"Ada Lovelace","number":{number}}}"#);
        let put = |path: &str| {
            let text = load::post(path, &headers, &body);
            [b"PUT".as_slice(), text.get(4..).unwrap_or_default()].concat()
        };
        match self {
            Self::Create => load::post("/v1/contacts", &headers, &body),
            Self::Update => put(&format!("/v1/contacts/{number}")),
            Self::Silent => put(&format!("/v1/notes/{number}")),
            Self::Read => load::get("/v1/contacts/7", HEADERS),
        }
    }
}

/// What the API answers: 201 to a POST, 200 to all else, with a representation; 204 to the PUT of a note.
pub(crate) fn answer(request: &[u8]) -> Vec<u8> {
    if request.starts_with(b"PUT /v1/notes/") {
        return b"HTTP/1.1 204 No Content\r\nserver: bench\r\n\r\n".to_vec();
    }
    let status = if request.starts_with(b"POST") { "201 Created" } else { "200 OK" };
    let start = r#"{"id":"cus_9s6XKzkNRiz8i3","name":"Ada Lovelace","email":"ada@example.com","tags":["new"],"note":""#;
    let note = "x".repeat(ANSWER - start.len() - 2);
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json; charset=utf-8\r\ndate: Mon, 23 Nov 2026 12:00:00 GMT\r\n\
         etag: \"33a64df5\"\r\ncache-control: no-store\r\nserver: bench\r\ncontent-length: {ANSWER}\r\n\r\n{start}{note}\"}}"
    )
    .into_bytes()
}
