// Every view, light and dark, on a desk and on a phone: nothing too wide, nothing that the checker finds, a picture.

import { DESKTOP, PHONE, enter, go, looksGood, settled, story, told } from "./browser.mjs";

/** Name, route, and what is done there before the picture is taken. */
const VIEWS = [
  ["subscriptions", "#/subscriptions"],
  ["subscription", `#/subscriptions/${told.subscription}`],
  ["subscription-new", "#/subscriptions/new", (page) => page.getByText("Advanced").click()],
  ["subscription-faults", "#/subscriptions/new", faults],
  ["subscription-edit", `#/subscriptions/${told.subscription}/edit`],
  ["subscription-rotate", `#/subscriptions/${told.subscription}`, (page) => page.getByRole("button", { name: "Rotate secret" }).click()],
  ["subscription-replay", `#/subscriptions/${told.subscription}`, (page) => page.getByRole("button", { name: "Recover or replay" }).click()],
  ["subscription-delete", `#/subscriptions/${told.subscription}`, (page) => page.getByRole("button", { name: "Delete" }).click()],
  ["deliveries", "#/deliveries"],
  ["deliveries-none", "#/deliveries?status=cancelled"],
  ["delivery", `#/deliveries/${told.delivery}`, (page) => page.getByText("Request", { exact: true }).click()],
  ["activity", "#/activity"],
  ["events", "#/events"],
  ["event", `#/events/${told.type}`],
  ["unmatched", "#/unmatched"],
  ["verify", "#/verify"],
  ["not-found", "#/subscriptions/sub_nobody"],
];

async function faults(page) {
  await page.getByLabel("Target URL").fill("ftp://example.com");
  await page.getByRole("button", { name: "Make it" }).click();
  await page.locator("[aria-invalid]").first().waitFor();
}

await story(async (newPage) => {
  for (const viewport of [DESKTOP, PHONE]) {
    for (const scheme of ["light", "dark"]) {
      const page = await newPage(viewport, scheme);
      page.expected = ["/subscriptions"];
      await page.goto(told.portal);
      await page.getByLabel("Token").waitFor();
      await looksGood(page, "sign-in");
      await enter(page);
      for (const [name, route, prepare] of VIEWS) {
        await go(page, route);
        await prepare?.(page);
        await settled(page);
        await looksGood(page, name);
        await page.keyboard.press("Escape");
      }
      await page.context().close();
    }
  }
});
