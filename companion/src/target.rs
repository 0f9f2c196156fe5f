//! May we call this target? The guard against server-side request forgery (OWASP SSRF).
//!
//! A subscription's `target_url` is untrusted input that makes us open connections. Its addresses are checked when it
//! is made and again each time it is dialled: [`Guard`] is the resolver of the sender's connector, so the address that
//! was vetted is the address that is dialled, and a DNS answer that changes in between changes nothing.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::{fmt, io};

use async_trait::async_trait;
use hyper_util::client::legacy::connect::dns::Name;
use ipnet::IpNet;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use url::{Host, Url};

use crate::limits;

/// Address ranges that are never a webhook receiver on the public internet (IANA special-purpose registries,
/// RFC 6890 and its updates), and services of a cloud that only its own machines reach. IPv4 addresses inside IPv6
/// addresses are looked up by themselves. A NAT64 prefix of an operator's own is not known here: a network that has
/// one must not route this service's connections into it.
const SPECIAL: &[&str] = &[
    "0.0.0.0/8",        // this network
    "10.0.0.0/8",       // private
    "100.64.0.0/10",    // shared by carriers
    "127.0.0.0/8",      // loopback
    "169.254.0.0/16",   // link-local, and the metadata service of most clouds
    "168.63.129.16/32", // the platform service of one cloud
    "172.16.0.0/12",    // private
    "192.0.0.0/24",     // protocol assignments
    "192.0.2.0/24",     // documentation
    "192.88.99.0/24",   // 6to4 relays, deprecated
    "192.168.0.0/16",   // private
    "198.18.0.0/15",    // benchmarks
    "198.51.100.0/24",  // documentation
    "203.0.113.0/24",   // documentation
    "224.0.0.0/4",      // multicast
    "240.0.0.0/4",      // reserved, broadcast
    "::/128",           // unspecified
    "::1/128",          // loopback
    "64:ff9b:1::/48",   // local-use NAT64
    "100::/64",         // discard
    "100:0:0:1::/64",   // dummy
    "2001::/23",        // protocol assignments, Teredo
    "2001:db8::/32",    // documentation
    "3fff::/20",        // documentation
    "5f00::/16",        // segment routing
    "fc00::/7",         // unique local, the metadata service of one cloud
    "fe80::/10",        // link-local
    "fec0::/10",        // site-local, deprecated
    "ff00::/8",         // multicast
];

static SPECIAL_NETS: LazyLock<Vec<IpNet>> =
    LazyLock::new(|| SPECIAL.iter().filter_map(|net| net.parse().ok()).collect());

/// Decides which targets may be called, and resolves names for the sender.
#[derive(Clone, Debug)]
pub struct Guard {
    allowed: Arc<[IpNet]>,
    /// As `allowed`, for tenants.
    of_tenants: Arc<[IpNet]>,
    resolver: Arc<dyn Resolver>,
}

/// Where the addresses of a name come from.
#[async_trait]
pub trait Resolver: fmt::Debug + Send + Sync {
    /// All addresses of a host name, in the order in which they are to be tried.
    ///
    /// # Errors
    /// Where the name has none, or nobody answers.
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The resolver of the system: its hosts file, its name servers.
#[derive(Debug)]
pub struct SystemResolver(Arc<Semaphore>);

impl Default for SystemResolver {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(limits::LOOKUPS)))
    }
}

#[async_trait]
impl Resolver for SystemResolver {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let place = self.0.clone().acquire_owned().await.map_err(io::Error::other)?;
        let name = name.to_owned();
        // A thread that waits for a name server cannot be stopped: its place is taken until it ends, however long we wait.
        let lookup = tokio::task::spawn_blocking(move || {
            let _place = place;
            let found = std::net::ToSocketAddrs::to_socket_addrs(&(name.as_str(), 0))?;
            Ok(found.map(|address| address.ip()).collect())
        });
        lookup.await.map_err(io::Error::other)?
    }
}

/// A target that may not be called, and why. The text is meant for the subscription's owner.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Blocked(pub String);

impl Default for Guard {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Guard {
    /// `allowed` lists ranges that may be called although they are special (`--allow-targets`).
    pub fn new(allowed: &[IpNet]) -> Self {
        Self::resolving(allowed, Arc::new(SystemResolver::default()))
    }

    /// As [`Guard::new`], with names resolved by `resolver`.
    pub fn resolving(allowed: &[IpNet], resolver: Arc<dyn Resolver>) -> Self {
        Self { allowed: allowed.into(), of_tenants: allowed.into(), resolver }
    }

    /// The same guard, which allows tenants' subscriptions these ranges instead (`--tenant-allow-targets`).
    #[must_use]
    pub fn with_tenants(self, allowed: &[IpNet]) -> Self {
        Self { of_tenants: allowed.into(), ..self }
    }

    /// The guard of a tenant's subscriptions, or of those that are nobody's but the operator's.
    #[must_use]
    pub fn of(&self, is_tenant: bool) -> Self {
        match is_tenant {
            false => self.clone(),
            true => Self { allowed: self.of_tenants.clone(), ..self.clone() },
        }
    }

    /// Reads a `target_url` and checks all that can be known without asking DNS.
    ///
    /// # Errors
    /// A sentence for the owner: not a URL, not http or https, credentials in it, port 0, or an address that is not
    /// allowed.
    pub fn parse(&self, text: &str) -> Result<Url, Blocked> {
        let blocked = |why: &str| Err(Blocked(why.to_owned()));
        if text.len() > limits::TARGET_URL {
            return blocked(&format!("longer than {} characters", limits::TARGET_URL));
        }
        let url = Url::parse(text).map_err(|error| Blocked(format!("not an absolute URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return blocked("only http and https URLs can be called");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return blocked("credentials in a URL end up in logs; leave them out");
        }
        if url.port() == Some(0) {
            return blocked("port 0 cannot be called");
        }
        match url.host() {
            None => return blocked("has no host"),
            Some(Host::Ipv4(address)) => self.check(address.into())?,
            Some(Host::Ipv6(address)) => self.check(address.into())?,
            Some(Host::Domain(_)) => {}
        }
        Ok(url)
    }

    /// As [`Guard::parse`], and resolves the host's name.
    ///
    /// # Errors
    /// Also where the name does not resolve, or any of its addresses is not allowed.
    pub async fn vet(&self, text: &str) -> Result<Url, Blocked> {
        let url = self.parse(text)?;
        if let Some(Host::Domain(name)) = url.host() {
            self.resolve(name).await?;
        }
        Ok(url)
    }

    /// Whether an address may be dialled.
    ///
    /// # Errors
    /// Says that it may not. It does not say which range it fell into: that would help to map a network.
    pub fn check(&self, address: IpAddr) -> Result<(), Blocked> {
        let within = |nets: &[IpNet], address: &IpAddr| nets.iter().any(|net| net.contains(address));
        let refused = |address: &IpAddr| within(&SPECIAL_NETS, address) && !within(&self.allowed, address);
        if refused(&address) || carried(address).as_ref().is_some_and(refused) {
            return Err(Blocked(
                "its address is private, local or reserved, which this service may not call".into(),
            ));
        }
        Ok(())
    }

    /// The addresses of a name, every one of them vetted: one bad address among good ones is an attack.
    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, Blocked> {
        let unresolved = || Blocked("its host name does not resolve".into());
        let found = timeout(limits::CONNECT, self.resolver.addresses(name)).await;
        let mut addresses = found.map_err(|_| unresolved())?.map_err(|_| unresolved())?;
        if addresses.is_empty() {
            return Err(unresolved());
        }
        for address in &addresses {
            self.check(*address)?;
        }
        addresses.truncate(limits::ADDRESSES);
        Ok(addresses)
    }
}

/// The IPv4 address that an IPv6 address stands for or leads to: mapped and compatible (RFC 4291), translated
/// (RFC 2765), NAT64 (RFC 6052), 6to4 (RFC 3056), ISATAP (RFC 5214).
fn carried(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = address else { return None };
    let (high, low) = match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..]
        | [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => (high, low),
        [0, 0, 0, 0, 0, 0, high, low] if v6 != Ipv6Addr::UNSPECIFIED && v6 != Ipv6Addr::LOCALHOST => {
            (high, low)
        }
        _ => return None,
    };
    Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)).into())
}

impl tower_service::Service<Name> for Guard {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Blocked;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Blocked>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Blocked>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let guard = self.clone();
        Box::pin(async move {
            let addresses = guard.resolve(name.as_str()).await?;
            // The connector puts the URL's port in the place of 0.
            let sockets: Vec<_> = addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            Ok(sockets.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use axum::http::StatusCode;
    use axum::response::IntoResponse;
    use jiff::Timestamp;

    use super::*;
    use crate::model::Outcome;
    use crate::sender::{Parcel, Sender};
    use crate::testing::Receiver;

    fn check(url: &str, allowed: &str, expected: bool) {
        let allowed: Vec<IpNet> = allowed.split_whitespace().map(|net| net.parse().unwrap()).collect();
        assert_eq!(Guard::new(&allowed).parse(url).is_ok(), expected, "{url} with [{}]", allowed.len());
    }

    #[test]
    fn every_special_range_is_read() {
        assert_eq!(SPECIAL_NETS.len(), SPECIAL.len());
    }

    #[test]
    fn only_http_without_credentials_is_called() {
        check("https://example.com/hook?x=1", "", true);
        check("http://93.184.216.34:8080/", "", true);
        for url in [
            "ftp://example.com/",
            "file:///etc/passwd",
            "example.com",
            "//example.com",
            "",
            "http://",
            "https://u:p@example.com/",
        ] {
            check(url, "", false);
        }
    }

    #[test]
    fn no_spelling_of_a_local_address_gets_through() {
        let spellings = "http://127.0.0.1/ http://127.1/ http://127.0.1/ http://0/ http://0.0.0.0/ http://2130706433/
            http://017700000001/ http://0x7f000001/ http://0x7F.1/ http://0177.0.0.1/ http://0177.0x0.1/
            http://00000177.0.0.1/ http://127.0.0.1./ http://127.1./ http://127.0.0.1:80/ http://127.0.0.1:/
            http://127.0.0.1?x http://127.0.0.1#x http://127.0.0.1\\x HTTP://127.0.0.1/ hTtPs://127.0.0.1/
            http:127.0.0.1 http:/127.0.0.1 http:///127.0.0.1 http:\\\\127.0.0.1 http:/\\127.0.0.1/
            http://%31%32%37.0.0.1/ http://127%2e0%2e0%2e1/ http://%30x7f.1/ http://１２７.0.0.1/
            http://127。0。0。1/ http://127．0．0．1/ http://①②⑦.0.0.1/ http://127.0.0.1%2f@example.com/
            http://169.254.169.254/latest/meta-data http://2852039166/ http://0xa9fea9fe/ http://0251.0376.0251.0376/
            http://[::ffff:a9fe:a9fe]/ http://168.63.129.16/ http://192.0.0.192/ http://100.100.100.200/
            http://[fd00:ec2::254]/ http://[fd20:ce::254]/ http://10.0.0.1/ http://172.31.255.255/
            http://192.168.1.1/ http://255.255.255.255/ http://[::1]/ http://[0:0:0:0:0:0:0:1]/ http://[::]/
            http://[::0001]:80/ http://[fe80::1]/ http://[ff02::1]/ http://[fec0::1]/ http://[100:0:0:1::1]/";
        spellings.split_whitespace().for_each(|url| check(url, "", false));
        for url in
            ["\thttp://127.0.0.1/", "ht\ntp://127.0.0.1/", "http://127.0.\r\n0.1/", " http://127.\t1/ \0"]
        {
            check(url, "", false);
        }
    }

    #[test]
    fn an_address_inside_an_address_is_found() {
        for (prefix, suffix) in [
            ("::ffff:", ""),          // mapped
            ("::", ""),               // compatible
            ("::ffff:0:", ""),        // translated
            ("64:ff9b::", ""),        // NAT64
            ("64:ff9b:1::", ""),      // local-use NAT64 is never called
            ("2002:", "::1"),         // 6to4
            ("2606:4700::5efe:", ""), // ISATAP
            ("2606:4700::200:5efe:", ""),
        ] {
            check(&format!("http://[{prefix}7f00:1{suffix}]/"), "", false);
            check(&format!("http://[{prefix}a9fe:a9fe{suffix}]/"), "", false);
            let is_public = !prefix.starts_with("64:ff9b:1:");
            check(&format!("http://[{prefix}5db8:d822{suffix}]/"), "", is_public);
        }
        check("http://[64:ff9b::127.0.0.1]/", "", false);
        check("http://[64:ff9b:1:7f00:0:100::]/", "", false);
        check("http://[2001:0:53aa:64c:0:fbff:80ff:fffe]/", "", false); // Teredo, its IPv4 address inverted
        check("http://[fe80::5efe:5db8:d822]/", "93.184.216.34/32", false);
    }

    #[test]
    fn what_is_no_plain_host_is_refused() {
        for url in [
            "http://good@127.0.0.1/",
            "http://good@example.com/",
            "http://good:@example.com/",
            "http://127.0.0.1%00.example.com/",
            "http://exa%6dple.com%2f.evil/",
            "http://[fe80::1%25eth0]/",
            "http://[fe80::1%eth0]/",
            "http://[::1/",
            "http://1.2.3.4.5/",
            "http://256.256.256.256/",
            "http://4294967296/",
            "http://0x/",
            "http://example.com:0/",
            "http://example.com:65536/",
            "http://example.com:80:80/",
            "http://exa mple.com/",
            "http://xn--/",
            "http://xn--a/",
            "https:",
            "javascript:alert(1)",
            "unix:///run/docker.sock",
            "gopher://127.0.0.1:6379/",
        ] {
            check(url, "", false);
        }
    }

    #[test]
    fn what_is_dialled_is_what_was_read() {
        for (text, read) in [
            ("hTTps://EXAMPLE.com:443/a#b", "https://example.com/a#b"),
            ("http:example.com", "http://example.com/"),
            ("http://example.com\\@127.0.0.1/", "http://example.com/@127.0.0.1/"),
            ("http://example.com#@127.0.0.1/", "http://example.com/#@127.0.0.1/"),
            ("http:\\\\example.com\\a", "http://example.com/a"),
            ("http://exa\nmple.com:/", "http://example.com/"),
            ("http://ｅｘａｍｐｌｅ．com/", "http://example.com/"),
            ("http://bücher.example/", "http://xn--bcher-kva.example/"),
            ("http://%65xample.com/", "http://example.com/"),
        ] {
            let url = Guard::default().parse(text).unwrap();
            assert_eq!(url.as_str(), read, "{text}");
            let dialled: hyper::Uri = url.as_str().parse().unwrap();
            assert_eq!(dialled.host(), url.host_str(), "{text}");
        }
    }

    #[test]
    fn an_allowed_range_may_be_called_in_any_spelling() {
        check("http://127.0.0.1:1234/", "127.0.0.0/8", true);
        check("http://[::ffff:127.0.0.1]/", "127.0.0.0/8", true);
        check("http://[::1]/", "127.0.0.0/8", false);
        check("http://10.1.2.3/", "10.1.0.0/16", true);
        check("http://10.2.2.3/", "10.1.0.0/16", false);
    }

    /// Answers the first question with the first list, the second with the second, and the last one for ever.
    #[derive(Debug)]
    struct Script(Vec<Vec<IpAddr>>, AtomicUsize);

    #[async_trait]
    impl Resolver for Script {
        async fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            let number = self.1.fetch_add(1, Ordering::Relaxed);
            Ok(self.0[number.min(self.0.len() - 1)].clone())
        }
    }

    fn answering(answers: &[&str]) -> (Guard, Arc<Script>) {
        let list = |text: &&str| text.split_whitespace().map(|address| address.parse().unwrap()).collect();
        let script = Arc::new(Script(answers.iter().map(list).collect(), AtomicUsize::new(0)));
        (Guard::resolving(&["127.0.0.1/32".parse().unwrap()], script.clone()), script)
    }

    #[tokio::test]
    async fn a_name_is_vetted_by_what_it_resolves_to() {
        assert!(Guard::default().vet("http://localhost:1/").await.is_err());
        let loopback = ["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        assert!(Guard::new(&loopback).vet("http://localhost:1/").await.is_ok());
        let error = Guard::default().vet("http://no-such-host.invalid/").await.unwrap_err();
        assert_eq!(error.to_string(), "its host name does not resolve");
    }

    #[tokio::test]
    async fn a_name_of_a_private_address_is_refused_whatever_it_is_called() {
        for (url, addresses, expected) in [
            ("http://example.com/", "93.184.216.34 2606:2800:220:1::1", true),
            ("http://localhost/", "127.0.0.2", false),
            ("http://localhost./", "127.0.0.2 ::1", false),
            ("http://LOCALHOST/", "::1", false),
            ("http://app.localhost/", "127.0.0.2", false),
            ("http://metadata.google.internal/", "169.254.169.254", false),
            ("http://metadata/", "fd20:ce::254", false),
            ("http://printer.local/", "192.168.1.9", false),
            ("http://api.internal/", "10.0.0.7", false),
            ("http://host.docker.internal/", "192.168.65.254", false),
            ("http://xn--bcher-kva.example/", "::ffff:10.0.0.1", false),
            ("http://127.0.0.1.nip.example/", "127.0.0.2", false),
            ("http://both.example/", "93.184.216.34 10.0.0.1", false),
            ("http://both.example/", "10.0.0.1 93.184.216.34", false),
            ("http://none.example/", "", false),
        ] {
            assert_eq!(answering(&[addresses]).0.vet(url).await.is_ok(), expected, "{url} at {addresses}");
        }
    }

    async fn send(guard: Guard, target: &str) -> Outcome {
        let parcel = Parcel::bare(target.parse().unwrap(), "{}");
        Sender::new(guard).unwrap().send(parcel, Timestamp::UNIX_EPOCH).await.0
    }

    #[tokio::test]
    async fn the_vetted_address_is_the_one_dialled() {
        let receiver = Receiver::start(|_| Some(().into_response())).await;
        let port = receiver.url.split([':', '/']).nth(4).unwrap();
        let target = format!("http://rebinding.example:{port}/");
        let (guard, script) = answering(&["127.0.0.1", "127.0.0.2"]);
        assert_eq!(send(guard.clone(), &target).await.status(), Some(200));
        assert_eq!(script.1.load(Ordering::Relaxed), 1, "nobody asked again between the check and the dial");
        assert_eq!(send(guard, &target).await.word(), "blocked");
        let (guard, _) = answering(&["127.0.0.1", "127.0.0.2"]);
        guard.vet(&target).await.unwrap();
        assert_eq!(send(guard, &target).await.word(), "blocked", "vetted when made, checked when dialled");
        assert_eq!(send(answering(&["127.0.0.1 127.0.0.2"]).0, &target).await.word(), "blocked");
        assert_eq!(receiver.received(1).await.len(), 1);
    }

    #[tokio::test]
    async fn no_answer_leads_anywhere_else() {
        let elsewhere = Receiver::start(|_| Some(().into_response())).await;
        let away = elsewhere.url.clone();
        let receiver = Receiver::start(move |number| {
            let status = [301, 302, 303, 307, 308, 300, 304, 200][number - 1];
            let headers = [("location", away.clone()), ("refresh", format!("0; url={away}"))];
            Some((StatusCode::from_u16(status).unwrap(), headers).into_response())
        })
        .await;
        let guard = Guard::new(&["127.0.0.1/32".parse().unwrap()]);
        for status in [301, 302, 303, 307, 308, 300, 304, 200] {
            assert_eq!(send(guard.clone(), &receiver.url).await.status(), Some(status));
        }
        assert!(timeout(Duration::ZERO, elsewhere.received(1)).await.is_err());
    }

    /// Runs itself in a process of its own, whose environment names a proxy: a test may not change its own.
    #[tokio::test]
    async fn a_proxy_of_the_environment_is_not_used() {
        if std::env::var_os("GATEHOOK_TEST_PROXIED").is_some() {
            let receiver = Receiver::start(|_| Some(().into_response())).await;
            let guard = Guard::new(&["127.0.0.1/32".parse().unwrap()]);
            assert_eq!(send(guard, &receiver.url).await.status(), Some(200));
            return;
        }
        let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        proxy.set_nonblocking(true).unwrap();
        let url = format!("http://{}", proxy.local_addr().unwrap());
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "target::tests::a_proxy_of_the_environment_is_not_used"]);
        child.env("GATEHOOK_TEST_PROXIED", "1").env_remove("NO_PROXY").env_remove("no_proxy");
        for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            child.env(name, &url);
        }
        let output = child.output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && shown.contains("1 passed"), "{shown}");
        assert_eq!(proxy.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
