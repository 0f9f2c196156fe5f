//! `gatehook verify`.

use crate::gatehook;

/// The example of the specification.
const DELIVERY: [&str; 9] = [
    "verify",
    "--secret",
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "--header",
    "Webhook-Id: msg_p5jXN8AQM9LWM0D4loKWxJek",
    "--header",
    "webhook-timestamp: 1614265330",
    "--header",
    "webhook-signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
];

#[test]
fn a_genuine_delivery_succeeds_and_any_other_says_why_not() {
    let body = r#"{"test": 2432232314}"#;
    let at = ["--at", "2021-02-25T15:02:10Z"];
    let printed = gatehook(&[&DELIVERY[..], &at].concat(), body);
    assert_eq!((printed.code, printed.err.as_str()), (Some(0), ""));
    assert_eq!(printed.out, "valid: msg_p5jXN8AQM9LWM0D4loKWxJek, sent 2021-02-25T15:02:10Z\n");
    let late = gatehook(&DELIVERY, body);
    assert_eq!(late.code, Some(1));
    assert!(late.out.starts_with("not valid: the signature holds, but"), "{}", late.out);
    let changed = gatehook(&[&DELIVERY[..], &at, &["--json"]].concat(), &format!("{body}\n"));
    assert_eq!(changed.code, Some(1));
    let json: serde_json::Value = serde_json::from_str(&changed.out).unwrap();
    assert_eq!(json["valid"], false);
    assert!(json["reason"].as_str().unwrap().contains("a line break was added at its end"), "{json}");
    let wrong = gatehook(&["verify", "--secret", "hush", "--header", "webhook-id: 1"], body);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.err.contains("--secret") && wrong.err.contains("whsec_"), "{}", wrong.err);
}
