// The API as the page sees it: where it is, with which credential, and what it says when something is wrong.

import { clock } from "./dom.js";

/** The API of `…/portal` is `…/v1/`, that of `…/webhooks/portal` is `…/webhooks/`; what comes before is kept. */
const place = location.pathname.replace(/\/+$/, "").replace(/portal$/, "");
export const isPublic = place.endsWith("/webhooks/");
const base = isPublic ? place : `${place}v1/`;

/** Where the companion's own public keys are. */
export const keysAt = `${place}.well-known/jwks.json`;

/** What the API said, as `application/problem+json` (RFC 9457) has it. */
export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail ?? (status ? `The companion answered ${status}.`
      : "The companion does not answer. Is it running?"));
    this.status = status;
    this.errors = body?.errors ?? [];
  }
}

// ── The credential: kept for this tab alone ──

const KEY = "gatehook-credential";
let memory = null;

function stored() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return memory; // An embedding page may be refused storage.
  }
}

export function keep(credential) {
  memory = credential;
  try {
    if (credential) sessionStorage.setItem(KEY, credential);
    else sessionStorage.removeItem(KEY);
  } catch {
    // It is in memory.
  }
}

/** Takes a credential out of the address, where it must not stay. */
export function takeFromAddress() {
  const found = /^#(link|token)=(.+)$/.exec(location.hash);
  if (!found) return false;
  history.replaceState(null, "", location.pathname + location.search);
  keep(`${found[1] === "link" ? "Gatehook-Link" : "Bearer"} ${found[2].replace(/[^\x21-\x7e]/g, "")}`);
  return true;
}

export const isSignedIn = () => Boolean(stored());

// ── Requests ──

/** Told when the credential is no longer good. */
export const onExpired = { call: () => {} };

/** Asks the API; gives the answer's JSON, its `etag` beside it where there is one. */
export async function ask(method, path, { body, etag, signal, query } = {}) {
  const params = new URLSearchParams(Object.entries(query ?? {}).filter(([, value]) => value));
  const credential = stored() ?? "";
  const headers = { authorization: credential, accept: "application/json" };
  if (body !== undefined) headers["content-type"] = method === "PATCH" ? "application/merge-patch+json"
    : "application/json";
  if (etag) headers["if-match"] = etag;
  let answer;
  try {
    answer = await fetch(base + path + (params.size ? `?${params}` : ""),
      { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
        cache: "no-store" });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Problem(0);
  }
  const date = Date.parse(answer.headers.get("date"));
  // The header has whole seconds: a small difference says nothing.
  if (date) clock.ahead = Math.abs(date - Date.now()) > 2_000 ? date - Date.now() : 0;
  const isJson = /json/.test(answer.headers.get("content-type") ?? "");
  const json = isJson ? await answer.json().catch(() => null) : null;
  // An answer to somebody who has signed out since says nothing of who is here now.
  if (answer.status === 401 && credential === (stored() ?? "")) onExpired.call();
  if (!answer.ok) throw new Problem(answer.status, json);
  if (json && answer.headers.get("etag")) Object.defineProperty(json, "etag",
    { value: answer.headers.get("etag") });
  return json;
}

export const get = (path, query, signal) => ask("GET", path, { query, signal });

/** What a route answers, or `null` where this companion has no such route. */
export async function optional(path, query, signal) {
  try {
    return await get(path, query, signal);
  } catch (problem) {
    if (problem.status === 404) return null;
    throw problem;
  }
}

export const id = encodeURIComponent;

// ── Who is signed in ──

export const session = { scope: "admin", tenant: null, expires_at: null };
export const isOperator = () => session.scope !== "tenant";
export const mayChange = () => session.scope !== "read";

/** Finds out who the credential belongs to; where there is no `session`, only whether it is good. */
export async function begin() {
  const told = await optional("session");
  if (!told) await get("subscriptions", { limit: 1 });
  Object.assign(session, told ?? { scope: isPublic ? "tenant" : "admin", tenant: null, expires_at: null });
}

/**
 * Does something now and again until the signal says stop: every 2 s while somebody is at the page, every 10 s
 * while it is only in view, never while it is hidden. `told` hears the pace, and whether the last time failed.
 */
export function poll(signal, action, told = () => {}) {
  let timer;
  let [running, lost] = [false, false];
  const plan = () => {
    clearTimeout(timer);
    if (signal.aborted) return;
    const pace = document.hidden ? 0 : document.hasFocus() ? 2_000 : 10_000;
    told(pace, lost);
    if (pace) timer = setTimeout(run, pace);
  };
  const run = async () => {
    if (running) return;
    running = true;
    lost = await action().then(() => false, () => true);
    running = false;
    plan();
  };
  const wake = () => (document.hidden ? plan() : run());
  document.addEventListener("visibilitychange", wake, { signal });
  addEventListener("focus", wake, { signal });
  addEventListener("blur", plan, { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  plan();
}
