// The event catalogue as it was learnt from traffic, and the writes that no rule made an event of.

import { panel } from "./activity.js";
import { ask, get, id, isOperator, mayChange, session } from "./api.js";
import { act, badge, block, button, code, confirm, copyable, count, div, empty, facts, h, heading, link,
  moment, none,
  pretty, row, table, time, toast, unavailable, unique } from "./dom.js";
import { names, pages } from "./subscriptions.js";

const isAdmin = () => session.scope === "admin";

export async function list({ signal }) {
  const found = await pages("event-types", {}, signal);
  if (!found) return [heading("Events"), unavailable()];
  const heads = ["Event type", "Count", "Last seen", "Description"];
  const line = (one) => row(heads, [
    [link(`#/events/${id(one.type)}`, one.type), " ",
      isOperator() && one.published ? badge("published", "on") : null],
    count(one.count), time(one.last_at), one.description ?? none()]);
  const whole = table("Event types", heads, found.map(line));
  const search = unique();
  const find = ({ target }) =>
    whole.body.replaceChildren(...found.filter(({ type }) => type.includes(target.value.trim())).map(line));
  return [
    heading("Events", ["OpenAPI", "AsyncAPI"].map(download)),
    found.length
      ? [div("filters", div("", h("label", { for: search }, "Find"),
        h("input", { id: search, type: "search", oninput: find }))), whole]
      : empty("No event types yet", h("p", null, "They are learnt from traffic, from the first write on.")),
  ];
}

/** The catalogue as a file; it is fetched here, because a link sends no credential. */
function download(kind) {
  return act(`Download ${kind}`, null, async () => {
    const file = `${kind.toLowerCase()}.json`;
    const text = pretty(await get(`catalogue/${file}`));
    const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    h("a", { href: url, download: `webhooks.${file}` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1_000);
  });
}

export async function detail({ args: [type], signal }) {
  const [one, known] = await Promise.all([get(`event-types/${id(type)}`, null, signal), names(signal)]);
  const subscribe = link(`#/subscriptions/new?events=${id(type)}`, "Subscribe to it", "button primary");
  return [
    heading(type, mayChange() ? subscribe : null, [["#/events", "Events"]]),
    facts([["Count", count(one.count)], ["First seen", moment(one.first_at)],
      ["Last seen", moment(one.last_at)]]),
    isAdmin() ? description(one) : h("p", null, one.description),
    h("h2", null, "Sample"), one.sample ? block(pretty(one.sample), "Sample") : empty("No sample yet"),
    h("h2", null, "Schema"),
    one.schema ? copyable(pretty(one.schema), "Schema", block(pretty(one.schema), "Schema"))
      : empty("No schema yet"),
    h("h2", null, "Activity"), panel({ type }, signal, ["subscription"], known),
  ];
}

function description(one) {
  const path = `event-types/${id(one.type)}`;
  const [name, place] = [unique(), div()];
  const text = h("textarea", { id: name, rows: 2 }, one.description ?? "");
  const published = h("input", { type: "checkbox", checked: one.published });
  const save = act("Save", place, async () => {
    const body = { description: text.value.trim() || null, published: published.checked };
    await ask("PATCH", path, { body });
    toast("Saved");
  }, "primary");
  const told = "Its count, sample, schema and description go. If it comes again, it is learnt anew.";
  const forget = () => confirm(`Forget ${one.type}?`, told, "Forget", async () => {
    await ask("DELETE", path);
    location.hash = "#/events";
  });
  return div("card", h("label", { for: name }, "Description"), text,
    h("label", { class: "check" }, published, "Published: tenants see it before they have events of it"),
    place, div("actions", button("Forget", forget, "danger"), save));
}

export async function unmatched({ signal, reload }) {
  const found = await pages("unmatched", {}, signal);
  const forget = () => confirm("Forget the list?", "What comes up again is what is still left out.", "Forget",
    async () => {
    await ask("DELETE", "unmatched");
    reload();
  });
  const heads = ["Write", "Count", "Last seen", "Rule"];
  const lines = found?.map((one) => row(heads, [code(`${one.method} ${one.path}`), count(one.count),
    time(one.last_at), one.rule ? copyable(JSON.stringify(one.rule), "Rule") : none()]));
  return [
    heading("Unmatched writes", isAdmin() && found?.length ? button("Forget all", forget) : null),
    h("p", null, "Writes that succeeded and fitted no rule of the filter, by the shape of their path. ",
      "Put a rule below ", code("resources"), " of the filter’s configuration, and they become events."),
    found?.length ? table("Writes that fitted no rule, the most frequent first", heads, lines)
      : empty("Nothing was left out"),
  ];
}
