//! Who may do what: bearer tokens (RFC 6750), each with a scope.
//!
//! Two tokens come from the settings, any number more from `/v1/tokens`. Tokens are kept as SHA-256 hashes alone: they are
//! long and random, so a slow hash would add nothing. Hashes are compared in constant time.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Api;
use super::error::Problem;
use crate::model::{Scope, Token};
use crate::store::{AuditEntry, Store, StoreError, tenant_actor};

/// SHA-256 of a bearer token; the token itself is kept nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// The hash of a token.
    pub fn of(token: &str) -> Self {
        Self::of_bytes(token.as_bytes())
    }

    /// The hash of a token as it came.
    pub(super) fn of_bytes(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }
}

/// Who makes a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The token's id, or `admin` or `ingest` for those of the settings.
    pub(crate) name: String,
    who: Who,
}

/// What a caller is.
#[derive(Clone, Debug)]
enum Who {
    /// The bearer of a token.
    Operator(Scope),
    /// A tenant, for as long as its link is good where it has one.
    Tenant { name: String, until: Option<Timestamp> },
}

impl Caller {
    /// A tenant.
    pub(super) fn of_tenant(name: String, until: Option<Timestamp>) -> Self {
        Self { name: tenant_actor(&name), who: Who::Tenant { name, until } }
    }

    /// The tenant that this caller is, and sees alone; none for an operator, who sees all.
    pub(crate) fn tenant(&self) -> Option<&str> {
        match &self.who {
            Who::Operator(_) => None,
            Who::Tenant { name, .. } => Some(name),
        }
    }

    /// Whether it sees what belongs to this tenant, or to none.
    pub(crate) fn sees(&self, owner: Option<&str>) -> bool {
        self.tenant().is_none_or(|own| owner == Some(own))
    }

    /// Whether it has one of these scopes.
    fn has(&self, scopes: &[Scope]) -> bool {
        matches!(&self.who, Who::Operator(scope) if scopes.contains(scope))
    }

    /// The word for what it may do.
    pub(super) fn word(&self) -> &'static str {
        match &self.who {
            Who::Operator(scope) => scope.word(),
            Who::Tenant { .. } => "tenant",
        }
    }

    /// Until when it is what it is.
    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        match &self.who {
            Who::Operator(_) => None,
            Who::Tenant { until, .. } => *until,
        }
    }

    /// What the paths begin with by which it knows resources.
    pub(crate) fn base(&self) -> &'static str {
        match &self.who {
            Who::Operator(_) => "/v1",
            Who::Tenant { .. } => "/webhooks",
        }
    }

    /// A line of the audit log about something that this caller does.
    pub(crate) fn audit(
        &self,
        action: &str,
        resource: &str,
        detail: Option<String>,
        at: Timestamp,
    ) -> AuditEntry {
        AuditEntry {
            at,
            actor: self.name.clone(),
            action: action.to_owned(),
            resource: resource.to_owned(),
            detail,
        }
    }
}

/// All tokens that are good.
pub struct Access {
    admin: TokenHash,
    ingest: TokenHash,
    made: RwLock<HashMap<TokenHash, Token>>,
}

impl Access {
    /// The tokens of the settings, and those of the store.
    ///
    /// # Errors
    /// Where the store does not answer.
    pub async fn load(store: &dyn Store, admin: TokenHash, ingest: TokenHash) -> Result<Self, StoreError> {
        let access = Self { admin, ingest, made: RwLock::default() };
        store.tokens().await?.into_iter().for_each(|token| access.put(token));
        Ok(access)
    }

    /// Reads the tokens of the store again.
    ///
    /// # Errors
    /// Where the store does not answer.
    pub async fn reload(&self, store: &dyn Store) -> Result<(), StoreError> {
        let tokens = store.tokens().await?.into_iter().map(|token| (TokenHash(token.hash), token));
        *self.made.write().unwrap_or_else(PoisonError::into_inner) = tokens.collect();
        Ok(())
    }

    /// Takes a token in.
    pub(crate) fn put(&self, token: Token) {
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        made.insert(TokenHash(token.hash), token);
    }

    /// Takes a token back.
    pub(crate) fn remove(&self, id: &str) {
        self.made.write().unwrap_or_else(PoisonError::into_inner).retain(|_, token| token.id != id);
    }

    /// How many tokens were made.
    pub(crate) fn count(&self) -> usize {
        self.made.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn caller(&self, token: &str, now: Timestamp) -> Option<Caller> {
        let hash = TokenHash::of(token);
        let is = |other: &TokenHash| bool::from(hash.0.ct_eq(&other.0));
        if is(&self.admin) {
            return Some(Caller { name: "admin".to_owned(), who: Who::Operator(Scope::Admin) });
        }
        if is(&self.ingest) {
            return Some(Caller { name: "ingest".to_owned(), who: Who::Operator(Scope::Ingest) });
        }
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
        let token = made.get(&hash).filter(|token| token.expires_at.is_none_or(|end| now < end))?;
        Some(Caller { name: token.id.clone(), who: Who::Operator(token.scope) })
    }
}

/// Lets only those pass who may look, or change where the request changes something.
pub(super) async fn require_admin(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    let allowed: &[Scope] = if looks { &[Scope::Admin, Scope::Read] } else { &[Scope::Admin] };
    guarded(&api, allowed, request, next).await
}

/// Lets only those pass who may hand over events.
pub(super) async fn require_ingest(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    guarded(&api, &[Scope::Ingest], request, next).await
}

async fn guarded(api: &Api, allowed: &[Scope], mut request: Request, next: Next) -> Response {
    let caller = bearer(request.headers()).and_then(|token| api.access.caller(token, api.clock.now()));
    match caller {
        None => Problem::unauthorized().into_response(),
        Some(caller) if !caller.has(allowed) => Problem::forbidden(caller.word()).into_response(),
        Some(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
    }
}

/// The token of `authorization: Bearer …` (RFC 6750).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
