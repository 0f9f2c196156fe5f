// What people do in the portal, step by step: an operator and a tenant do the same.

import assert from "node:assert/strict";
import { go, looksGood, request, sees, settled } from "./browser.mjs";

const press = (place, name) => place.getByRole("button", { name, exact: true }).click();

/** The first stop of the keyboard leads past the navigation; the switch to dark is kept over a reload. */
export async function looksAround(page) {
  await page.reload();
  await settled(page);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to content");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  await press(page, "Dark");
  const paper = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const dark = await paper();
  await page.reload();
  await settled(page);
  assert.equal(await paper(), dark);
  await press(page, "Dark");
  assert.notEqual(await paper(), dark);
}

/** Makes a subscription, and sees it tested; gives its secret. The receiver verifies the second ping. */
export async function makes(page, { target, events, description, pings }) {
  await go(page, "#/subscriptions/new");
  await page.getByLabel("Target URL").fill(target);
  await page.locator("input#events").fill(events);
  await press(page, "Add");
  await page.getByLabel("Description").fill(description);
  await press(page, "Make it");
  const secret = await page.locator(".secret code").innerText();
  assert.match(secret, /^whsec_/);
  await sees(page, "The receiver took the ping");
  await request({ do: "trust", secret });
  await press(page, "Ping again");
  await request({ do: "arrived", type: "gatehook.ping", count: pings });
  await sees(page, "HTTP 200");
  await looksGood(page, "subscription-made");
  await page.getByRole("link", { name: "Go to the subscription" }).click();
  await page.getByRole("heading", { name: description, level: 1 }).waitFor();
  await settled(page);
  assert(!(await page.content()).includes(secret), "the secret is shown once");
  return secret;
}

/** An event comes, and its delivery appears by itself in the list at hand. */
export async function watches(page, { number, type, count }) {
  const before = await page.locator("tbody tr").count();
  await request({ do: "accept", number, type });
  await page.locator("tr", { hasText: `/contacts/${number}` }).getByText("delivered", { exact: true }).waitFor();
  assert.equal(await page.locator("tbody tr").count(), before + 1);
  assert.match(await page.locator("#announcer").innerText(), /delivery|deliveries/i);
  await request({ do: "arrived", type, count });
}

/** A page out of sight asks for nothing, and when it is back it shows what came. */
export async function pauses(page, { number, type, count }) {
  const hide = (hidden) => page.evaluate((value) => {
    Object.defineProperty(document, "hidden", { value, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  await hide(true);
  await page.getByText("Paused", { exact: true }).waitFor();
  await request({ do: "accept", number, type });
  await request({ do: "arrived", type, count });
  assert.equal(await page.getByText(`/contacts/${number}`, { exact: true }).count(), 0);
  await hide(false);
  await page.getByText("Live", { exact: true }).waitFor();
  await page.getByText(`/contacts/${number}`, { exact: true }).waitFor();
}

/** Looks at a delivery of the list at hand, and has it made again. */
export async function redelivers(page, { number, type, count }) {
  await page.locator("tr", { hasText: `/contacts/${number}` }).getByRole("link", { name: type }).click();
  await page.getByRole("heading", { name: "Attempts (1)" }).waitFor();
  await sees(page, "HTTP 200");
  await press(page, "Redeliver");
  await page.getByRole("heading", { name: "Attempts (2)" }).waitFor();
  await request({ do: "arrived", type, count });
  await page.goBack();
  await settled(page);
}

/** Has a new secret made; the receiver is told. */
export async function rotates(page, old) {
  await press(page, "Rotate secret");
  const dialog = page.getByRole("dialog", { name: "Rotate the secret" });
  await dialog.getByLabel("The old secret signs too for").selectOption("1h");
  await press(dialog, "Rotate");
  const secret = await dialog.locator(".secret code").innerText();
  assert.notEqual(secret, old);
  await sees(dialog, "The old one signs too, until");
  await press(dialog, "Done");
  await request({ do: "trust", secret });
}

/** Escape closes a dialog, and the focus is where it was. */
export async function escapes(page, name) {
  const trigger = page.getByRole("button", { name, exact: true });
  await trigger.focus();
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  assert.equal(await page.evaluate(() => document.activeElement.textContent), name);
}

export async function switches(page, to) {
  await press(page, `Switch ${to}`);
  if (to === "off") await press(page.getByRole("dialog"), "Switch off");
  await page.locator("main .badge", { hasText: new RegExp(`^${to}$`) }).first().waitFor();
  await settled(page);
}

/** Has the past replayed, and sees it end. */
export async function replays(page) {
  await press(page, "Recover or replay");
  const dialog = page.getByRole("dialog", { name: "Recover or replay" });
  await dialog.getByLabel("Replay: past events that it has not had").check();
  await press(dialog, "Begin");
  await sees(page, /Done: looked at \d+ of \d+ events/);
}

/** Changes a field; what is refused is shown beside it. */
export async function edits(page, description) {
  await page.getByRole("link", { name: "Edit", exact: true }).click();
  await settled(page);
  await page.getByText("Advanced").click();
  await page.getByLabel("Rate limit").fill("many");
  await page.getByLabel("Description").fill(description);
  await press(page, "Save");
  await page.locator("#rate_limit[aria-invalid]").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "rate_limit");
  assert.notEqual(await page.locator("#rate_limit-fault").innerText(), "");
  await page.getByLabel("Rate limit").fill("100/s");
  await press(page, "Save");
  await page.getByRole("heading", { name: description, level: 1 }).waitFor();
  await settled(page);
  await sees(page, "100/s");
}

export async function deletes(page) {
  await press(page, "Delete");
  await press(page.getByRole("dialog"), "Delete");
  await page.getByRole("heading", { name: "Subscriptions", exact: true, level: 1 }).waitFor();
  await settled(page);
}
