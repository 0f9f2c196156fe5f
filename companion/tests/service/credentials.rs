//! How deliveries authenticate, seen from the other end: raw bytes, TLS handshakes, a token endpoint.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use companion::credentials::Credentials;
use companion::model::{Outcome, SubscriptionId};
use companion::payload::Body;
use companion::sender::{Access, Parcel, Sender};
use companion::target::{Guard, Resolver};
use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::client::{Companion, Receiver};

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn later(seconds: i64) -> Timestamp {
    start() + SignedDuration::from_secs(seconds)
}

fn guard() -> Guard {
    Guard::new(&["127.0.0.1/32".parse().unwrap()])
}

fn read(fields: &Value) -> Credentials {
    Credentials::parse(fields.as_object().unwrap(), None, start()).unwrap()
}

/// A subscription's credentials, ready to send with.
struct Subscriber {
    sender: Sender,
    credentials: Credentials,
    access: Option<Arc<Access>>,
}

impl Subscriber {
    fn new(sender: &Sender, name: &str, fields: &Value) -> Self {
        let credentials = read(fields);
        let access = Access::of(&SubscriptionId(name.into()), 1, &credentials);
        Self { sender: sender.clone(), credentials, access }
    }

    async fn send(&self, target: &str, now: Timestamp) -> Outcome {
        let parcel = Parcel {
            target: target.parse().unwrap(),
            id: "dlv_1".into(),
            timestamp_s: now.as_second(),
            signature: "v1,sig".into(),
            traceparent: None,
            body: Body {
                media_type: Some(HeaderValue::from_static("application/json")),
                bytes: Bytes::from_static(b"{}"),
            },
            headers: self.credentials.headers(),
            access: self.access.clone(),
            of_tenant: false,
        };
        self.sender.send(parcel, now).await.0
    }
}

/// Reads one request with a body of two bytes; `None` where the connection ended.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n{}") {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(String::from_utf8(bytes).unwrap())
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

#[tokio::test]
async fn every_header_is_one_line_of_one_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("http://{}/hook", listener.local_addr().unwrap());
    let sender = Sender::new(guard()).unwrap();
    let subscriber = Subscriber::new(
        &sender,
        "a",
        &json!({
            "headers": {"X-Api-Key": "a: b, c\t\"d\" \\r\\n %0d%0aHost: evil", "User-Agent": "Acme"},
            "auth": {"type": "basic", "username": "me", "password": "p:w"},
        }),
    );
    let sent = tokio::spawn(async move { subscriber.send(&target, start()).await });
    let (mut stream, address) = listener.accept().await.unwrap();
    let text = request(&mut stream).await.unwrap();
    stream.write_all(OK).await.unwrap();
    assert_eq!(sent.await.unwrap().status(), Some(200));
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.split("\r\n").collect();
    lines.sort_unstable();
    let host = format!("host: {}", listener.local_addr().unwrap());
    let mut expected = [
        "POST /hook HTTP/1.1",
        "authorization: Basic bWU6cDp3",
        "content-length: 2",
        "content-type: application/json",
        &host,
        "user-agent: Acme",
        "webhook-id: dlv_1",
        "webhook-signature: v1,sig",
        "webhook-timestamp: 1767225600",
        "x-api-key: a: b, c\t\"d\" \\r\\n %0d%0aHost: evil",
    ];
    expected.sort_unstable();
    assert_eq!((lines.as_slice(), body), (&expected[..], "{}"), "from {address}");
}

/// A certificate authority for one test.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn root(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        (CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap(), key)
    }

    fn client(&self, name: &str) -> Value {
        let (certificate, key) = self.issue(name);
        json!({"client_certificate": {"certificate": certificate.pem(), "private_key": key.serialize_pem()}})
    }

    /// A receiver on the loopback that asks for certificates of this authority. For each request it tells the address
    /// that called and the certificate that was shown.
    async fn receiver(&self) -> (String, mpsc::UnboundedReceiver<(SocketAddr, CertificateDer<'static>)>) {
        let mut roots = RootCertStore::empty();
        roots.add(self.root()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
        let (certificate, key) = self.issue("127.0.0.1");
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("https://{}/hook", listener.local_addr().unwrap());
        let (tell, told) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (stream, address) = listener.accept().await.unwrap();
                let (acceptor, tell) = (acceptor.clone(), tell.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    while request(&mut stream).await.is_some() {
                        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
                        let _ = tell.send((address, shown.into_owned()));
                        stream.write_all(OK).await.unwrap();
                    }
                });
            }
        });
        (target, told)
    }
}

#[tokio::test]
async fn each_subscription_shows_its_own_certificate_on_its_own_connections() {
    let authority = Authority::new();
    let (target, mut told) = authority.receiver().await;
    let sender = Sender::trusting(guard(), &[authority.root()]).unwrap();
    let (a, b) = (authority.client("a"), authority.client("b"));
    let subscribers = [Subscriber::new(&sender, "a", &a), Subscriber::new(&sender, "b", &b)];
    let mut seen = Vec::new();
    for index in [0, 1, 0, 1] {
        assert_eq!(subscribers[index].send(&target, start()).await.status(), Some(200));
        seen.push(told.recv().await.unwrap());
    }
    assert_ne!(seen[0].1, seen[1].1, "two certificates");
    assert_ne!(seen[0].0, seen[1].0, "two connections");
    assert_eq!((&seen[0], &seen[1]), (&seen[2], &seen[3]), "each used again by its own");
    let same_certificate = Subscriber::new(&sender, "c", &a);
    assert_eq!(same_certificate.send(&target, start()).await.status(), Some(200));
    let (address, certificate) = told.recv().await.unwrap();
    assert_eq!(certificate, seen[0].1);
    assert!(
        address != seen[0].0 && address != seen[1].0,
        "not shared even where the certificate is the same"
    );
    let none = Subscriber::new(&sender, "d", &json!({}));
    assert_eq!(none.send(&target, start()).await.word(), "unreachable");
    let stranger = Subscriber::new(&sender, "e", &Authority::new().client("e"));
    assert_eq!(stranger.send(&target, start()).await.word(), "unreachable");
    assert!(told.try_recv().is_err());
}

#[tokio::test]
async fn a_private_authority_is_trusted_where_that_is_set() {
    let authority = Authority::new();
    let (target, mut told) = authority.receiver().await;
    let client = authority.client("a");
    let strict = Sender::new(guard()).unwrap();
    let outcome = Subscriber::new(&strict, "a", &client).send(&target, start()).await;
    assert!(outcome.error().is_some_and(|why| why.contains("UnknownIssuer")), "{outcome:?}");
    assert!(told.try_recv().is_err());
    let trusting = Sender::trusting(guard(), &[authority.root()]).unwrap();
    assert_eq!(Subscriber::new(&trusting, "a", &client).send(&target, start()).await.status(), Some(200));
}

/// A server whose answers a test makes; it keeps what it was asked.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<(HeaderMap, String)>>>,
}

type Answers = dyn Fn(usize, &HeaderMap) -> Response + Send + Sync;

#[derive(Clone)]
struct Script(Arc<Answers>, Arc<Mutex<Vec<(HeaderMap, String)>>>);

impl Server {
    /// `answers` gets the number of the request, from 1, and its headers.
    async fn start(answers: impl Fn(usize, &HeaderMap) -> Response + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(Script(Arc::new(answers), asked.clone()));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<(HeaderMap, String)> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(State(script): State<Script>, _: Uri, headers: HeaderMap, body: String) -> Response {
    let mut asked = script.1.lock().unwrap();
    asked.push((headers, body));
    (script.0)(asked.len(), &asked[asked.len() - 1].0)
}

/// A token endpoint that grants `t1`, `t2`, …, each for an hour.
async fn endpoint() -> Server {
    Server::start(|number, _| {
        let granted =
            json!({"access_token": format!("t{number}"), "token_type": "Bearer", "expires_in": 3600});
        granted.to_string().into_response()
    })
    .await
}

fn oauth2(token_url: &str, more: &Value) -> Value {
    let mut auth = json!({
        "type": "oauth2", "token_url": token_url, "client_id": "me:1", "client_secret": "hush hush", "scope": "a b",
    });
    auth.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "auth": auth })
}

fn sent_tokens(receiver: &Server) -> Vec<String> {
    let text = |headers: &HeaderMap| headers["authorization"].to_str().unwrap().to_owned();
    receiver.asked().iter().map(|(headers, _)| text(headers)).collect()
}

#[tokio::test]
async fn a_token_is_fetched_once_and_until_a_minute_before_it_ends() {
    let (endpoint, receiver) = (endpoint().await, Server::start(|_, _| StatusCode::OK.into_response()).await);
    let sender = Sender::new(guard()).unwrap();
    let subscriber = Subscriber::new(&sender, "a", &oauth2(&endpoint.url, &json!({})));
    let (a, b, c) = tokio::join!(
        subscriber.send(&receiver.url, start()),
        subscriber.send(&receiver.url, start()),
        subscriber.send(&receiver.url, later(3539)),
    );
    assert!([a, b, c].iter().all(|outcome| outcome.status() == Some(200)));
    assert_eq!(sent_tokens(&receiver), ["Bearer t1", "Bearer t1", "Bearer t1"]);
    let (headers, form) = endpoint.asked().remove(0);
    assert_eq!(form, "grant_type=client_credentials&scope=a+b");
    assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(headers["authorization"], "Basic bWUlM0ExOmh1c2graHVzaA==", "me%3A1:hush+hush");
    subscriber.send(&receiver.url, later(3540)).await;
    assert_eq!((endpoint.asked().len(), sent_tokens(&receiver)[3].as_str()), (2, "Bearer t2"));
    let body = oauth2(&endpoint.url, &json!({"client_authentication": "body", "audience": "https://x/"}));
    Subscriber::new(&sender, "b", &body).send(&receiver.url, start()).await;
    let (headers, form) = endpoint.asked().remove(2);
    assert!(headers.get("authorization").is_none());
    assert_eq!(
        form,
        "grant_type=client_credentials&scope=a+b&audience=https%3A%2F%2Fx%2F&client_id=me%3A1&client_secret=hush+hush"
    );
}

#[tokio::test]
async fn a_token_that_the_receiver_refuses_is_replaced_once() {
    let endpoint = endpoint().await;
    let receiver = Server::start(|_, _| StatusCode::UNAUTHORIZED.into_response()).await;
    let subscriber = Subscriber::new(&Sender::new(guard()).unwrap(), "a", &oauth2(&endpoint.url, &json!({})));
    for second in 0..5 {
        assert_eq!(subscriber.send(&receiver.url, later(second)).await.status(), Some(401));
    }
    assert_eq!(sent_tokens(&receiver), ["Bearer t1", "Bearer t2", "Bearer t2", "Bearer t2", "Bearer t2"]);
    subscriber.send(&receiver.url, later(4000)).await;
    subscriber.send(&receiver.url, later(4001)).await;
    subscriber.send(&receiver.url, later(4002)).await;
    assert_eq!(sent_tokens(&receiver)[5..], ["Bearer t3", "Bearer t4", "Bearer t4"]);
}

/// Names that were vetted as public, and lead into the private network now.
#[derive(Debug)]
struct Private;

#[async_trait]
impl Resolver for Private {
    async fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec!["10.0.0.1".parse().unwrap()])
    }
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_the_attempt_says_why() {
    let receiver = Server::start(|_, _| StatusCode::OK.into_response()).await;
    let endpoint = Server::start({
        let elsewhere = receiver.url.clone();
        move |number, _| match number {
            1 => {
                (StatusCode::UNAUTHORIZED, r#"{"error":"invalid_client","hint":"hush hush"}"#).into_response()
            }
            2 => (StatusCode::TEMPORARY_REDIRECT, [("location", elsewhere.clone())]).into_response(),
            3 => vec![b' '; 100_000].into_response(),
            4 => "hush hush".into_response(),
            _ => r#"{"access_token":"t"}"#.into_response(),
        }
    })
    .await;
    let sender = Sender::new(guard()).unwrap();
    let subscriber = Subscriber::new(&sender, "a", &oauth2(&endpoint.url, &json!({})));
    for (second, expected) in [
        (0, "the token endpoint answered 401 invalid_client"),
        (1, "the token endpoint answered 401 invalid_client"), // not asked again so soon
        (2, "the token endpoint answered 307"),
        (4, "the token endpoint's answer broke off or is too long"),
        (6, "the token endpoint's answer has no access_token, or is not JSON"),
    ] {
        let outcome = subscriber.send(&receiver.url, later(second)).await;
        assert_eq!(outcome, Outcome::Unreachable(format!("no access token: {expected}")));
    }
    assert_eq!((endpoint.asked().len(), receiver.asked().len()), (4, 0));
    assert_eq!(subscriber.send(&receiver.url, later(8)).await.status(), Some(200));
    let sender =
        Sender::new(Guard::resolving(&["127.0.0.1/32".parse().unwrap()], Arc::new(Private))).unwrap();
    for url in ["http://127.0.0.2/", "http://169.254.169.254/", "http://id.example/", "file:///etc/passwd"] {
        let outcome =
            Subscriber::new(&sender, "b", &oauth2(url, &json!({}))).send(&receiver.url, start()).await;
        let why = outcome.error().unwrap();
        assert!(why.starts_with("no access token: "), "{why}");
        assert!(why.contains("may not call") || why.contains("only http and https"), "{why}");
    }
}

#[tokio::test]
async fn credentials_are_used_hidden_kept_and_never_taken_along_to_another_host() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    let fields = json!({"target_url": receiver.url, "events": ["*"], "headers": {"X-Api-Key": "k3y"},
                        "auth": {"type": "basic", "username": "ada", "password": "pa55"}});
    let made = companion.admin("POST", "/v1/subscriptions", &fields.to_string()).await;
    assert_eq!(made.json["headers"], json!({"x-api-key": "***"}));
    assert_eq!(made.json["auth"], json!({"type": "basic", "username": "ada", "password": "***"}));
    let path = made.headers["location"].to_str().unwrap().to_owned();
    let shown = companion.admin("GET", &path, "").await.json;
    let put = companion.admin("PUT", &path, &shown.to_string()).await;
    assert_eq!(put.status, 200, "{}", put.json);
    let companion = companion.restart().await;
    companion.contact_created("1").await;
    let (headers, _) = receiver.received(1).await.remove(0);
    assert_eq!(
        (&headers["x-api-key"], &headers["authorization"]),
        (&"k3y".parse().unwrap(), &"Basic YWRhOnBhNTU=".parse::<HeaderValue>().unwrap())
    );
    assert_eq!(companion.traces("k3y") + companion.traces("pa55"), 0, "they are sealed on disk");

    let other = Receiver::start(&[200]).await;
    let moved = companion.admin("PATCH", &path, &json!({"target_url": other.url}).to_string()).await;
    assert_eq!((moved.status, moved.faults()), (422, vec!["/auth/password", "/headers/x-api-key"]));
    let again = json!({"target_url": other.url, "headers": null, "auth": {"type": "bearer", "token": "t0k"}});
    // A merge patch keeps what it does not name, so what the other type had must be taken away.
    let again = companion
        .admin(
            "PATCH",
            &path,
            &again.to_string().replace("\"t0k\"", "\"t0k\",\"username\":null,\"password\":null"),
        )
        .await;
    assert_eq!(again.status, 200, "{}", again.json);
    companion.contact_created("2").await;
    let (headers, _) = other.received(1).await.remove(0);
    assert_eq!(headers["authorization"], "Bearer t0k");
    assert!(!headers.contains_key("x-api-key"));
    let audit = companion.admin("GET", "/v1/audit", "").await.json.to_string();
    assert!(audit.contains("credentials") && !audit.contains("t0k"));
}

#[tokio::test]
async fn a_token_endpoint_is_a_target_like_any_other() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    let fields = json!({"target_url": receiver.url, "events": ["*"], "auth": {
        "type": "oauth2", "token_url": "http://169.254.169.254/token", "client_id": "c", "client_secret": "s"}});
    let refused = companion.admin("POST", "/v1/subscriptions", &fields.to_string()).await;
    assert_eq!((refused.status, refused.faults()), (422, vec!["/auth/token_url"]));
    let wrong = json!({"target_url": receiver.url, "events": ["*"], "headers": {"host": "x", "a": "b\r\nc: d"}, "auth": {"type": "digest"}});
    let refused = companion.admin("POST", "/v1/subscriptions", &wrong.to_string()).await;
    assert_eq!((refused.status, refused.faults()), (422, vec!["/auth/type", "/headers/a", "/headers/host"]));
}
