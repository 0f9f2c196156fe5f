// What to paste into a receiver, so that it believes nobody but us: with the libraries of Standard Webhooks.

import { keysAt } from "./api.js";
import { block, code, copyable, h, heading, radios } from "./dom.js";

/** Language, how to get the library, a receiver that verifies. */
const LANGUAGES = [
  ["JavaScript", "npm install standardwebhooks", `import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env.WEBHOOK_SECRET); // whsec_…

createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  try {
    // The bytes as they came: parsing and writing them again would change them.
    const event = webhook.verify(Buffer.concat(chunks), request.headers);
    console.log(request.headers["webhook-id"], event.type);
    response.writeHead(204).end();
  } catch {
    response.writeHead(400).end();
  }
}).listen(process.env.PORT ?? 3000);
`],
  ["Python", "pip install standardwebhooks", `import os
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["WEBHOOK_SECRET"])  # whsec_…


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            event = webhook.verify(body, dict(self.headers))
        except WebhookVerificationError:
            self.send_response(400)
        else:
            print(self.headers["webhook-id"], event["type"])
            self.send_response(204)
        self.end_headers()


HTTPServer(("", int(os.environ.get("PORT", "3000"))), Receiver).serve_forever()
`],
  ["Go", "go get github.com/standard-webhooks/standard-webhooks/libraries/go", `package main

import (
	"io"
	"log"
	"net/http"
	"os"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

func main() {
	webhook, err := standardwebhooks.NewWebhook(os.Getenv("WEBHOOK_SECRET")) // whsec_…
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil || webhook.Verify(body, r.Header) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		log.Println(r.Header.Get("webhook-id"), string(body))
		w.WriteHeader(http.StatusNoContent)
	})
	log.Fatal(http.ListenAndServe(":3000", nil))
}
`],
  ["Ruby", "gem install standardwebhooks rack", `# config.ru
require "standardwebhooks"

webhook = StandardWebhooks::Webhook.new(ENV.fetch("WEBHOOK_SECRET")) # whsec_…
names = %w[webhook-id webhook-timestamp webhook-signature]

run lambda { |env|
  headers = names.to_h { |name| [name, env["HTTP_" + name.upcase.tr("-", "_")]] }
  begin
    event = webhook.verify(env["rack.input"].read, headers)
    puts "#{headers["webhook-id"]} #{event["type"]}"
    [204, {}, []]
  rescue StandardWebhooks::WebhookVerificationError
    [400, {}, []]
  end
}
`],
  ["Rust", "cargo add standardwebhooks axum tokio --features tokio/full", `use axum::{Router, body::Bytes, http::{HeaderMap, StatusCode}, routing::post};
use standardwebhooks::Webhook;

async fn receive(headers: HeaderMap, body: Bytes) -> StatusCode {
    let secret = std::env::var("WEBHOOK_SECRET").expect("WEBHOOK_SECRET is set"); // whsec_…
    let webhook = Webhook::new(&secret).expect("the secret is base64");
    if webhook.verify(&body, &headers).is_err() {
        return StatusCode::BAD_REQUEST;
    }
    println!("{:?} {}", headers.get("webhook-id"), String::from_utf8_lossy(&body));
    StatusCode::NO_CONTENT
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("0.0.0.0:3000").await?;
    axum::serve(listener, Router::new().route("/", post(receive))).await
}
`],
];

export function view() {
  const place = h("div", { "aria-live": "polite" });
  const show = (chosen) => {
    const [, install, text] = LANGUAGES.find(([language]) => language === chosen);
    place.replaceChildren(copyable(install, "Installation"),
      copyable(text, "Receiver", block(text, `${chosen} receiver`)));
  };
  const first = LANGUAGES[0][0];
  show(first);
  return [
    heading("Verify deliveries"),
    h("p", null, "Anybody can POST to your receiver. Our deliveries are signed as Standard Webhooks 1.0 says, ",
      "and a library checks that."),
    radios("Language", LANGUAGES.map(([language]) => [language, language]), first, show), place,
    h("h2", null, "What to know"),
    h("ul", { class: "prose" },
      h("li", null, code("WEBHOOK_SECRET"), " is the secret that was shown when the subscription was made."),
      h("li", null, "Verify the body byte for byte as it came, before anything parses it."),
      h("li", null, "Deliveries are made at least once: remember each ", code("webhook-id"),
        ", and do nothing where it comes again."),
      h("li", null, "Answer 2xx within 15 s, and do slow work later. 410 turns the subscription off; ",
        "after anything else we try again."),
      h("li", null, "While a secret is rotated, deliveries bear two signatures, and either secret verifies."),
      h("li", null, "With ", code("signing: ed25519"), " there is no secret: the public keys are at ",
        code(keysAt), ".")),
  ];
}
