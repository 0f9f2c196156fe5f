//! The URLs of strangers: whatever the guard lets through is dialled where it looked, and nowhere inside.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use companion::target::Guard;
use hyper::Uri;
use url::Host;

use super::{Reading, Target};

pub(super) const TARGET: Target = Target {
    name: "target-urls",
    percent: 9,
    words: &[
        "http://",
        "https://",
        "HTTP:\\\\",
        "//",
        "\\",
        "@",
        "a:b@",
        "%40",
        "#",
        "?",
        ":0",
        ":80",
        ":65536",
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "0177.0.0.1",
        "2130706433",
        "0",
        "169.254.169.254",
        "10.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1%25eth0]",
        "localhost",
        "example.com",
        "xn--",
        "\u{ff11}\u{ff12}\u{ff17}",
        "\u{3002}",
        "\u{2024}",
        "%31",
        "%2e",
        "\t",
        "\r\n",
        " ",
        "..",
        "/../",
    ],
    play,
    bytes: 64 << 10,
    per_byte: 64,
};

fn play(input: &[u8]) -> Result<Reading> {
    let Ok(text) = std::str::from_utf8(input) else { return Ok(Reading::refused("no text")) };
    let url = match Guard::default().parse(text) {
        Ok(url) => url,
        Err(blocked) => {
            ensure!(!blocked.0.is_empty(), "a refusal has words: {text}");
            return Ok(Reading::refused(&blocked.0));
        }
    };
    ensure!(matches!(url.scheme(), "http" | "https"), "http alone: {url}");
    if let Some(Host::Ipv4(address)) = url.host() {
        let inside = address.is_private()
            || address.is_loopback()
            || address.is_link_local()
            || address.is_unspecified()
            || address.is_broadcast()
            || address.is_multicast()
            || address.is_documentation();
        ensure!(!inside, "no address inside: {url}");
    }
    if let Some(Host::Ipv6(address)) = url.host() {
        let inside = address.is_loopback()
            || address.is_unspecified()
            || address.is_multicast()
            || address.is_unique_local()
            || address.is_unicast_link_local();
        ensure!(!inside, "no address inside: {url}");
    }
    // The sender is given another parser's reading of it, which must be the same.
    let Ok(uri) = url.as_str().parse::<Uri>() else { return Ok(Reading::refused("no URI")) };
    let host = url.host_str().context("a host: none")?;
    ensure!(uri.host() == Some(host), "the host that was vetted is dialled: {url} is {:?}", uri.host());
    ensure!(uri.port_u16() == url.port(), "the port that was vetted is dialled: {url}");
    let literal = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let kinds =
        (url.scheme(), literal, url.port().is_some(), url.query().is_some(), url.fragment().is_some());
    Ok(Reading::taken(&format!("{kinds:?} {}", host.contains("xn--"))))
}
