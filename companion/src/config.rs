//! The settings of `gatehook serve`: one struct, each field a flag and an environment variable.
//!
//! Everything has a default that works. Secrets print as `***`. All validation happens here, before a port opens.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use axum::http::HeaderName;
use clap::Args;
use ipnet::IpNet;
use rustls::pki_types::CertificateDer;
use url::Url;

use crate::disk;
use crate::limits;
use crate::rate::Rate;
use crate::retry::{self, Policy};
use crate::sender;
use crate::store;
use crate::target::Guard;
use crate::vault::{self, Vault};

/// Settings of `gatehook serve`.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Address of the API
    #[arg(long, env = "GATEHOOK_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Address on which tenants manage their own webhooks at /webhooks/…, behind the gateway that authenticates them; without
    /// it nobody but operators does
    #[arg(long, env = "GATEHOOK_PUBLIC_LISTEN")]
    pub public_listen: Option<SocketAddr>,

    /// Header in which the gateway names the tenant; it must take it out of what callers send
    #[arg(long, env = "GATEHOOK_TENANT_HEADER", default_value = "x-gatehook-tenant")]
    pub tenant_header: HeaderName,

    /// Token that the gateway shows in the header gatehook-gateway; needed with --public-listen, because whoever reaches that
    /// could else name any tenant, our own deliveries among them
    #[arg(long, env = "GATEHOOK_GATEWAY_TOKEN", hide_env_values = true)]
    pub gateway_token: Option<Hidden>,

    /// How many subscriptions a tenant may have
    #[arg(long, env = "GATEHOOK_TENANT_SUBSCRIPTIONS", default_value = "100")]
    pub tenant_subscriptions: usize,

    /// How many requests a tenant may make at /webhooks/…
    #[arg(long, env = "GATEHOOK_TENANT_RATE", default_value = "50/s")]
    pub tenant_rate: Rate,

    /// Where subscriptions, events and deliveries are kept: sqlite:PATH, or postgres://… for several processes
    #[arg(long, env = "GATEHOOK_STORE", hide_env_values = true, default_value = "sqlite:gatehook.db")]
    pub store: String,

    /// What wakes the workers of several processes: embedded:, amqp://… (RabbitMQ), sqs://… (Amazon SQS)
    #[arg(long, env = "GATEHOOK_QUEUE", hide_env_values = true, default_value = "embedded:")]
    pub queue: String,

    /// What this process does; `api` and `worker` need a store that several processes share
    #[arg(long, env = "GATEHOOK_ROLE", value_enum, default_value = "all")]
    pub role: Role,

    /// Bearer token of the admin API; without one, one is made and printed at the first start
    #[arg(long, env = "GATEHOOK_ADMIN_TOKEN", hide_env_values = true)]
    pub admin_token: Option<Hidden>,

    /// Bearer token of POST /v1/events; without one, one is made and printed at the first start
    #[arg(long, env = "GATEHOOK_INGEST_TOKEN", hide_env_values = true)]
    pub ingest_token: Option<Hidden>,

    /// Key that seals secrets at rest: 32 bytes in base64, or file:PATH; without one, one is made beside the database.
    /// Several, separated by commas: the first seals, all open, and what another sealed is sealed again at the start
    #[arg(long, env = "GATEHOOK_SECRET_KEY", hide_env_values = true)]
    pub secret_key: Option<Hidden>,

    /// Private or local networks that may be targets all the same, such as 10.1.0.0/16,::1/128
    #[arg(long, env = "GATEHOOK_ALLOW_TARGETS", value_delimiter = ',')]
    pub allow_targets: Vec<IpNet>,

    /// As --allow-targets, for subscriptions that have a tenant: networks that all tenants may have us call
    #[arg(long, env = "GATEHOOK_TENANT_ALLOW_TARGETS", value_delimiter = ',')]
    pub tenant_allow_targets: Vec<IpNet>,

    /// PEM file of certificates to trust beside the system's, for receivers behind a private certificate authority
    #[arg(long, env = "GATEHOOK_TRUST", value_name = "FILE")]
    pub trust: Option<PathBuf>,

    /// Delays before attempt 1, 2, …, such as 0s,5s,5m; without it the schedule of Standard Webhooks
    #[arg(long, env = "GATEHOOK_RETRY_SCHEDULE")]
    pub retry_schedule: Option<Policy>,

    /// The API's public base URL, such as https://api.example.com: thin payloads name resources by it, and its host is
    /// the origin that receivers are asked to allow (handshake `cloudevents`)
    #[arg(long, env = "GATEHOOK_API_URL", value_parser = api_url)]
    pub api_url: Option<Url>,

    /// How long events and finished deliveries are kept, such as 12h or 30d; pending ones are kept until they end
    #[arg(long, env = "GATEHOOK_RETENTION", default_value = "30d", value_parser = retention)]
    pub retention: Duration,

    /// How many events are kept at most, the newest; pending ones are kept until they end. Without it, all that are young
    /// enough
    #[arg(long, env = "GATEHOOK_RETENTION_EVENTS", value_parser = clap::value_parser!(u64).range(1..))]
    pub retention_events: Option<u64>,

    /// Free space on the database's file system, such as 64MiB, below which no events are taken, so that those taken
    /// are still delivered; 0B for none
    #[arg(long, env = "GATEHOOK_MIN_FREE_DISK", default_value = "64MiB", value_parser = disk::size)]
    pub min_free_disk: u64,

    /// Origins whose pages may show the portal in a frame, such as https://app.example.com; without it, none may
    #[arg(long, env = "GATEHOOK_EMBED_ORIGINS", value_delimiter = ',', value_parser = origin)]
    pub embed_origins: Vec<String>,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Both.
    All,
    /// Takes events and serves the API; delivers nothing.
    Api,
    /// Delivers; of the API it serves what operators ask of a process: /healthz, /readyz, /metrics.
    Worker,
}

fn api_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("not an absolute URL: {error}"))?;
    let is_plain =
        matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none();
    if is_plain { Ok(url) } else { Err("must be an http or https URL without query and fragment".into()) }
}

/// An origin as a content security policy names it; its host may begin with `*.`.
fn origin(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| format!("not an origin: {error}"))?;
    let origin = url.origin().ascii_serialization();
    // What a policy gives a meaning of its own, such as `;`, is in no host.
    let is_host =
        |host: &str| host.chars().all(|letter| letter.is_ascii_alphanumeric() || ".-[]:".contains(letter));
    let host = url.host_str().unwrap_or_default();
    let is_plain =
        matches!(url.scheme(), "http" | "https") && is_host(host.strip_prefix("*.").unwrap_or(host));
    match is_plain && [origin.clone(), format!("{origin}/")].contains(&url.to_string()) {
        true => Ok(origin),
        false => Err("must be an http or https origin, such as https://app.example.com".into()),
    }
}

fn retention(text: &str) -> Result<Duration, String> {
    match retry::duration(text, limits::RETENTION_MOST_DAYS)? {
        short if short < limits::RETENTION_LEAST => Err("must be at least 1h".into()),
        long => Ok(long),
    }
}

/// A secret setting. It prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Hidden {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "" => Err("must not be empty".into()),
            text => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Settings {
    /// Refuses settings that do not go together, before anything is made or reached.
    ///
    /// # Errors
    /// One sentence.
    pub fn fit(&self) -> anyhow::Result<()> {
        if let Some(address) = self.public_listen {
            if self.role == Role::Worker {
                bail!("--public-listen needs --role all or api");
            }
            if self.gateway_token.is_none() {
                bail!(
                    "--public-listen {address} needs --gateway-token: whoever reaches it could name any tenant"
                );
            }
        }
        if store::is_shared(&self.store).context("--store")? {
            return Ok(());
        }
        let of_several = match self.role {
            Role::All if self.queue == "embedded:" => return Ok(()),
            Role::All => "--queue",
            Role::Api => "--role api",
            Role::Worker => "--role worker",
        };
        bail!("{of_several} needs a store that several processes share: --store postgres://…");
    }

    /// What may be called.
    pub fn guard(&self) -> Guard {
        Guard::new(&self.allow_targets).with_tenants(&self.tenant_allow_targets)
    }

    /// The certificates of `--trust`.
    ///
    /// # Errors
    /// A file that cannot be read, or holds anything but certificates that can be trusted.
    pub fn roots(&self) -> anyhow::Result<Vec<CertificateDer<'static>>> {
        self.trust.as_deref().map_or(Ok(Vec::new()), sender::roots_in).context("--trust")
    }

    /// The vault under the operator's key, or under one beside the database that is made if need be.
    ///
    /// # Errors
    /// A key that cannot be read or is not 32 bytes in base64; it is not repeated.
    pub fn vault(&self) -> anyhow::Result<Vault> {
        let parse =
            |text: &str| vault::parse_key(text).map_err(|error| anyhow::anyhow!("--secret-key: {error}"));
        let Some(given) = self.secret_key.as_ref().map(Hidden::reveal) else {
            let database = self.store.strip_prefix("sqlite:");
            let database = database.context(
                "--secret-key is needed with --store postgres://…: all processes that share it must have the same key",
            )?;
            return Ok(Vault::new(&parse(&key_beside(Path::new(database))?)?));
        };
        let keys = given.split(',').map(|text| match text.trim().strip_prefix("file:") {
            Some(path) => {
                let key = fs::read_to_string(path);
                parse(&key.with_context(|| format!("--secret-key: cannot read {path}"))?)
            }
            None => parse(text),
        });
        let mut keys = keys.collect::<anyhow::Result<Vec<_>>>()?.into_iter();
        let first = keys.next().context("--secret-key: is empty")?;
        Ok(keys.fold(Vault::new(&first), |vault, key| vault.opening(&key)))
    }
}

/// The key in `DATABASE.key`, made where there is none.
fn key_beside(database: &Path) -> anyhow::Result<String> {
    use base64::Engine;
    use std::io::Write;

    let mut path = database.as_os_str().to_owned();
    path.push(".key");
    let shown = Path::new(&path).display();
    match fs::read_to_string(&path) {
        Ok(key) => return Ok(key),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot read {shown}"));
        }
        Err(_) => {}
    }
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness for a key: {error}"))?;
    let key = base64::engine::general_purpose::STANDARD.encode(bytes);
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&path).with_context(|| format!("cannot make {shown}"))?;
    file.write_all(key.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {shown}"))?;
    tracing::info!(path = %shown, "made a key that seals signing secrets; keep it apart from backups of the database");
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        settings: Settings,
    }

    fn parse(flags: &str) -> Result<Settings, String> {
        let flags = std::iter::once("gatehook").chain(flags.split_whitespace());
        Program::try_parse_from(flags).map(|program| program.settings).map_err(|error| error.to_string())
    }

    #[test]
    fn every_setting_has_a_default_that_works() {
        let settings = parse("").unwrap();
        assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(settings.store, "sqlite:gatehook.db");
        assert!(settings.allow_targets.is_empty());
        assert_eq!(settings.retention, Duration::from_secs(30 * 24 * 3600));
        assert_eq!((settings.retention_events, settings.min_free_disk), (None, 64 << 20));
    }

    #[test]
    fn origins_are_kept_as_a_policy_names_them() {
        let settings =
            parse("--embed-origins https://App.example.com/,http://localhost:3000,https://*.example.org");
        let expected = ["https://app.example.com", "http://localhost:3000", "https://*.example.org"];
        assert_eq!(settings.unwrap().embed_origins, expected);
    }

    #[test]
    fn retention_may_be_years() {
        assert_eq!(parse("--retention 3650d").unwrap().retention, Duration::from_secs(3_650 * 24 * 3600));
    }

    #[test]
    fn secrets_are_never_printed() {
        let settings = parse("--admin-token hush --ingest-token hush --secret-key hush").unwrap();
        assert!(!format!("{settings:?}").contains("hush"));
    }

    #[test]
    fn a_wrong_setting_is_named() {
        for (flags, named) in [
            ("--listen nowhere", "--listen"),
            ("--allow-targets 10.0.0.0/40", "--allow-targets"),
            ("--retry-schedule 5", "--retry-schedule"),
            ("--admin-token=", "--admin-token"),
            ("--api-url api.example.com", "--api-url"),
            ("--api-url ftp://api.example.com", "--api-url"),
            ("--retention 30", "--retention"),
            ("--retention 59m", "--retention"),
            ("--retention 3651d", "--retention"),
            ("--retention-events 0", "--retention-events"),
            ("--min-free-disk 64", "--min-free-disk"),
            ("--embed-origins app.example.com", "--embed-origins"),
            ("--embed-origins https://app.example.com/page", "--embed-origins"),
            ("--embed-origins https://a.example;script-src", "--embed-origins"),
            ("--embed-origins https://user@app.example.com", "--embed-origins"),
            ("--embed-origins *", "--embed-origins"),
        ] {
            assert!(parse(flags).unwrap_err().contains(named), "{flags}");
        }
    }
    #[test]
    fn only_a_file_of_certificates_can_be_trusted() {
        let folder = crate::testing::Folder::new();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new([]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let good = params.self_signed(&key).unwrap().pem();
        let bad = "-----BEGIN CERTIFICATE-----\neA==\n-----END CERTIFICATE-----\n";
        for (name, text, expected) in [
            ("two.pem", format!("{good}\n{good}"), Ok(2)),
            ("key.pem", key.serialize_pem(), Err("holds no certificate")),
            ("text.pem", "hello".to_owned(), Err("holds no certificate")),
            ("bad.pem", format!("{good}{bad}"), Err("certificate 2 of")),
            ("cut.pem", good[..good.len() - 30].to_owned(), Err("is not PEM")),
        ] {
            let path = folder.path(name);
            fs::write(&path, text).unwrap();
            let roots = parse(&format!("--trust {}", path.display())).unwrap().roots();
            match (roots.map(|roots| roots.len()).map_err(|error| format!("{error:#}")), expected) {
                (Ok(found), Ok(count)) => assert_eq!(found, count, "{name}"),
                (Err(why), Err(part)) => assert!(why.starts_with("--trust") && why.contains(part), "{why}"),
                (found, _) => panic!("{name}: {found:?}"),
            }
        }
        assert!(parse("--trust /nowhere.pem").unwrap().roots().is_err());
        assert!(parse("").unwrap().roots().unwrap().is_empty());
    }
}
