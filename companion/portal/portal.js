// The page itself: who is signed in, which view the address names, light or dark.

import { begin, isOperator, isPublic, isSignedIn, keep, onExpired, session, takeFromAddress } from "./api.js";
import * as activity from "./activity.js";
import * as deliveries from "./deliveries.js";
import { badge, button, busy, dialog, h, loading, time, trouble, unique } from "./dom.js";
import * as events from "./events.js";
import * as subscriptions from "./subscriptions.js";
import * as verify from "./verify.js";

const main = document.getElementById("main");

/** Address, name in the navigation, view; the first that fits. */
const VIEWS = [
  [/^\/subscriptions$/, "Subscriptions", subscriptions.list],
  [/^\/subscriptions\/new$/, "", subscriptions.make],
  [/^\/subscriptions\/([^/]+)$/, "", subscriptions.detail],
  [/^\/subscriptions\/([^/]+)\/edit$/, "", subscriptions.edit],
  [/^\/deliveries$/, "Deliveries", deliveries.list],
  [/^\/deliveries\/([^/]+)$/, "", deliveries.detail],
  [/^\/activity$/, "Activity", activity.view],
  [/^\/events$/, "Events", events.list],
  [/^\/events\/([^/]+)$/, "", events.detail],
  [/^\/unmatched$/, "Unmatched", events.unmatched, "operators"],
  [/^\/verify$/, "Verify", verify.view],
];

// ── Views ──

let leaving = new AbortController();

const closeDialogs = () => document.querySelectorAll("dialog").forEach((open) => open.close());

/** Shows what the address names. `moved`: somebody went there, so the focus goes to its heading. */
async function show(moved) {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const [path, query = ""] = location.hash.slice(1).split("?");
  const found = VIEWS.find(([pattern, , , whose]) => pattern.test(path) && (!whose || isOperator()));
  if (!found) return location.replace("#/subscriptions");
  mark(path);
  main.replaceChildren(loading("the view"));
  main.setAttribute("aria-busy", "true");
  let content;
  try {
    const args = path.match(found[0]).slice(1).map(decodeURIComponent);
    content = await found[2]({ args, query: new URLSearchParams(query), signal, reload: () => show(true) });
  } catch (problem) {
    if (signal.aborted || problem.status === 401) return;
    content = [h("h1", null, problem.status === 404 ? "Not found" : "Something went wrong"),
      trouble(problem, () => show(true))];
  }
  if (signal.aborted) return;
  main.replaceChildren(...content.flat(Infinity).filter(Boolean));
  main.removeAttribute("aria-busy");
  const heading = main.querySelector("h1");
  document.title = `${heading?.textContent ?? ""} – Gatehook`;
  if (moved) {
    scrollTo(0, 0);
    heading?.setAttribute("tabindex", "-1");
    heading?.focus();
  }
}

function mark(path) {
  const links = VIEWS.filter(([, name, , whose]) => name && (!whose || isOperator())).map(([, name]) => {
    const address = `/${name.toLowerCase()}`;
    const here = path === address ? "page" : path.startsWith(`${address}/`) ? "true" : null;
    return h("a", { href: `#${address}`, "aria-current": here }, name);
  });
  document.getElementById("nav").replaceChildren(...links);
}

// ── Who is signed in ──

function signIn(message) {
  leaving.abort();
  closeDialogs();
  main.removeAttribute("aria-busy");
  document.getElementById("nav").replaceChildren();
  document.getElementById("person").replaceChildren(themeSwitch());
  document.title = "Sign in – Gatehook";
  const name = unique();
  const input = h("input", { id: name, type: "password", autocomplete: "off", spellcheck: "false",
    required: true });
  const place = h("div");
  const submit = h("button", { class: "primary" }, "Sign in");
  const onsubmit = (event) => {
    event.preventDefault();
    busy(submit, place, async () => {
      if (!/^[\x21-\x7e]+$/.test(input.value.trim())) throw new Error("That is no token.");
      keep(`Bearer ${input.value.trim()}`);
      await enter();
    });
  };
  main.replaceChildren(h("form", { class: "sign-in", onsubmit },
    h("h1", null, "Sign in"),
    message ? h("p", { class: "problem", role: "alert" }, message) : null,
    h("p", null, isPublic ? "Open the link that you were given, or paste your token of the API."
      : "Paste an operator’s token, of scope admin or read."),
    h("label", { for: name }, "Token"), input, place, submit,
    h("p", { class: "quiet" }, "It is kept in this tab alone, until you sign out or close it.")));
  input.focus();
}

function signOut(message) {
  keep(null);
  signIn(message);
}

async function enter() {
  onExpired.call = () => {};
  try {
    await begin();
  } catch (problem) {
    // It may be good yet, where the companion only does not answer.
    if ([401, 403].includes(problem.status)) keep(null);
    if (problem.status === 401) problem.message = "This token or link is not valid, or it has expired.";
    throw problem;
  }
  onExpired.call = () => signOut("You are signed out: your token or link has expired.");
  const scopes = { admin: "operator", read: "operator, read only", tenant: "tenant" };
  document.getElementById("person").replaceChildren(
    badge(session.tenant ?? scopes[session.scope], session.scope),
    session.expires_at ? h("span", { class: "quiet ends" }, "ends ", time(session.expires_at)) : "",
    themeSwitch(), button("Sign out", () => signOut(), "small"));
  show(false);
}

// ── Light and dark ──

const THEME = "gatehook-theme";
const root = document.documentElement;

function themed(theme) {
  if (theme) root.dataset.theme = theme;
  else delete root.dataset.theme;
}

function remembered(...theme) {
  try {
    return theme.length ? localStorage.setItem(THEME, theme[0]) : localStorage.getItem(THEME);
  } catch {
    return null; // Then the system's choice holds at the next visit.
  }
}

function themeSwitch() {
  const isDark = () => (root.dataset.theme
    ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  const element = button("Dark", () => {
    const theme = isDark() ? "light" : "dark";
    themed(theme);
    remembered(theme);
    element.setAttribute("aria-pressed", theme === "dark");
  }, "small", { "aria-pressed": String(isDark()) });
  return element;
}

// ── Beginning ──

async function start() {
  takeFromAddress();
  closeDialogs();
  if (!isSignedIn()) return signIn();
  main.replaceChildren(loading("the portal"));
  try {
    await enter();
  } catch (problem) {
    if ([401, 403].includes(problem.status)) signIn(problem.message);
    else main.replaceChildren(h("h1", null, "Something went wrong"),
      trouble(problem, () => location.reload()));
  }
}

themed(remembered());
addEventListener("hashchange", () => {
  if (/^#(link|token)=/.test(location.hash)) return start();
  closeDialogs();
  if (isSignedIn()) show(true);
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
start();
