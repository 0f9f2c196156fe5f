// Subscriptions: the list with how each fares, one of them, its making and changing.

import { panel } from "./activity.js";
import { ask, get, id, isOperator, mayChange, optional, poll } from "./api.js";
import { attempt, following } from "./deliveries.js";
import { act, bad, badge, button, clock, code, confirm, copyable, count, dialog, div, duration, empty, facts,
  h, heading,
  link, loading, moment, none, quiet, radios, row, table, time, toast } from "./dom.js";
import { field, form, submitted } from "./form.js";

const UP = [["#/subscriptions", "Subscriptions"]];

/** What people call a subscription. */
export const named = (one) => one.description || one.target_url.replace(/^https?:\/\//, "");

/** What all are called, by id. */
export async function names(signal) {
  const all = await pages("subscriptions", {}, signal);
  return new Map(all.map((one) => [one.id, named(one)]));
}

/** All rows of a list, of at most ten pages; `null` where there is no such list. */
export async function pages(path, query, signal) {
  const rows = [];
  let cursor;
  for (let page = 0; page < 10; page += 1) {
    const answer = await optional(path, { ...query, limit: 100, cursor }, signal);
    if (!answer) return null;
    rows.push(...answer.data);
    cursor = answer.next_cursor;
    if (!cursor) break;
  }
  return rows;
}

// ── The list ──

export async function list({ query, signal }) {
  const tenant = query.get("tenant") ?? "";
  const from = new Date(clock.now() - 86_400_000).toISOString();
  const [found, statistics, failures] = await Promise.all([
    pages("subscriptions", { tenant }, signal),
    // Without them the list is worth having too.
    optional("statistics", { group: "subscription", from, step: "1h" }, signal).catch(() => null),
    get("deliveries", { status: "exhausted", limit: 100 }, signal),
  ]);
  const rates = statistics && new Map((statistics.groups ?? []).map((group) => [group.key, group]));
  const failed = new Map(failures.data.toReversed().map((delivery) => [delivery.subscription, delivery]));
  const heads = ["Subscription", "Status", "Events", "Health", "Last failure"];
  const rows = found.map((one) => row(heads, [
    [link(`#/subscriptions/${id(one.id)}`, named(one)), " ",
      isOperator() && one.tenant ? badge(one.tenant) : null,
      one.description ? h("span", { class: "quiet sub" }, one.target_url) : null],
    badge(one.status),
    code(one.events.slice(0, 3).join(", "), one.events.length > 3 ? `, ${one.events.length - 3} more` : ""),
    health(one, rates), lastFailure(failed.get(one.id))]));
  const add = mayChange() ? link("#/subscriptions/new", "New subscription", "button primary") : null;
  const some = found.length > 0 || tenant;
  return [
    heading("Subscriptions", some ? add : null),
    isOperator() && some ? byTenant(tenant) : null,
    found.length ? table("Subscriptions", heads, rows) : tenant ? empty(`${tenant} has no subscriptions`)
      : empty("No subscriptions yet", h("p", null, "A subscription says which events go to which URL. ",
        "Each delivery is signed, and tried again until the receiver takes it."), add),
  ];
}

function byTenant(tenant) {
  const input = h("input", { id: "tenant", type: "search", value: tenant, placeholder: "all" });
  const onsubmit = (event) => {
    event.preventDefault();
    location.hash = `#/subscriptions${input.value.trim() ? `?tenant=${id(input.value.trim())}` : ""}`;
  };
  return h("form", { class: "filters", onsubmit }, div("", h("label", { for: "tenant" }, "Tenant"), input),
    h("button", null, "Filter"));
}

const lastFailure = (delivery) => (delivery
  ? h("a", { href: `#/deliveries/${id(delivery.id)}`, class: "plain" }, delivery.event.type, " ",
    time(delivery.ended_at)) : none());

/** How its attempts of the last 24 hours have fared. */
function health(one, rates) {
  if (one.status === "off") return quiet(one.off_reason ?? "switched off");
  if (one.failing_since) return bad("failing, for ", duration(clock.now() - Date.parse(one.failing_since)));
  const { attempts = 0, delivered = 0 } = rates?.get(one.id) ?? {};
  if (!attempts) return rates ? quiet("no attempts in 24 h") : none();
  const share = delivered / attempts;
  const text = `${(100 * share).toFixed(share === 1 ? 0 : 1)} % of ${count(attempts)} taken`;
  return (share < 0.95 ? bad : quiet)(text);
}

// ── One of them ──

export async function detail({ args: [key], signal, reload }) {
  const one = await get(`subscriptions/${id(key)}`, null, signal);
  const [place, progress] = [div(), div()];
  const live = h("span", { class: "live" });
  const recent = await following({ subscription: one.id }, signal, live, null, 10);
  resume(one, progress, signal);
  return [
    heading(named(one), badge(one.status), UP),
    mayChange() ? actions(one, place, progress, signal, reload) : null,
    place, progress,
    facts([
      ["Target", code(one.target_url)],
      ["Events", code(one.events.join(", "))],
      ["Off because", one.status === "off" ? one.off_reason ?? "it was switched off" : null],
      ["Failing since", one.failing_since && bad(moment(one.failing_since))],
      ["Tenant", isOperator() ? one.tenant ?? "none: it sees all events" : null],
      ["Format", one.format], ["Signing", one.signing],
      ["Rate limit", one.rate_limit], ["In flight, at most", one.max_in_flight],
      ["Ordering", one.ordering === "none" ? null : one.ordering],
      ["Retry", one.retry && code(JSON.stringify(one.retry))],
      ["Expires", moment(one.expires_at)], ["Made", moment(one.created_at)], ["Id", code(one.id)],
    ]),
    div("head", h("h2", null, "Deliveries"), live, link(`#/deliveries?subscription=${id(one.id)}`, "All")),
    recent,
    h("h2", null, "Activity"), panel({ subscription: one.id }, signal, ["type"]),
  ];
}

function actions(one, place, progress, signal, reload) {
  const path = `subscriptions/${id(one.id)}`;
  const isOn = one.status === "on";
  const turn = async (status) => {
    await ask("PATCH", path, { body: { status } });
    toast(`It is ${status}.`);
    reload();
  };
  const meaning = "What is pending is cancelled, and nothing is delivered until it is on again.";
  const off = () => confirm("Switch it off?", meaning, "Switch off", () => turn("off"));
  const told = `Nothing is delivered to ${one.target_url} any more. This cannot be undone.`;
  const remove = () => confirm("Delete this subscription?", told, "Delete", async () => {
    await ask("DELETE", path);
    toast("It is deleted.");
    location.hash = "#/subscriptions";
  });
  const answer = h("div", { "aria-live": "polite" });
  place.append(answer);
  return div("actions start",
    link(`#/${path}/edit`, "Edit", "button"),
    act("Send a ping", place, () => ping(one.id, answer)),
    isOn ? button("Switch off", off) : act("Switch on", place, () => turn("on")),
    one.signing === "hmac" ? button("Rotate secret", () => rotate(path)) : null,
    isOn ? button("Recover or replay", () => again(path, progress, signal)) : null,
    button("Delete", remove, "danger"));
}

/** Sends a ping and shows what the receiver says to it. */
async function ping(key, place) {
  place.replaceChildren(loading("the receiver’s answer"));
  const answer = await ask("POST", `subscriptions/${id(key)}/ping`).finally(() => place.replaceChildren());
  const title = answer.outcome === "delivered" ? "The receiver took the ping"
    : "The receiver did not take the ping";
  place.append(div("card", h("h2", null, title), attempt(answer)));
}

const secretShown = (secret) => div("card secret", h("h2", null, "Signing secret"),
  copyable(secret, "Secret"),
  h("p", null, "It is shown this once. The receiver verifies with it: ", link("#/verify", "how to"), "."));

function rotate(path) {
  const times = [["24h", "24 hours"], ["1h", "1 hour"], ["7d", "7 days"],
    ["0s", "not at all: it has leaked"]];
  const overlap = h("select", { id: "overlap" }, times.map(([value, text]) => h("option", { value }, text)));
  const yes = async () => {
    const made = await ask("POST", `${path}/rotate-secret`, { body: { overlap: overlap.value } });
    const until = made.previous_secret_expires_at;
    const done = button("Done", () => box.close(), "primary");
    inner.replaceChildren(secretShown(made.secret),
      h("p", null, until ? ["The old one signs too, until ", moment(until), "."]
        : "The old one no longer signs."), div("actions", done));
    done.focus();
  };
  const place = div();
  const inner = div("", h("label", { for: "overlap" }, "The old secret signs too for"), overlap, place,
    div("actions", button("Cancel", () => box.close()), act("Rotate", place, yes, "primary")));
  const box = dialog("Rotate the secret", inner);
}

// ── Again ──

/** A time as `datetime-local` has it, which is without a zone. */
const local = (ms) => new Date(ms - new Date(ms).getTimezoneOffset() * 60_000).toISOString().slice(0, 16);

function again(path, progress, signal) {
  const kinds = [["recover", "Recover: failed deliveries once more"],
    ["replay", "Replay: past events that it has not had"]];
  let kind = "recover";
  const begin = async (data) => {
    const { events, ...times } = Object.fromEntries([...data].filter(([, value]) => value.trim()));
    const body = {};
    for (const name of ["since", "until"]) if (times[name]) body[name] = new Date(times[name]).toISOString();
    if (events) body.events = events.trim().split(/[\s,]+/);
    const replay = await ask("POST", `${path}/${kind}`, { body });
    box.close();
    follow(replay, progress, signal);
  };
  const when = (value) => h("input", { type: "datetime-local", value });
  const box = dialog("Recover or replay", submitted("Begin", begin, (submit) => [
    radios("What", kinds, kind, (chosen) => (kind = chosen)),
    field("since", "Since", "", when(local(clock.now() - 86_400_000))),
    field("until", "Until", "Now, if empty.", when()),
    field("events", "Events", "All that it wants, if empty.",
      h("input", { placeholder: "contact.*", spellcheck: "false" })),
    div("problems"),
    div("actions", button("Cancel", () => box.close()), submit),
  ]));
}

/** Follows the replays of a subscription that run already. */
async function resume(one, place, signal) {
  const query = { subscription: one.id, state: "running" };
  const running = await optional("replays", query, signal).catch(() => null);
  running?.data.forEach((replay) => follow(replay, place, signal));
}

const STATES = { running: "Running", done: "Done", cancelled: "Stopped" };

/** How far a replay has come, until it ends. */
function follow(replay, place, signal) {
  const title = replay.kind === "replay" ? "Replay" : "Recovery";
  const path = `replays/${id(replay.id)}`;
  const bar = h("progress", { "aria-label": `Progress of the ${replay.kind}` });
  const text = h("p", { role: "status" });
  const stop = act("Stop", null, async () => show(await ask("DELETE", path)));
  const ended = new AbortController();
  const show = ({ state, progress: { looked_at, total, made } }) => {
    bar.max = Math.max(total, 1);
    bar.value = state === "done" ? bar.max : looked_at;
    const way = isOperator() ? `looked at ${count(looked_at)} of ${count(total)} events` : `${looked_at} % of the way`;
    text.textContent = `${STATES[state]}: ${way}, ${count(made)} ${made === 1 ? "delivery" : "deliveries"} begun.`;
    if (state === "running") return;
    stop.remove();
    ended.abort();
  };
  place.append(div("card", div("head", h("h2", null, title), stop), bar, text));
  show(replay);
  poll(AbortSignal.any([signal, ended.signal]), async () => show(await get(path, null, signal)));
}

// ── Making and changing ──

export async function make({ query, signal }) {
  const save = async (fields) => {
    const one = await ask("POST", "subscriptions", { body: fields });
    const [answer, problems] = [h("div", { "aria-live": "polite" }), div()];
    const test = act("Ping again", problems, () => ping(one.id, answer));
    const title = h("h1", { tabindex: "-1" }, "The subscription is made");
    place.replaceChildren(div("head", title), secretShown(one.secret), answer, problems,
      div("actions start", link(`#/subscriptions/${id(one.id)}`, "Go to the subscription", "button primary"),
        test));
    title.focus();
    test.click();
  };
  const one = { events: query.get("events")?.split(",") ?? [] };
  const place = div("", heading("New subscription", [], UP),
    await form(one, signal, "Make it", save, "#/subscriptions"));
  return [place];
}

export async function edit({ args: [key], signal }) {
  const path = `subscriptions/${id(key)}`;
  const one = await get(path, null, signal);
  const save = async (fields) => {
    // A merge patch: what did not change is left out, what was emptied is null.
    const differs = ([name, value]) => JSON.stringify(value) !== JSON.stringify(one[name] ?? null);
    const changed = Object.entries(fields).filter(differs);
    if (changed.length) await ask("PATCH", path, { body: Object.fromEntries(changed), etag: one.etag });
    toast("Saved");
    location.hash = `#/${path}`;
  };
  return [heading("Edit", [], [...UP, [`#/${path}`, named(one)]]),
    await form(one, signal, "Save", save, `#/${path}`)];
}
