//! The URL of a queue: its https URL with another scheme, `sqs://sqs.eu-west-1.amazonaws.com/123456789012/gatehook`.
//!
//! For other servers and other ways there are `?region=…` and `?endpoint=http://127.0.0.1:5000`.

use anyhow::{Context, bail, ensure};
use url::Url;

/// Where a queue is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// What SQS calls the queue.
    pub(super) queue: String,
    /// Where requests go.
    pub(super) endpoint: String,
    /// The region, where the URL tells it.
    pub(super) region: Option<String>,
}

impl Place {
    /// Reads a URL.
    ///
    /// # Errors
    /// One sentence that says what is wrong with it.
    pub(super) fn parse(url: &str) -> anyhow::Result<Self> {
        let shown = || format!("`{}` is no URL of an SQS queue", crate::store::redacted(url));
        let parsed = Url::parse(url).with_context(shown)?;
        let has_user = !parsed.username().is_empty() || parsed.password().is_some();
        ensure!(
            !has_user,
            "{}: credentials come from the environment or a profile, as for other AWS clients",
            shown()
        );
        let host = parsed.host_str().filter(|host| !host.is_empty());
        let host = host.with_context(|| format!("{}: it names no host", shown()))?;
        let (mut endpoint, mut region) = (None, region_of(host).map(str::to_owned));
        for (name, value) in parsed.query_pairs() {
            match &*name {
                "endpoint" => endpoint = Some(value.into_owned()),
                "region" => region = Some(value.into_owned()),
                _ => bail!("{}: the parameters are endpoint and region, not {name}", shown()),
            }
        }
        let authority = parsed.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let endpoint = endpoint.unwrap_or_else(|| format!("https://{authority}"));
        let scheme = endpoint.split_once("://").map(|(scheme, _)| scheme);
        let Some(scheme @ ("http" | "https")) = scheme.filter(|_| Url::parse(&endpoint).is_ok()) else {
            bail!("{}: the endpoint is no http(s) URL", shown());
        };
        let path = parsed.path();
        let name = path.rsplit('/').next().unwrap_or_default();
        ensure!(!name.is_empty(), "{}: it names no queue", shown());
        ensure!(
            !name.ends_with(".fifo"),
            "the queue {name} is a FIFO queue, which lets one slow delivery hold up the others: use a standard queue"
        );
        Ok(Self { queue: format!("{scheme}://{authority}{path}"), endpoint, region })
    }
}

/// The region in a host of AWS: `sqs.REGION.amazonaws.com`, `vpce-….sqs.REGION.vpce.amazonaws.com`, `REGION.queue.amazonaws.com`.
fn region_of(host: &str) -> Option<&str> {
    let mut labels = host.split('.').peekable();
    let mut before = None;
    while let Some(label) = labels.next() {
        match label {
            "sqs" | "sqs-fips" => return labels.next().filter(|_| labels.any(|label| label == "amazonaws")),
            "queue" if labels.peek() == Some(&"amazonaws") => return before,
            _ => before = Some(label),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_queue_endpoint_and_region() {
        let check = |url: &str, queue: &str, endpoint: &str, region: Option<&str>| {
            let (queue, endpoint, region) = (queue.into(), endpoint.into(), region.map(str::to_owned));
            assert_eq!(Place::parse(url).unwrap(), Place { queue, endpoint, region }, "{url}");
        };
        let aws = "https://sqs.eu-west-1.amazonaws.com";
        check("sqs://sqs.eu-west-1.amazonaws.com/1/g", &format!("{aws}/1/g"), aws, Some("eu-west-1"));
        let china = "https://sqs.cn-north-1.amazonaws.com.cn";
        check(
            "sqs://sqs.cn-north-1.amazonaws.com.cn/1/g",
            &format!("{china}/1/g"),
            china,
            Some("cn-north-1"),
        );
        let old = "https://eu-west-1.queue.amazonaws.com";
        check("sqs://eu-west-1.queue.amazonaws.com/1/g", &format!("{old}/1/g"), old, Some("eu-west-1"));
        let private = "https://vpce-1-a.sqs.eu-west-1.vpce.amazonaws.com";
        let url = "sqs://vpce-1-a.sqs.eu-west-1.vpce.amazonaws.com/1/g";
        check(url, &format!("{private}/1/g"), private, Some("eu-west-1"));
        let url = "sqs://127.0.0.1:5000/1/g?endpoint=http://127.0.0.1:1&region=r";
        check(url, "http://127.0.0.1:5000/1/g", "http://127.0.0.1:1", Some("r"));
        check("sqs://mq.example:9324/q/g", "https://mq.example:9324/q/g", "https://mq.example:9324", None);
    }

    #[test]
    fn a_wrong_url_is_told() {
        let check = |url: &str, words: &str| {
            let error = format!("{:#}", Place::parse(url).unwrap_err());
            assert!(error.contains(words) && !error.contains("hush"), "{error}");
        };
        check("sqs:", "it names no host");
        check("sqs:///1/g", "it names no host");
        check("sqs://h/", "it names no queue");
        check("sqs://h/1/g?endpoint=ftp://x", "the endpoint is no http(s) URL");
        check("sqs://h/1/g?wait=5", "the parameters are endpoint and region, not wait");
        check("sqs://key:hush@h/1/g", "credentials come from the environment");
        check("sqs://h/1/g.fifo", "g.fifo is a FIFO queue");
    }
}
