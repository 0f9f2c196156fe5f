// What every view is made of: elements, words for times and numbers, dialogs, and what is said aloud.

// ── Elements ──

/** An element; of `props`, `on…` are listeners, texts attributes, and all else properties where there is one. */
export const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);

/** An element of a drawing. */
export const svg = (tag, props, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (typeof value !== "string" && element instanceof HTMLElement) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  const there = (child) => child !== null && child !== undefined && child !== false;
  element.append(...children.flat(Infinity).filter(there));
  return element;
}

export const div = (kind, ...children) => h("div", { class: kind || null }, ...children);
export const code = (...text) => h("code", null, ...text);
export const link = (href, text, kind) => h("a", { href, class: kind }, text);
export const quiet = (...text) => h("span", { class: "quiet" }, ...text);
export const bad = (...text) => h("span", { class: "fault" }, ...text);
export const badge = (word, kind = word) => h("span", { class: `badge ${kind}` }, word);
export const none = () => h("span", { class: "quiet none" }, "–");

/** The heading of a view with what stands beside it, below the way to it. */
export const heading = (title, beside = [], path = []) => [
  path.length ? h("p", { class: "path" }, path.map(([href, text], at) =>
    [at ? " / " : "", link(href, text)])) : null,
  div("head", h("h1", null, title), beside),
];

let made = 0;
/** An id that no other element has. */
export const unique = () => `n${++made}`;

export const button = (text, onclick, kind, props) =>
  h("button", { type: "button", class: kind, onclick, ...props }, text);

/** A button that does something which takes time, and shows at `place` what goes wrong. */
export function act(text, place, action, kind) {
  const element = button(text, () => busy(element, place, action), kind);
  return element;
}

/** Does something for a button, which waits meanwhile. */
export async function busy(element, place, action) {
  const had = document.activeElement === element;
  element.disabled = true;
  place?.querySelector(":scope > .problem")?.remove();
  try {
    await action();
  } catch (problem) {
    if (place) place.append(trouble(problem));
    else toast(problem.message);
  }
  element.disabled = false;
  // A disabled element loses the focus.
  if (had && document.activeElement === document.body) element.focus();
}

/** A choice that filters a list: `options` are values with their names. */
export function choice(label, options, chosen, choose) {
  const id = unique();
  const all = [["", "All"], ...options].map(([value, text]) =>
    h("option", { value, selected: value === chosen }, text));
  return div("", h("label", { for: id }, label),
    h("select", { id, onchange: ({ target }) => choose(target.value) }, all));
}

/** Keeps what a view is filtered by where reloading and going back find it. */
export function keepInAddress(view, filter) {
  const chosen = new URLSearchParams(Object.entries(filter).filter(([, value]) => value));
  history.replaceState(null, "", `#/${view}${chosen.size ? `?${chosen}` : ""}`);
}

/** One of few, all of them in view. */
export function radios(legend, options, chosen, choose) {
  const name = unique();
  const one = ([value, text]) => h("label", null,
    h("input", { type: "radio", name, checked: value === chosen, onchange: () => choose(value) }), text);
  return h("fieldset", { class: "choices" }, h("legend", null, legend), options.map(one));
}

export const block = (text, label) => h("pre", { tabindex: "0", role: "group", "aria-label": label }, text);

/** Text with a button that copies it. */
export function copyable(text, label, element = code(text)) {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      toast(`${label} copied`);
    } catch {
      getSelection().selectAllChildren(element);
      toast(`${label} selected: press Ctrl+C or ⌘C`);
    }
  };
  return div(`copyable ${element.tagName.toLowerCase()}`, element,
    button("Copy", copy, "small", { "aria-label": `Copy ${label.toLowerCase()}` }));
}

/** A table, which a narrow screen shows as a list; with roles, for that layout takes them away. */
export function table(caption, heads, rows = []) {
  const head = h("tr", { role: "row" },
    heads.map((text) => h("th", { scope: "col", role: "columnheader" }, text)));
  const body = h("tbody", { role: "rowgroup" }, rows);
  const whole = h("table", { role: "table" }, h("caption", { class: "unseen" }, caption),
    h("thead", { role: "rowgroup" }, head), body);
  return Object.assign(whole, { body });
}

/** A row of such a table; it names its columns again, for the list. */
export const row = (heads, cells) => h("tr", { role: "row" },
  cells.map((cell, at) => h("td", { role: "cell", "data-head": heads[at] }, cell)));

export const facts = (pairs) => h("dl", { class: "facts" }, pairs
  .filter((pair) => pair[1] !== null && pair[1] !== undefined && pair[1] !== "")
  .map(([name, value]) => div("", h("dt", null, name), h("dd", null, value))));

// ── States ──

export const loading = (what) =>
  h("div", { class: "loading", role: "status" }, h("span", { class: "unseen" }, `Loading ${what}…`), h("i"),
    h("i"), h("i"));

export const empty = (title, ...more) => div("empty", h("p", { class: "title" }, title), ...more);

export const unavailable = () => empty("Not available on this companion");

/** What went wrong, and where. */
export function trouble({ message, errors = [] }, again) {
  const faults = errors.map(({ field, detail }) => h("li", null, field ? code(field) : null, ` ${detail}`));
  return h("div", { class: "problem", role: "alert" }, h("p", null, message),
    faults.length ? h("ul", null, faults) : null,
    again ? button("Try again", again, "small") : null);
}

/** Has a screen reader say something when it has said what it is saying. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

let fading;
/** Says something for all to see, for a moment. */
export function toast(text) {
  const place = document.getElementById("toast");
  clearTimeout(fading);
  place.textContent = text;
  fading = setTimeout(() => (place.textContent = ""), 5_000);
}

/** Opens a dialog and gives it; Escape closes it, and the focus goes back to where it was. */
export function dialog(title, ...content) {
  const id = unique();
  const element = h("dialog", { "aria-labelledby": id }, h("h2", { id }, title), ...content);
  element.addEventListener("close", () => element.remove());
  document.body.append(element);
  element.showModal();
  return element;
}

/** Asks before something is done that cannot be undone. */
export function confirm(title, text, verb, action) {
  const place = div();
  const yes = act(verb, place, async () => {
    await action();
    box.close();
  }, "danger");
  const no = button("Cancel", () => box.close(), "", { autofocus: true });
  const box = dialog(title, h("p", null, text), place, div("actions", no, yes));
}

// ── Words ──

/** By how much the companion's clock is ahead of this one, in ms; `api.js` finds out. */
export const clock = { ahead: 0, now: () => Date.now() + clock.ahead };

export const count = (number) => Number(number ?? 0).toLocaleString("en");

export function duration(ms) {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min ${Math.floor((ms % 60_000) / 1_000)} s`;
  if (ms < 172_800_000) return `${Math.floor(ms / 3_600_000)} h ${Math.floor((ms % 3_600_000) / 60_000)} min`;
  return `${Math.floor(ms / 86_400_000)} days`;
}

/** How far away a time is; a time that is due is counted down. */
function distance({ dateTime, dataset }) {
  const ms = Date.parse(dateTime) - clock.now();
  // A receiver that fails is only probed, and caps and rates hold: what is due may have to wait.
  if ("due" in dataset) return ms <= -5_000 ? "waits its turn" : ms <= 0 ? "now" : `in ${duration(Math.ceil(ms / 1_000) * 1_000)}`;
  const minutes = Math.round(-ms / 60_000);
  if (minutes < -1) return `in ${duration(ms)}`;
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  return minutes < 2_880 ? `${Math.round(minutes / 60)} h ago` : `${Math.round(minutes / 1_440)} days ago`;
}

const FULL = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

/** A time in full. */
export const moment = (at) => at && h("time", { datetime: at }, FULL.format(new Date(at)));

/** A time as its distance from now, kept up to date, in full in its title. */
export function time(at, props) {
  if (!at) return none();
  const element = h("time", { datetime: at, title: FULL.format(new Date(at)), ...props });
  element.textContent = distance(element);
  return element;
}

/** The time until something is due. */
export const countdown = (at) => time(at, { "data-due": "" });

setInterval(() => {
  for (const element of document.querySelectorAll("time[title]")) {
    const text = distance(element);
    if (element.textContent !== text) element.textContent = text;
  }
}, 1_000);

/** JSON on several lines; what is no JSON as it is. */
export function pretty(value) {
  if (typeof value !== "string") return JSON.stringify(value, null, 2);
  try {
    return JSON.stringify(JSON.parse(value), null, 2);
  } catch {
    return value;
  }
}
