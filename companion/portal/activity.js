// Deliveries, failures and latency over time: two drawings, and the same as a table.

import { id, optional } from "./api.js";
import { choice, clock, count, div, duration, empty, h, heading, keepInAddress, link, loading, radios, row,
  svg, table,
  trouble, unavailable } from "./dom.js";
import { names } from "./subscriptions.js";

const RANGES = [[3_600_000, "1 hour"], [86_400_000, "24 hours"], [604_800_000, "7 days"],
  [2_592_000_000, "30 days"]];
const [WIDTH, HEIGHT] = [720, 120];
const LINES = ["p50", "p95", "p99"];

export async function view({ query, signal }) {
  const [known, types] = await Promise.all([names(signal), optional("event-types", { limit: 100 }, signal)]);
  const filter = { subscription: query.get("subscription") ?? "", type: query.get("type") ?? "" };
  const place = div();
  const show = () => {
    keepInAddress("activity", filter);
    const groups = ["subscription", "type"].filter((name) => !filter[name]);
    place.replaceChildren(panel(filter, signal, groups, known));
  };
  const choose = (name) => (value) => {
    filter[name] = value;
    show();
  };
  show();
  return [
    heading("Activity"),
    div("filters", choice("Subscription", [...known], filter.subscription, choose("subscription")),
      choice("Event type", (types?.data ?? []).map(({ type }) => [type, type]), filter.type, choose("type"))),
    place,
  ];
}

/** The drawings of what fits the filter, with the choice of a range; a table for each of `groups` besides. */
export function panel(filter, signal, groups, known = new Map()) {
  const place = h("div", { "aria-live": "polite" });
  let chosen = new AbortController();
  const show = async (ms) => {
    chosen.abort();
    chosen = new AbortController();
    const current = AbortSignal.any([signal, chosen.signal]);
    place.replaceChildren(loading("statistics"));
    const [from, to] = [clock.now() - ms, clock.now()].map((at) => new Date(at).toISOString());
    const read = (group) => optional("statistics", { ...filter, from, to, group }, current);
    try {
      const answers = await Promise.all((groups.length ? groups : [""]).map(read));
      if (current.aborted) return;
      place.replaceChildren(...(answers[0] ? drawn(answers, groups, known) : [unavailable()]));
    } catch (problem) {
      if (!current.aborted) place.replaceChildren(trouble(problem, () => show(ms)));
    }
  };
  show(RANGES[1][0]);
  return div("panel", radios("Range", RANGES, RANGES[1][0], show), place);
}

function drawn(answers, groups, known) {
  const [answer] = answers;
  const sum = (field) => answer.data.reduce((total, bucket) => total + bucket[field], 0);
  const [attempts, delivered, failed, exhausted] = ["attempts", "delivered", "failed", "exhausted"].map(sum);
  if (!attempts) return [empty("No attempts in this time")];
  const figure = (name, value, kind) => div(kind, h("dt", null, name), h("dd", null, value));
  return [
    h("dl", { class: "figures" }, figure("Attempts", count(attempts)), figure("Delivered", count(delivered)),
      figure("Failed", share(failed, attempts), failed && "bad"),
        figure("Exhausted", count(exhausted), exhausted && "bad")),
    outcomes(answer, `${count(delivered)} delivered, ${count(failed)} failed`),
    latency(answer),
    h("details", null, h("summary", null, "As a table"), numbers(answer)),
    ...answers.flatMap(({ groups: found }, at) => (found?.length ? breakdown(found, groups[at], known) : [])),
  ];
}

function share(part, whole) {
  return part ? `${count(part)} (${((100 * part) / whole).toFixed(part < whole / 100 ? 2 : 1)} %)` : "0";
}

const full = (at) => new Date(at).toLocaleString("en-GB");

/** A drawing below its name, with what its colours mean, its largest value and its times. */
function frame(title, legend, most, { from, to }, label, ...drawing) {
  const [first, last] = [Date.parse(from), Date.parse(to)];
  const form = last - first < 172_800_000 ? { hour: "2-digit", minute: "2-digit" }
    : { day: "numeric", month: "short" };
  const at = (part) => h("span", null, new Date(first + part * (last - first)).toLocaleString("en-GB", form));
  return h("figure", null,
    h("figcaption", null, h("strong", null, title),
      legend.map(([kind, text]) => h("span", { class: `key ${kind}` }, text))),
    div("plot", h("span", { class: "most", "aria-hidden": "true" }, most),
      svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img",
        "aria-label": label }, drawing)),
    h("div", { class: "axis", "aria-hidden": "true" }, [0, 0.5, 1].map(at)));
}

function outcomes(answer, label) {
  const most = Math.max(...answer.data.map(({ attempts }) => attempts), 1);
  const step = WIDTH / answer.data.length;
  const bars = answer.data.map(({ at, delivered, failed }, index) => {
    const [good, bad] = [delivered, failed].map((value) => (value / most) * HEIGHT);
    const bar = (kind, height, y) =>
      svg("rect", { class: kind, x: (index + 0.1) * step, width: step * 0.8, y, height });
    return svg("g", null, svg("title", null, `${full(at)}: ${delivered} delivered, ${failed} failed`),
      svg("rect", { class: "hit", x: index * step, width: step, height: HEIGHT }),
      bar("good", good, HEIGHT - good), bar("bad", bad, HEIGHT - good - bad));
  });
  const legend = [["good", "delivered"], ["bad", "failed"]];
  return frame("Attempts", legend, count(most), answer, `Attempts over time: ${label}`, bars);
}

function latency(answer) {
  const most = Math.max(...answer.data.map((bucket) => bucket.duration_ms?.p99 ?? 0), 1);
  const step = WIDTH / answer.data.length;
  const paths = LINES.map((line) => {
    let begun = false;
    const points = answer.data.map(({ duration_ms }, index) => {
      const lifted = !begun;
      begun = Boolean(duration_ms);
      if (!begun) return "";
      const [x, y] = [(index + 0.5) * step, HEIGHT - 1 - (duration_ms[line] / most) * (HEIGHT - 2)];
      // A stroke, for a value between two gaps is a point, and would not be drawn.
      return lifted ? `M${x - step * 0.4},${y}H${x + step * 0.4}` : `L${x},${y}`;
    });
    return svg("path", { class: `line ${line}`, d: points.join("") });
  });
  const label = `Latency over time: the slowest hundredth took up to ${duration(most)}`;
  return frame("Latency", LINES.map((line) => [line, line]), duration(most), answer, label, paths);
}

const times = (known) => LINES.map((line) => (known ? duration(known[line]) : "–"));

function numbers({ data, step_s }) {
  const heads = ["From", "Attempts", "Delivered", "Failed", "Exhausted", ...LINES];
  const lines = data.filter(({ attempts }) => attempts).map((bucket) => row(heads, [full(bucket.at),
    ...["attempts", "delivered", "failed", "exhausted"].map((field) => count(bucket[field])),
      ...times(bucket.duration_ms)]));
  return table(`Attempts by steps of ${duration(step_s * 1_000)}; empty ones are left out`, heads, lines);
}

function breakdown(groups, by, known) {
  const [name, title, address] = by === "type" ? ["Event type", "By event type", "#/events/"]
    : ["Subscription", "By subscription", "#/subscriptions/"];
  const heads = [name, "Attempts", "Failed", ...LINES];
  const lines = groups.toSorted((one, other) => other.attempts - one.attempts).map((group) => row(heads, [
    link(address + id(group.key), known.get(group.key) ?? group.key), count(group.attempts),
    h("span", { class: group.failed ? "fault" : "" }, share(group.failed, group.attempts)),
      ...times(group.duration_ms)]));
  return [h("h2", null, title), table(title, heads, lines)];
}
