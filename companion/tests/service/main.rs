//! The companion as its callers meet it: the library on a free port, real HTTP, a real receiver; each route once good
//! and once bad.

mod access;
mod again;
mod catalogue;
mod client;
mod conditions;
mod credentials;
mod deliveries;
mod delivery_requests;
mod documents;
mod handshakes;
mod housekeeping;
mod ingest;
mod keys;
mod openapi;
mod policies;
mod portal;
mod self_service;
mod statistics;
mod stream;
mod subscriptions;
mod tenants;
mod unmatched;
