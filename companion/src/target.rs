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

use hyper_util::client::legacy::connect::dns::Name;
use ipnet::IpNet;
use url::{Host, Url};

use crate::limits;

/// Address ranges that are never a webhook receiver on the public internet (IANA special-purpose registries,
/// RFC 6890 and its updates). Mapped and translated IPv4 addresses are unwrapped before they are looked up.
const SPECIAL: &[&str] = &[
    "0.0.0.0/8",       // this network
    "10.0.0.0/8",      // private
    "100.64.0.0/10",   // shared by carriers
    "127.0.0.0/8",     // loopback
    "169.254.0.0/16",  // link-local, and the metadata service of most clouds
    "172.16.0.0/12",   // private
    "192.0.0.0/24",    // protocol assignments
    "192.0.2.0/24",    // documentation
    "192.88.99.0/24",  // 6to4 relays, deprecated
    "192.168.0.0/16",  // private
    "198.18.0.0/15",   // benchmarks
    "198.51.100.0/24", // documentation
    "203.0.113.0/24",  // documentation
    "224.0.0.0/4",     // multicast
    "240.0.0.0/4",     // reserved, broadcast
    "::/128",          // unspecified
    "::1/128",         // loopback
    "64:ff9b:1::/48",  // local-use NAT64
    "100::/64",        // discard
    "2001::/23",       // protocol assignments, Teredo
    "2001:db8::/32",   // documentation
    "3fff::/20",       // documentation
    "5f00::/16",       // segment routing
    "fc00::/7",        // unique local, the metadata service of one cloud
    "fe80::/10",       // link-local
    "fec0::/10",       // site-local, deprecated
    "ff00::/8",        // multicast
];

static SPECIAL_NETS: LazyLock<Vec<IpNet>> =
    LazyLock::new(|| SPECIAL.iter().filter_map(|net| net.parse().ok()).collect());

/// Decides which targets may be called, and resolves names for the sender.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    allowed: Arc<[IpNet]>,
}

/// A target that may not be called, and why. The text is meant for the subscription's owner.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Blocked(pub String);

impl Guard {
    /// `allowed` lists ranges that may be called although they are special (`--allow-targets`).
    pub fn new(allowed: &[IpNet]) -> Self {
        Self { allowed: allowed.into() }
    }

    /// Reads a `target_url` and checks all that can be known without asking DNS.
    ///
    /// # Errors
    /// A sentence for the owner: not a URL, not http or https, credentials in it, or an address that is not allowed.
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
            self.resolve(name.to_owned(), url.port_or_known_default().unwrap_or(0)).await?;
        }
        Ok(url)
    }

    /// Whether an address may be dialled.
    ///
    /// # Errors
    /// Says that it may not. It does not say which range it fell into: that would help to map a network.
    pub fn check(&self, address: IpAddr) -> Result<(), Blocked> {
        let address = unwrapped(address);
        let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
        if within(&SPECIAL_NETS) && !within(&self.allowed) {
            return Err(Blocked(
                "its address is private, local or reserved, which this service may not call".into(),
            ));
        }
        Ok(())
    }

    async fn resolve(&self, name: String, port: u16) -> Result<Vec<SocketAddr>, Blocked> {
        let found = tokio::net::lookup_host((name.as_str(), port)).await;
        let addresses: Vec<SocketAddr> =
            found.map_err(|_| Blocked("its host name does not resolve".into()))?.collect();
        for address in &addresses {
            self.check(address.ip())?;
        }
        Ok(addresses)
    }
}

/// The IPv4 address inside a mapped (RFC 4291), compatible, NAT64 (RFC 6052) or 6to4 (RFC 3056) IPv6 address.
fn unwrapped(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let embedded = match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some((high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if v6 != Ipv6Addr::UNSPECIFIED && v6 != Ipv6Addr::LOCALHOST => {
            Some((high, low))
        }
        _ => None,
    };
    embedded.map_or(address, |(high, low)| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)).into())
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
        // The connector puts the URL's port into the addresses itself.
        Box::pin(async move { guard.resolve(name.as_str().to_owned(), 0).await.map(IntoIterator::into_iter) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://0/",
            "http://10.0.0.1/",
            "http://172.31.255.255/",
            "http://192.168.1.1/",
            "http://169.254.169.254/latest/meta-data",
            "http://100.100.100.200/",
            "http://[::1]/",
            "http://[::]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[64:ff9b:1::1]/",
            "http://[2002:7f00:1::]/",
            "http://[::127.0.0.1]/",
            "http://[fd00:ec2::254]/",
            "http://[fe80::1]/",
            "http://[ff02::1]/",
            "http://１２７.0.0.1/",
            "http://255.255.255.255/",
        ] {
            check(url, "", false);
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

    #[tokio::test]
    async fn a_name_is_vetted_by_what_it_resolves_to() {
        assert!(Guard::default().vet("http://localhost:1/").await.is_err());
        let loopback = ["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        assert!(Guard::new(&loopback).vet("http://localhost:1/").await.is_ok());
        let error = Guard::default().vet("http://no-such-host.invalid/").await.unwrap_err();
        assert_eq!(error.to_string(), "its host name does not resolve");
    }
}
