const { readFileSync } = require("node:fs");
const { Webhook } = require("standardwebhooks");

const delivery = JSON.parse(readFileSync(0, "utf8"));
new Webhook(delivery.secret).verify(delivery.body, delivery.headers);
