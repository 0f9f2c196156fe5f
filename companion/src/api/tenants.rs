//! `/webhooks/…`: what a tenant sees and changes, through the gateway of the API itself.
//!
//! The gateway has authenticated the caller and says in a header on whose behalf a request comes; or the caller bears a link
//! that an operator made for that tenant. Who is neither is nobody. What is allowed then is the handlers' business, which
//! ask [`Caller::tenant`]; here is how much of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use super::Api;
use super::access::{Caller, TokenHash};
use super::error::Problem;
use crate::limits;
use crate::links::Links;
use crate::rate::{Bucket, Rate};

/// In it the gateway shows that it is the gateway.
pub(super) const GATEWAY: HeaderName = HeaderName::from_static("gatehook-gateway");

/// The scheme of `authorization` under which a link's token comes.
const LINK_SCHEME: &str = "gatehook-link";

/// What is known of the gateway, and how much a tenant may ask of it.
pub struct Tenants {
    /// The header in which the gateway names the tenant.
    pub header: HeaderName,
    /// What the gateway shows with every request; none where nobody else reaches the listener.
    pub gateway: Option<TokenHash>,
    /// Subscriptions that a tenant may have.
    pub subscriptions: usize,
    /// Requests that a tenant may make.
    pub rate: Rate,
    /// Links that operators made.
    pub links: Links,
    /// Room for those that read.
    reads: Semaphore,
    buckets: Mutex<HashMap<String, Buckets>>,
}

/// What a tenant may still ask for now.
struct Buckets {
    requests: Bucket,
    calls: Bucket,
}

/// Requests that a tenant may have made to receivers at once, pings and handshakes: nobody is to be flooded by us.
const CALLS: Rate = Rate::new(limits::TENANT_CALLS_PER_SECOND, 1);

impl Tenants {
    /// Nobody has asked for anything yet.
    pub fn new(
        header: HeaderName,
        gateway: Option<TokenHash>,
        subscriptions: usize,
        rate: Rate,
        links: Links,
    ) -> Self {
        let reads = Semaphore::new(limits::TENANT_READS);
        Self { header, gateway, subscriptions, rate, links, reads, buckets: Mutex::default() }
    }

    /// Counts a request of a tenant, unless it makes too many.
    fn admit(&self, tenant: &str, now: Timestamp) -> Result<(), Problem> {
        self.take(tenant, now, |buckets| buckets.requests.take(1, self.rate, now))
    }

    /// Counts a request that calls a receiver.
    pub(super) fn admit_call(&self, caller: &Caller, now: Timestamp) -> Result<(), Problem> {
        let Some(tenant) = caller.tenant() else { return Ok(()) };
        self.take(tenant, now, |buckets| buckets.calls.take(1, CALLS, now))
    }

    fn take(
        &self,
        tenant: &str,
        now: Timestamp,
        take: impl FnOnce(&mut Buckets) -> Result<usize, Timestamp>,
    ) -> Result<(), Problem> {
        let mut all = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= limits::TENANTS_COUNTED && !all.contains_key(tenant) {
            all.retain(|_, own| !(own.requests.is_full(self.rate, now) && own.calls.is_full(CALLS, now)));
        }
        let full = || Buckets { requests: Bucket::full(self.rate, now), calls: Bucket::full(CALLS, now) };
        let taken = take(all.entry(tenant.to_owned()).or_insert_with(full));
        taken.map(drop).map_err(|at| Problem::too_many("more than a tenant may ask for", now, at))
    }

    /// Who makes a request.
    fn caller(&self, headers: &HeaderMap, now: Timestamp) -> Result<Caller, Problem> {
        if let Some(token) = link(headers) {
            let link = self.links.open(token, now).map_err(Problem::link)?;
            return Ok(Caller::of_tenant(link.tenant, Some(link.expires_at)));
        }
        let mut named = headers.get_all(&self.header).iter();
        match (named.next().map(|name| std::str::from_utf8(name.as_bytes())), named.next()) {
            (None, _) => Err(Problem::no_tenant()),
            (Some(Ok(name)), None) if is_name(name) => Ok(Caller::of_tenant(name.to_owned(), None)),
            _ => Err(Problem::malformed(
                self.header.as_str(),
                format!("must be one name of 1 to {} characters", limits::SHORT_TEXT),
            )),
        }
    }
}

fn is_name(name: &str) -> bool {
    (1..=limits::SHORT_TEXT).contains(&name.len()) && name.trim() == name && !name.contains(char::is_control)
}

/// The token of `authorization: Gatehook-Link …`.
fn link(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case(LINK_SCHEME).then_some(token.trim())
}

/// Lets only the gateway pass, where it has something to show.
pub(super) async fn require_gateway(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(&GATEWAY).map(|token| TokenHash::of_bytes(token.as_bytes()));
    let is_shown = |wanted: &TokenHash| shown.is_some_and(|shown| shown.0.ct_eq(&wanted.0).into());
    match api.tenants.gateway.as_ref().is_none_or(is_shown) {
        true => next.run(request).await,
        false => Problem::not_the_gateway().into_response(),
    }
}

/// Lets only tenants pass, none more often than it may.
pub(super) async fn require_tenant(
    State(api): State<Arc<Api>>,
    mut request: Request,
    next: Next,
) -> Response {
    let now = api.clock.now();
    let caller = check_origin(&request).and_then(|()| api.tenants.caller(request.headers(), now));
    let admitted = caller.and_then(|caller| {
        api.tenants.admit(caller.tenant().unwrap_or_default(), now)?;
        Ok(caller)
    });
    match admitted {
        Ok(caller) => {
            let looks = matches!(*request.method(), Method::GET | Method::HEAD);
            request.extensions_mut().insert(caller);
            // It is given back when the answer is there. Nobody ever closes it.
            let _room = if looks { api.tenants.reads.acquire().await.ok() } else { None };
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// Refuses a change that another site's page had a browser make with what the browser sends by itself: cookies, which some
/// gateways turn into an `authorization`, and passwords that it knows. A bearer token or a link no page can send that was not
/// given it.
fn check_origin(request: &Request) -> Result<(), Problem> {
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    let site = request.headers().get("sec-fetch-site").map(HeaderValue::as_bytes);
    let foreign = matches!(site, Some(b"cross-site" | b"same-site"));
    let headers = request.headers();
    let is_bearer = |value: &HeaderValue| {
        value.as_bytes().get(..7).is_some_and(|word| word.eq_ignore_ascii_case(b"bearer "))
    };
    let by_hand = link(headers).is_some()
        || headers.get(AUTHORIZATION).is_some_and(is_bearer) && !headers.contains_key(COOKIE);
    match foreign && !looks && !by_hand {
        true => Err(Problem::new(StatusCode::FORBIDDEN, "another site's page may not change anything here")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::Vault;

    fn tenants(rate: &str) -> Tenants {
        let links = Links::new(Vault::new(&[7; 32]));
        Tenants::new(HeaderName::from_static("x-tenant"), None, 2, rate.parse().unwrap(), links)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn named(values: &[(&'static str, &'static str)]) -> Result<String, StatusCode> {
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(*name, axum::http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let caller = tenants("1/s").caller(&headers, at(0));
        caller.map(|caller| caller.tenant().unwrap().to_owned()).map_err(|problem| problem.status())
    }

    #[test]
    fn a_tenant_is_one_header_of_the_gateway_or_a_link_and_nothing_else() {
        assert_eq!(named(&[("x-tenant", "acme")]), Ok("acme".into()));
        assert_eq!(named(&[]), Err(StatusCode::UNAUTHORIZED));
        assert_eq!(
            named(&[("tenant", "acme"), ("authorization", "Bearer acme")]),
            Err(StatusCode::UNAUTHORIZED)
        );
        assert_eq!(named(&[("x-tenant", "zürich")]), Ok("zürich".into()));
        for wrong in ["", " acme", "ac\tme"] {
            assert_eq!(named(&[("x-tenant", wrong)]), Err(StatusCode::BAD_REQUEST), "{wrong:?}");
        }
        // One of the two came from somebody else.
        assert_eq!(named(&[("x-tenant", "acme"), ("x-tenant", "blue")]), Err(StatusCode::BAD_REQUEST));
        let forged = named(&[("x-tenant", "acme"), ("authorization", "Gatehook-Link forged")]);
        assert_eq!(forged, Err(StatusCode::UNAUTHORIZED), "a link that is not good is not passed over");
    }

    #[test]
    fn each_tenant_has_a_rate_of_its_own() {
        let tenants = tenants("2/s");
        for _ in 0..2 {
            tenants.admit("acme", at(0)).unwrap();
        }
        assert_eq!(tenants.admit("acme", at(0)).unwrap_err().status(), StatusCode::TOO_MANY_REQUESTS);
        tenants.admit("blue", at(0)).unwrap();
        tenants.admit("acme", at(1)).unwrap();
    }

    #[test]
    fn those_who_ask_for_nothing_are_forgotten() {
        let tenants = tenants("2/s");
        for number in 0..2 * limits::TENANTS_COUNTED {
            let now = at(i64::try_from(number).unwrap());
            tenants.admit(&number.to_string(), now).unwrap();
        }
        assert!(tenants.buckets.lock().unwrap().len() <= limits::TENANTS_COUNTED);
    }
}
