// A tenant's day, with a token of the API's own issuer; what another tenant sees of it, which is nothing; and what an operator
// sees, which is both.

import assert from "node:assert/strict";
import { DESKTOP, PHONE, enter, go, looksGood, request, sees, settled, story, told } from "./browser.mjs";
import { makes, redelivers, rotates, watches } from "./steps.mjs";

const idOf = (page) => decodeURIComponent(new URL(page.url()).hash.split("/")[2]);

await story(async (newPage) => {
  const acme = await newPage();
  await enter(acme);
  await sees(acme, "No subscriptions yet");
  await sees(acme, "acme");
  assert.equal(await acme.getByRole("link", { name: "Unmatched" }).count(), 0);
  const target = { target: told.receiver, events: "*", description: "Ours", pings: 1 };
  const secret = await makes(acme, target);
  await watches(acme, { number: 1, type: "contact.create", count: 1 });
  await redelivers(acme, { number: 1, type: "contact.create", count: 2 });
  await rotates(acme, secret);
  await watches(acme, { number: 2, type: "contact.update", count: 1 });
  const subscription = idOf(acme);
  await go(acme, "#/deliveries");
  await acme.locator("tbody a").first().click();
  await acme.getByRole("heading", { name: "Attempts (1)" }).waitFor();
  const delivery = idOf(acme);

  // Another tenant sees none of it, wherever it looks.
  const blue = await newPage();
  await enter(blue, "#/subscriptions", told.other);
  await sees(blue, "No subscriptions yet");
  await go(blue, "#/deliveries");
  await sees(blue, "No deliveries");
  await go(blue, "#/events");
  assert(!(await blue.content()).includes("contact."));
  blue.expected = [subscription, delivery, "contact.create"];
  for (const route of [`subscriptions/${subscription}`, `subscriptions/${subscription}/edit`, `deliveries/${delivery}`, "events/contact.create"]) {
    await go(blue, `#/${route}`);
    await blue.getByRole("heading", { name: "Not found" }).waitFor();
    assert(!(await blue.content()).includes("Ours"), route);
  }
  blue.expected = [];

  // A link of the operator's is as good as a token.
  const { link } = await request({ do: "link", tenant: "acme" });
  const guest = await newPage();
  await enter(guest, "#/subscriptions", { link });
  await guest.getByRole("link", { name: "Ours" }).waitFor();

  // The operator sees both, what has passed, and what fitted no rule with the rule for it.
  await request({ do: "subscribe", tenant: "blue" });
  await request({ do: "unmatched" });
  const operator = await newPage();
  await enter(operator, "#/subscriptions", told.operator);
  assert.equal(await operator.locator("tbody tr").count(), 2);
  await go(operator, "#/events");
  await operator.getByRole("link", { name: "contact.create" }).waitFor();
  await go(operator, "#/events/contact.create");
  await sees(operator, '"required"');
  await go(operator, "#/unmatched");
  await sees(operator, "/v1/users/{id}/settings");
  await sees(operator, '"noun"');

  await pictures(newPage, subscription, delivery, link);
});

/** Every view that a tenant has, with what has happened in it, and those that operators alone have. */
async function pictures(newPage, subscription, delivery, link) {
  const request = (page) => page.getByText("Request", { exact: true }).click();
  const views = [
    ["subscriptions", "#/subscriptions"], ["subscription", `#/subscriptions/${subscription}`], ["subscription-new", "#/subscriptions/new"],
    ["deliveries", "#/deliveries"], ["delivery", `#/deliveries/${delivery}`, request], ["activity", "#/activity"],
    ["events", "#/events"], ["event", "#/events/contact.create"], ["verify", "#/verify"],
  ];
  const whose = { tenant: [{ link }, views], operator: [told.operator, [...views.slice(5, 8), ["unmatched", "#/unmatched"]]] };
  for (const viewport of [DESKTOP, PHONE]) {
    for (const scheme of ["light", "dark"]) {
      for (const [name, [who, all]] of Object.entries(whose)) {
        const page = await newPage(viewport, scheme);
        await enter(page, "#/subscriptions", who);
        for (const [view, route, prepare] of all) {
          await go(page, route);
          await prepare?.(page);
          await settled(page);
          await looksGood(page, `${name}-${view}`);
        }
        await page.context().close();
      }
    }
  }
}
