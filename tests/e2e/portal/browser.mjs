// What the browser stories share: a Chromium, pages that report every error, screenshots, an accessibility checker, and
// questions to the test that started them.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

// The packages lie where the harness put them, which is where we run.
const require = createRequire(join(process.cwd(), "package.json"));
const { chromium } = require("playwright-core");
const axe = require("axe-core").source;

/** What the test says: where Chromium, the companion and the receiver are, and where screenshots belong. */
export const told = JSON.parse(process.argv[2]);

const PATIENCE = 20_000;
const ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"];

/** The rules of WCAG 2.1, levels A and AA. */
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"];

export const DESKTOP = { width: 1280, height: 900 };
export const PHONE = { width: 360, height: 740 };

/** Runs a story in a browser of its own; an error in any page of it, or a request elsewhere, fails it. */
export async function story(tell) {
  const browser = await chromium.launch({ executablePath: told.chromium, args: ARGUMENTS });
  const faults = [];
  const newPage = async (viewport = DESKTOP, colorScheme = "light") => {
    const context = await browser.newContext({ viewport, colorScheme, reducedMotion: "reduce", locale: "en-GB" });
    context.setDefaultTimeout(PATIENCE);
    const page = await context.newPage();
    page.expected = [];
    page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
    page.on("console", (message) => {
      if (message.type() !== "error") return;
      // Chromium tells of every 4xx in the console; those that a story brings about are expected.
      const address = message.location().url;
      if (!page.expected.some((part) => address.includes(part))) faults.push(`console: ${message.text()} ${address}`);
    });
    page.on("request", (request) => {
      const { protocol, origin } = new URL(request.url());
      const known = [told, told.operator].filter(Boolean).map(({ portal }) => new URL(portal).origin);
      if (!["data:", "blob:"].includes(protocol) && !known.includes(origin)) faults.push(`a request left: ${request.url()}`);
    });
    return page;
  };
  try {
    await tell(newPage);
    assert.deepEqual(faults, []);
  } finally {
    await browser.close();
    ended = true;
    lines.close();
  }
}

/** Opens the portal, signed in by the fragment as somebody, and waits for its heading. */
export async function enter(page, route = "#/subscriptions", { portal, token, link } = told) {
  await page.goto(link ?? `${portal}#token=${token}`);
  await page.locator("nav a").first().waitFor();
  assert(!page.url().includes(link ? "link=" : token), "the credential stays in the address");
  await go(page, route);
}

/** Goes to a view and waits until it is there. */
export async function go(page, route) {
  await page.evaluate((hash) => (location.hash = hash), route);
  await settled(page);
}

/** Waits until nothing says that it is loading. */
export async function settled(page) {
  await page.waitForFunction(() => document.querySelector("main h1") && !document.querySelector(".loading, [aria-busy]"));
}

/** Waits until a locator is there; the error says what was awaited. */
export const sees = (page, text) => page.getByText(text).first().waitFor();

/** Nothing is wider than the screen, the checker finds nothing, and a picture is taken. */
export async function looksGood(page, name) {
  const { width } = page.viewportSize();
  const scheme = (await page.evaluate(() => matchMedia("(prefers-color-scheme: dark)").matches)) ? "dark" : "light";
  await page.screenshot({ path: join(told.screenshots, `${name}-${width}-${scheme}.png`), fullPage: true });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert(wide <= 0, `${name} at ${width}: ${wide} px too wide`);
  // Through the debugger, because the page's policy lets no script in but its own.
  await page.evaluate(axe);
  const { violations } = await page.evaluate((values) => axe.run(document, { runOnly: { type: "tag", values } }), RULES);
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html}\n${failureSummary}`).join("\n")}`);
  assert.deepEqual(found, [], `${name} at ${width}, ${scheme}`);
}

// ── Questions to the test ──

const lines = createInterface({ input: process.stdin });
const waiting = [];
lines.on("line", (line) => waiting.shift()?.(JSON.parse(line)));

// A test that is gone leaves no browser behind.
let ended = false;
lines.on("close", () => ended || process.exit(1));

/** Has the test do something that only it can, and gives what it says. */
export function request(question) {
  return new Promise((resolve, reject) => {
    waiting.push((answer) => (answer.error ? reject(new Error(answer.error)) : resolve(answer)));
    console.log(JSON.stringify(question));
  });
}
