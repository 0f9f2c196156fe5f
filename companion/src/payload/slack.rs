//! A message for Slack's incoming webhooks: one line that says what happened, one that names what changed.
//!
//! Pure. The text is Slack's mrkdwn, in which `&`, `<` and `>` are escaped, so no event can make a link or a mention.

use bytes::Bytes;
use serde_json::json;

use crate::limits;
use crate::model::Event;

/// `{"text","blocks"}`; `text` is what a notification shows.
pub(super) fn message(event: &Event) -> Bytes {
    let text = text(event);
    let section = json!({
        "type": "section",
        "text": { "type": "mrkdwn", "text": escaped(&text, limits::SLACK_SECTION) },
    });
    json!({ "text": escaped(&text, limits::SLACK_TEXT), "blocks": [section] }).to_string().into()
}

/// `*contact.update* /contacts/7 by ada`, and the fields that changed on a line of their own.
fn text(event: &Event) -> String {
    let mut text = format!("*{}*", event.event_type);
    if let Some(subject) = &event.subject {
        text.push_str(&format!(" {subject}"));
    }
    let extension = |name| event.extensions.get(name).map(|json| json.get());
    if let Some(actor) = extension("actor").and_then(|json| serde_json::from_str::<String>(json).ok()) {
        text.push_str(&format!(" by {actor}"));
    }
    let changed = extension("changed").and_then(|json| serde_json::from_str::<Vec<String>>(json).ok());
    let changed = changed.unwrap_or_default();
    if !changed.is_empty() {
        let names: Vec<_> = changed.iter().map(|pointer| pointer.trim_start_matches('/')).collect();
        text.push_str(&format!("\nchanged: {}", names.join(", ")));
    }
    text
}

/// Escaped as mrkdwn wants it, cut to `most` characters; a cut never stands within an escape.
fn escaped(text: &str, most: usize) -> String {
    let (mut escaped, mut count) = (String::with_capacity(text.len().min(most)), 0);
    for character in text.chars() {
        let mut buffer = [0; 4];
        let piece = match character {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            _ => character.encode_utf8(&mut buffer),
        };
        count += piece.chars().count();
        if count >= most {
            escaped.push('…');
            break;
        }
        escaped.push_str(piece);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::payload::tests::{event, extended};

    /// The fallback and the section's text.
    fn texts(event: &Event) -> (String, String) {
        let message: Value = serde_json::from_slice(&message(event)).unwrap();
        assert_eq!(message["blocks"][0]["text"]["type"], "mrkdwn");
        let text = |pointer| message.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        (text("/text"), text("/blocks/0/text/text"))
    }

    #[test]
    fn a_message_says_what_happened_and_what_changed() {
        let bare = event(None, None);
        assert_eq!(texts(&bare).1, "*contact.create* /contacts/1");
        let event = extended(bare, &[("actor", r#""ada""#), ("changed", r#"["/name","/card/number"]"#)]);
        let expected = "*contact.create* /contacts/1 by ada\nchanged: name, card/number";
        assert_eq!(texts(&event), (expected.into(), expected.into()));
    }

    #[test]
    fn an_event_can_make_no_link_and_no_mention() {
        let event = extended(event(None, None), &[("actor", r#""<!channel> & <https://x|y>""#)]);
        let expected = "*contact.create* /contacts/1 by &lt;!channel&gt; &amp; &lt;https://x|y&gt;";
        assert_eq!(texts(&event).1, expected);
    }

    #[test]
    fn texts_are_cut_to_what_slack_takes_and_never_within_an_escape() {
        for actor in ["é", "&"] {
            for shift in ["", "x", "xx", "xxx", "xxxx"] {
                let actor = format!("\"{shift}{}\"", actor.repeat(5_000));
                let (text, section) = texts(&extended(event(None, None), &[("actor", &actor)]));
                for (cut, most) in [(&text, limits::SLACK_TEXT), (&section, limits::SLACK_SECTION)] {
                    let count = cut.chars().count();
                    assert!((most - 5..=most).contains(&count), "{count} of {most}");
                    assert!(cut.ends_with("é…") || cut.ends_with("&amp;…"), "{}", &cut[cut.len() - 9..]);
                }
            }
        }
    }
}
