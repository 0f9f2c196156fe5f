// Deliveries as they come, and one of them with its attempts.

import { ask, get, id, mayChange, optional, poll } from "./api.js";
import { act, announce, badge, block, choice, code, countdown, count, div, duration, empty, facts, h,
  heading, keepInAddress, link, loading, moment, pretty, quiet, row, table, time, toast, trouble, unavailable,
} from "./dom.js";
import { named, names } from "./subscriptions.js";

const STATUSES = ["pending", "delivered", "exhausted", "cancelled"];
/** Rows that are kept before the list begins anew with what is newest. */
const MOST_ROWS = 500;
const HEADS = ["Event", "Subscription", "Status", "Attempts", "Next try", "Made"];

export async function list({ query, signal }) {
  const known = await names(signal);
  const filter = { status: query.get("status") ?? "", subscription: query.get("subscription") ?? "" };
  // It may have been deleted.
  const { subscription } = filter;
  if (subscription && !known.has(subscription)) known.set(subscription, subscription);
  const [place, live] = [div(), h("span", { class: "live" })];
  let chosen = new AbortController();
  const show = async () => {
    chosen.abort();
    chosen = new AbortController();
    const current = AbortSignal.any([signal, chosen.signal]);
    place.replaceChildren(loading("deliveries"));
    try {
      const content = await following(filter, current, live, known);
      if (!current.aborted) place.replaceChildren(...content);
    } catch (problem) {
      if (!current.aborted) place.replaceChildren(trouble(problem, show));
    }
  };
  const choose = (name) => (value) => {
    filter[name] = value;
    keepInAddress("deliveries", filter);
    show();
  };
  await show();
  return [
    heading("Deliveries", live),
    div("filters", choice("Status", STATUSES.map((word) => [word, word]), filter.status, choose("status")),
      choice("Subscription", [...known], filter.subscription, choose("subscription"))),
    place,
  ];
}

/** A table of deliveries that takes in what comes; without names of subscriptions it leaves those out. */
export async function following(filter, signal, live, known, limit = 25) {
  const heads = HEADS.filter((head) => known || head !== "Subscription");
  const whole = table("Deliveries, newest first", heads);
  const nothing = empty(filter.status ? `No delivery is ${filter.status}` : "No deliveries yet",
    h("p", null, "They appear here by themselves as soon as an event comes that somebody subscribed to."));
  const rows = new Map();
  const page = (cursor) => get("deliveries", { ...filter, limit, cursor }, signal);
  let cursor;
  /** Puts a delivery where it belongs; says whether it is new. */
  const put = (delivery, place) => {
    const text = JSON.stringify(delivery);
    const shown = rows.get(delivery.id);
    if (shown?.text === text) return false;
    const line = deliveryRow(delivery, heads, known);
    rows.set(delivery.id, { text, line });
    if (!shown) whole.body[place](line);
    else {
      const focused = shown.line.contains(document.activeElement);
      shown.line.replaceWith(line);
      if (focused) line.querySelector("a").focus();
    }
    return !shown && line;
  };
  const tidy = () => {
    more.hidden = !cursor;
    whole.hidden = !rows.size;
    nothing.hidden = rows.size > 0;
  };
  const older = async () => {
    const answer = await page(cursor);
    answer.data.forEach((delivery) => put(delivery, "append"));
    cursor = answer.next_cursor;
    tidy();
  };
  const newer = async () => {
    const { data, next_cursor } = await page();
    // More has come than a page holds, or more is here than anybody looks through: it begins anew.
    const isGap = rows.size > 0 && next_cursor && !data.some((delivery) => rows.has(delivery.id));
    if (isGap || rows.size > MOST_ROWS) {
      for (const { line } of rows.values()) line.remove();
      rows.clear();
      cursor = next_cursor;
    }
    // What no longer has the status that is asked for has left the newest page.
    const last = next_cursor ? data.at(-1).id : "";
    const there = new Set(data.map((delivery) => delivery.id));
    for (const [key, { line }] of rows) if (key >= last && !there.has(key) && rows.delete(key)) line.remove();
    const fresh = data.reverse().map((delivery) => put(delivery, "prepend")).filter(Boolean);
    fresh.forEach((line) => line.classList.add("fresh"));
    if (fresh.length === 1) announce(`New delivery: ${data.at(-1).event.type}`);
    if (fresh.length > 1) announce(`${fresh.length} new deliveries`);
    tidy();
  };
  const more = act("Show older", null, older);
  await older();
  poll(signal, newer, (pace, lost) => {
    live.textContent = lost ? "No connection" : !pace ? "Paused" : pace > 2_000 ? "Live, every 10 s" : "Live";
    live.classList.toggle("on", pace > 0 && !lost);
  });
  return [whole, more, nothing];
}

function deliveryRow(delivery, heads, known) {
  const { event, subscription, status, attempt_count, due_at, created_at } = delivery;
  const cells = {
    Event: [link(`#/deliveries/${id(delivery.id)}`, event.type),
      event.subject ? h("span", { class: "quiet sub" }, event.subject) : null],
    Subscription: link(`#/subscriptions/${id(subscription)}`, known?.get(subscription) ?? subscription,
      "plain"),
    Status: badge(status),
    Attempts: count(attempt_count),
    "Next try": countdown(due_at),
    Made: time(created_at),
  };
  return row(heads, heads.map((head) => cells[head]));
}

// ── One delivery ──

export async function detail({ args: [key], signal }) {
  const path = `deliveries/${id(key)}`;
  let delivery = await get(path, null, signal);
  const subscription = await optional(`subscriptions/${id(delivery.subscription)}`, null, signal);
  const [state, attempts, place] = [div(), div(), div()];
  const take = (next) => {
    const last = next.attempts.at(-1);
    if (next.attempts.length > delivery.attempts.length) announce(`Attempt ${last.number}: ${last.outcome}`);
    delivery = next;
    state.replaceChildren(standing(delivery, subscription));
    attempts.replaceChildren(h("h2", null, `Attempts (${delivery.attempts.length})`),
      tried(delivery.attempts));
  };
  const again = act("Redeliver", place, async () => {
    take(await ask("POST", `${path}/redeliver`));
    toast("It is delivered again.");
  }, "primary");
  take(delivery);
  poll(signal, async () => {
    const next = await get(path, null, signal);
    if (JSON.stringify(next) !== JSON.stringify(delivery)) take(next);
  });
  return [
    heading(delivery.event.type, mayChange() ? again : null, [["#/deliveries", "Deliveries"]]),
    place, state, attempts, request(path, signal),
  ];
}

const standing = (delivery, subscription) => facts([
  ["Status", [badge(delivery.status), " ", delivery.reason]],
  ["Next try", delivery.due_at && countdown(delivery.due_at)],
  ["Subject", delivery.event.subject],
  ["Subscription", link(`#/subscriptions/${id(delivery.subscription)}`,
    subscription ? named(subscription) : delivery.subscription)],
  ["Made", moment(delivery.created_at)],
  ["Ended", moment(delivery.ended_at)],
  ["webhook-id", code(delivery.id)],
  ["Event", code(delivery.event.id)],
]);

const tried = (attempts) => (attempts.length
  ? h("ol", { class: "attempts", reversed: true },
    attempts.toReversed().map((one) => h("li", null, attempt(one))))
  : empty("No attempt yet"));

/** An attempt with the receiver's answer; a ping is shown so too. */
export function attempt({ outcome, status, duration_ms, started_at, error, answer }) {
  return div("attempt",
    h("p", null, badge(outcome.replace("_", " "), outcome), " ",
      h("strong", null, status ? `HTTP ${status}` : "no answer"),
      ` after ${duration(duration_ms)}, `, quiet(moment(started_at))),
    error ? h("p", { class: "fault" }, error) : null,
    answer ? block(answer, "The receiver’s answer") : status
      ? h("p", { class: "quiet" }, "The answer has no body.") : null);
}

/** What an attempt now would send, asked for when somebody wants to see it. */
function request(path, signal) {
  const place = div();
  const load = async () => {
    place.replaceChildren(loading("the request"));
    try {
      const shown = await optional(`${path}/request`, null, signal);
      if (!shown) return place.replaceChildren(unavailable());
      const headers = shown.headers.map(({ name, value }) => `${name}: ${value}`);
      const head = [`${shown.method} ${shown.url}`, ...headers];
      place.replaceChildren(block(head.join("\n"), "Request line and headers"),
        block(pretty(shown.body ?? shown.body_base64 ?? ""), "Request body"));
    } catch (problem) {
      place.replaceChildren(trouble(problem, load));
    }
  };
  const ontoggle = ({ target }) => target.open && load();
  return h("details", { ontoggle }, h("summary", null, "Request"),
    h("p", { class: "quiet" }, "What an attempt now would send."), place);
}
