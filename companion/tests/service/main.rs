//! The companion as its callers meet it: the library on a free port, real HTTP, a real receiver; each route once good
//! and once bad.

mod client;
mod deliveries;
mod ingest;
mod subscriptions;
mod tenants;
mod unmatched;
