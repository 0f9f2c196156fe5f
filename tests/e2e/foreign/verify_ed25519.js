// Verifies an Ed25519 delivery with the published keys alone; anything but success is an exception.
const { createPublicKey, verify } = require("node:crypto");
const delivery = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
const { headers, body, jwks } = delivery;
const message = Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`);
const signatures = headers["webhook-signature"].split(" ").map((part) => Buffer.from(part.replace(/^v1a,/, ""), "base64"));
const keys = jwks.keys.map((key) => createPublicKey({ key, format: "jwk" }));
if (!keys.some((key) => signatures.some((signature) => verify(null, message, key, signature)))) {
  throw new Error("WebhookVerificationError: no key verifies");
}
