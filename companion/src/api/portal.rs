//! The portal: the page with which people use the API, served from memory.
//!
//! It needs no credential, for it is code and nothing else: it asks the API with that of whoever looks at it. Its policy
//! lets it load nothing from elsewhere, and lets no page show it in a frame but those of the settings.

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

/// A file of the portal.
struct File {
    name: &'static str,
    media_type: &'static str,
    text: &'static str,
}

/// A file in `companion/portal`; the macro, because `include_str!` takes literals alone.
macro_rules! file {
    ($name:literal, $media_type:expr) => {
        File { name: $name, media_type: $media_type, text: include_str!(concat!("../../portal/", $name)) }
    };
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

const PAGE: File = file!("index.html", "text/html; charset=utf-8");

/// What the page loads.
const FILES: &[File] = &[
    file!("portal.css", "text/css; charset=utf-8"),
    file!("portal.js", SCRIPT),
    file!("api.js", SCRIPT),
    file!("dom.js", SCRIPT),
    file!("subscriptions.js", SCRIPT),
    file!("form.js", SCRIPT),
    file!("deliveries.js", SCRIPT),
    file!("activity.js", SCRIPT),
    file!("events.js", SCRIPT),
    file!("verify.js", SCRIPT),
];

/// The page at a path whose last segment is `portal`, and beneath it what it loads.
pub(super) fn router<S>(path: &str, embed_origins: &[String]) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let policy = policy(embed_origins);
    let serve = |file: &'static File| {
        let headers = headers(file, &policy);
        get(move |asked: HeaderMap| async move { answer(file, &headers, &asked) })
    };
    let page = Router::new()
        .route(path, serve(&PAGE))
        // What the page names is relative to the path without the slash.
        .route(&format!("{path}/"), get(|| async { Redirect::permanent("../portal") }));
    FILES.iter().fold(page, |router, file| router.route(&format!("{path}/{}", file.name), serve(file)))
}

/// What the page may do, and who may show it in a frame (CSP Level 3).
fn policy(embed_origins: &[String]) -> String {
    let ancestors = match embed_origins {
        [] => "'none'".to_owned(),
        origins => origins.join(" "),
    };
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors {ancestors}"
    )
}

/// The headers of a file: browsers keep it and ask each time whether it is still this one.
fn headers(file: &File, policy: &str) -> HeaderMap {
    let digest: String =
        Sha256::digest(file.text).iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    let values: [(HeaderName, &str); 6] = [
        (CONTENT_TYPE, file.media_type),
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-cache"),
        (ETAG, &format!("\"{digest}\"")),
    ];
    // The settings let no origin pass that is not visible ASCII.
    let values =
        values.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_str(value).ok()?)));
    values.collect()
}

fn answer(file: &File, headers: &HeaderMap, asked: &HeaderMap) -> Response {
    let known = asked.get_all(IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
    let mut known = known.flat_map(|tags| tags.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
    let own = headers.get(ETAG).and_then(|tag| tag.to_str().ok());
    match known.any(|tag| tag == "*" || Some(tag) == own) {
        true => (StatusCode::NOT_MODIFIED, headers.clone()).into_response(),
        false => (headers.clone(), file.text).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_another_names_is_served() {
        let served: Vec<&str> = FILES.iter().map(|file| file.name).collect();
        for file in FILES.iter().chain([&PAGE]) {
            let named = file.text.split(['"', '\'']).filter_map(|text| {
                text.strip_prefix("./")
                    .or_else(|| text.strip_prefix("portal/"))
                    .filter(|name| name.contains('.'))
            });
            for name in named {
                assert!(served.contains(&name), "{} names {name}", file.name);
            }
        }
    }

    /// Whoever adds to it may have to take something away.
    #[test]
    fn the_page_stays_small() {
        let bytes: usize = FILES.iter().chain([&PAGE]).map(|file| file.text.len()).sum();
        assert!(bytes <= 84 << 10, "{bytes} bytes");
    }

    #[test]
    fn nobody_shows_it_in_a_frame_unless_the_settings_say_so() {
        assert!(policy(&[]).ends_with("frame-ancestors 'none'"));
        let origins = ["https://app.example.com".to_owned(), "https://*.example.org".to_owned()];
        assert!(policy(&origins).ends_with("frame-ancestors https://app.example.com https://*.example.org"));
    }
}
