// An operator's day: a subscription from its making to its end, and a credential from the first to the last.

import assert from "node:assert/strict";
import { enter, go, request, sees, settled, story, told } from "./browser.mjs";
import {
  deletes, edits, escapes, looksAround, makes, pauses, redelivers, replays, rotates, switches, watches,
} from "./steps.mjs";

await story(async (newPage) => {
  const page = await newPage();
  await enter(page);
  await sees(page, "No subscriptions yet");
  await looksAround(page);
  const secret = await makes(page, { target: told.receiver, events: "contact.*", description: "CRM", pings: 1 });
  await watches(page, { number: 1, type: "contact.create", count: 1 });
  await redelivers(page, { number: 1, type: "contact.create", count: 2 });
  await escapes(page, "Delete");
  await rotates(page, secret);
  await watches(page, { number: 2, type: "contact.update", count: 1 });

  await pauses(page, { number: 4, type: "contact.update", count: 2 });

  await switches(page, "off");
  await request({ do: "accept", number: 3, type: "contact.delete" });
  await switches(page, "on");
  await replays(page);
  await request({ do: "arrived", type: "contact.delete", count: 1 });

  page.expected = ["/v1/subscriptions/"]; // What is refused.
  await edits(page, "CRM of the sales team");

  // Reloading, going back: the address says where somebody is, and the tab who.
  await page.reload();
  await settled(page);
  await page.getByRole("heading", { name: "CRM of the sales team" }).waitFor();
  await go(page, "#/deliveries?status=delivered");
  assert.equal(await page.locator("tbody tr").count(), 4);
  await page.goBack();
  await page.getByRole("heading", { name: "CRM of the sales team" }).waitFor();
  await settled(page);
  await deletes(page);
  await sees(page, "No subscriptions yet");

  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Token").waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  await credentials(await newPage());
});

/** A token that is none, one that may only look, and one that ends meanwhile. */
async function credentials(page) {
  page.expected = ["/v1/"];
  await page.goto(`${told.portal}#token=nobody`);
  await sees(page, "This token or link is not valid, or it has expired.");
  const { id, token } = await request({ do: "make_token", scope: "read" });
  await page.getByLabel("Token").fill(token);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Subscriptions", exact: true }).waitFor();
  await settled(page);
  await request({ do: "end_token", id });
  await page.getByRole("link", { name: "Deliveries" }).click();
  await sees(page, "You are signed out: your token or link has expired.");
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
}
