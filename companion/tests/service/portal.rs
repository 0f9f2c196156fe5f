//! The portal's files as a browser gets them.

use crate::client::Companion;

const STRICT: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[tokio::test]
async fn the_page_and_what_it_loads_are_there_for_anybody_under_a_strict_policy() {
    let companion = Companion::start().await;
    for (path, media_type) in [
        ("/portal", "text/html; charset=utf-8"),
        ("/portal/portal.css", "text/css; charset=utf-8"),
        ("/portal/portal.js", "text/javascript; charset=utf-8"),
    ] {
        let answer = companion.send("GET", path, &[], "").await;
        assert_eq!(answer.status, 200, "{path}");
        let header = |name: &str| answer.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("content-type"), Some(media_type));
        assert_eq!(header("content-security-policy"), Some(STRICT));
        assert_eq!(header("x-content-type-options"), Some("nosniff"));
        assert_eq!(header("referrer-policy"), Some("no-referrer"));
        assert_eq!(header("cache-control"), Some("no-cache"));
        let etag = header("etag").unwrap();
        for (known, status) in [(etag, 304), (&format!("\"old\", W/{etag}"), 304), ("\"old\"", 200)] {
            let again = companion.send("GET", path, &[("if-none-match", known)], "").await;
            assert_eq!((again.status, again.headers.get("etag")), (status, answer.headers.get("etag")));
        }
    }
    assert_eq!(companion.send("GET", "/portal/secret.js", &[], "").await.status, 404);
    assert_eq!(companion.send("POST", "/portal", &[], "").await.status, 405);
    let slash = companion.send("GET", "/portal/", &[], "").await;
    assert_eq!((slash.status, slash.headers["location"].to_str().unwrap()), (308, "../portal"));
}

#[tokio::test]
async fn the_settings_say_whose_pages_may_show_it() {
    let flags = ["--embed-origins", "https://app.example.com,https://*.example.org"];
    let companion = Companion::start_with_flags(&flags).await;
    let answer = companion.send("GET", "/portal", &[], "").await;
    let policy = answer.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.ends_with("frame-ancestors https://app.example.com https://*.example.org"), "{policy}");
}
