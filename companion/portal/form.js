// The form of a subscription. What the API says of a field is shown beside that field.

import { isOperator } from "./api.js";
import { badge, busy, button, count, div, h, link, quiet, trouble } from "./dom.js";
import { pages } from "./subscriptions.js";

const FORMATS = ["standard", "raw", "thin", "cloudevents", "cloudevents-binary", "template", "slack"];
const RETRY = '{"policy": "exponential", "first": "10s", "attempts": 12}';

/** The form of `one`; `save` gets its fields, those left empty as `null`. */
export async function form(one, signal, verb, save, back) {
  const events = picker(new Set(one.events), (await pages("event-types", {}, signal)) ?? []);
  const text = (name, label, hint, props) =>
    field(name, label, hint, h("input", { value: String(one[name] ?? ""), spellcheck: "false", ...props }));
  const area = (name, label, hint, value, props) =>
    field(name, label, hint, h("textarea", { rows: 3, spellcheck: "false", ...props }, value));
  const select = (name, label, hint, words, props) => field(name, label, hint,
    h("select", props, words.map((word) =>
      h("option", { value: word, selected: word === one[name] }, word))));
  const template = area("template", "Template", "In the syntax of Jinja.", one.template ?? "");
  const onFormat = ({ target }) => (template.hidden = target.value !== "template");
  template.hidden = one.format !== "template";
  return submitted(verb, (data) => save({ ...read(data), events: events.chosen() }), (submit) => [
    text("target_url", "Target URL", "Where deliveries are POSTed.",
      { type: "url", placeholder: "https://example.com/webhooks" }),
    events.element,
    text("description", "Description", "For people."),
    !one.id && isOperator() ? text("tenant", "Tenant", "Whose events it sees. Empty: all events.") : null,
    h("details", { open: Boolean(one.retry || one.rate_limit || one.max_in_flight || one.template) },
      h("summary", null, "Advanced"),
      div("pair",
        select("format", "Format", "What is sent: the event in an envelope, or otherwise.", FORMATS,
          { onchange: onFormat }),
        select("ordering", "Ordering", "By resource: one at a time, in the order of the events.",
          ["none", "resource"]),
        text("rate_limit", "Rate limit", "Attempts in a time, such as 100/s or 600/m."),
        text("max_in_flight", "In flight, at most", "Attempts under way at once, 1 to 32.",
          { inputmode: "numeric" })),
      template,
      area("retry", "Retry", "JSON: a policy’s name in quotes, or an object. Empty: the companion’s default.",
        one.retry ? JSON.stringify(one.retry, null, 1) : "", { placeholder: RETRY })),
    div("problems"),
    div("actions start", submit, link(back, "Cancel", "button")),
  ]);
}

/** A form that does something with its data, and shows what the API says of its fields beside them. */
export function submitted(verb, action, content) {
  const submit = h("button", { class: "primary" }, verb);
  const onsubmit = (event) => {
    event.preventDefault();
    whole.querySelectorAll(".field > .fault, .problems").forEach((fault) => fault.replaceChildren());
    whole.querySelectorAll("[aria-invalid]").forEach((control) => control.removeAttribute("aria-invalid"));
    let told;
    const tell = async () => {
      try {
        await action(new FormData(whole));
      } catch (problem) {
        told = problem;
      }
    };
    busy(submit, null, tell).then(() => told && shown(told, whole));
  };
  const whole = h("form", { class: "form", noValidate: true, onsubmit }, content(submit));
  return whole;
}

/** Puts each fault beside its field, and the focus into the first; what belongs to none is told below. */
function shown({ message, errors = [] }, whole) {
  const homeless = errors.filter(({ field: pointer, detail }) => {
    const [, name, ...rest] = pointer.split("/");
    const place = whole.querySelector(`[data-field="${CSS.escape(name)}"] > .fault`);
    place?.append(div("", rest.length ? `${rest.join("/")}: ` : "", detail));
    place?.closest("details")?.setAttribute("open", "");
    whole.elements[name]?.setAttribute("aria-invalid", "true");
    return !place;
  });
  whole.querySelector(".problems").replaceChildren(trouble({ message, errors: homeless }));
  whole.querySelector("[aria-invalid]")?.focus();
}

/** A control with its label, a hint, and room for what is wrong with it. */
export function field(name, label, hint, control) {
  Object.assign(control, { id: name, name });
  control.setAttribute("aria-describedby", `${name}-hint ${name}-fault`);
  return h("div", { class: "field", "data-field": name }, h("label", { for: name }, label), control,
    h("p", { class: "quiet", id: `${name}-hint` }, hint), h("p", { class: "fault", id: `${name}-fault` }));
}

function read(data) {
  const fields = Object.fromEntries([...data].map(([name, value]) => [name, value.trim() || null]));
  delete fields.pattern;
  if (fields.format !== "template") fields.template = null;
  // What is no number goes as it is, for the API to say so.
  if (/^\d+$/.test(fields.max_in_flight)) fields.max_in_flight = Number(fields.max_in_flight);
  try {
    fields.retry = JSON.parse(fields.retry);
  } catch {
    throw Object.assign(new Error("some fields are not allowed"),
      { errors: [{ field: "/retry", detail: "must be JSON" }] });
  }
  return fields;
}

/** A list of event types to tick, and an entry for patterns and for types that were not seen yet. */
function picker(chosen, types) {
  const covering = (type) =>
    [...chosen].find((entry) => entry.endsWith("*") && type.startsWith(entry.slice(0, -1)));
  const boxes = types.map(({ type, count: seen, description }) => {
    const onchange = () => (box.checked ? chosen.add(type) : chosen.delete(type));
    const box = h("input", { type: "checkbox", onchange });
    const more = quiet();
    const draw = () => {
      const by = chosen.has(type) ? null : covering(type);
      Object.assign(box, { checked: chosen.has(type) || Boolean(by), disabled: Boolean(by) });
      more.textContent = `${count(seen)}${by ? `, by ${by}` : ""}`;
    };
    const text = h("span", null, type, " ", more,
      description ? h("span", { class: "quiet sub" }, description) : null);
    return { draw, line: h("label", { class: "type" }, box, text) };
  });
  const known = new Set(types.map(({ type }) => type));
  const others = h("ul", { class: "chips", "aria-label": "Patterns and other types" });
  const draw = () => {
    boxes.forEach((box) => box.draw());
    others.replaceChildren(...[...chosen].filter((entry) => !known.has(entry)).map((entry) => h("li", null,
      badge(entry, "on"),
      button("×", () => {
        chosen.delete(entry);
        draw();
        entries.focus();
      }, "small", { "aria-label": `Remove ${entry}` }))));
  };
  const add = () => {
    entries.value.split(/[\s,]+/).filter(Boolean).forEach((entry) => chosen.add(entry));
    entries.value = "";
    draw();
  };
  const onkeydown = (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    add();
  };
  const entries = h("input", { id: "events", name: "pattern", spellcheck: "false", placeholder: "contact.*",
    "aria-describedby": "events-fault", onkeydown });
  draw();
  const list = h("div", { class: "types", tabindex: "0", role: "group",
    "aria-label": "Event types of the catalogue" }, boxes.map(({ line }) => line));
  const element = h("fieldset", { class: "field", "data-field": "events" }, h("legend", null, "Events"),
    types.length ? list : null,
    h("label", { for: "events" }, types.length ? "A pattern, or a type that was not seen yet"
      : "Event types or patterns"),
    div("entry", entries, button("Add", add)), others, h("p", { class: "fault", id: "events-fault" }));
  const all = () => {
    add(); // What was typed and not added was meant.
    return [...chosen].sort();
  };
  return { element, chosen: all };
}
