// Turning what events carry into words. Everything here is text: nothing from an event ever becomes markup.

export const PHASES = ["plan", "develop", "integrate", "deploy", "operate", "learn"];

/** el makes an element: attributes by name, `class`, `on` handlers, children as nodes or text. */
export function el(tag, attrs = {}, ...children) {
  const svg = ["svg", "g", "path", "circle", "title"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attrs)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((c) => c !== undefined && c !== null));
  return node;
}

/** typeLabel: dev.cdeventsx.lemnis-backlog.ranked.0.1.0 → "backlog ranked". */
export function typeLabel(type) {
  const parts = type.replace(/^dev\.cdeventsx?\./, "").replace(/^lemnis-/, "").split(".");
  return parts.slice(0, 2).join(" ") || type;
}

/** phaseOf answers the event's phase, or "other" for one that this page does not know. */
export function phaseOf(event) {
  return PHASES.includes(event.phase) ? event.phase : "other";
}

const TITLES = ["title", "summary", "description", "name", "reason", "statement", "text", "uri"];
const OUTCOMES = ["outcome", "verdict", "state", "decision", "severity"];

function field(event, name) {
  const content = event.data?.subject?.content ?? {};
  const custom = typeof event.data?.customData === "object" ? event.data.customData : {};
  const value = content[name] ?? custom?.[name];
  if (typeof value === "string" || typeof value === "number") return String(value);
  return value?.id ? String(value.id) : undefined;
}

/** describe answers the most telling words of an event: a title where it has one, else the key of what it is about. */
export function describe(event) {
  for (const name of TITLES) {
    const value = field(event, name);
    if (value) return value;
  }
  return event.key ?? event.data?.subject?.id ?? event.id;
}

/** marks answers up to three short facts beside the description: outcome, environment, service. */
export function marks(event) {
  const found = [];
  for (const name of [...OUTCOMES, "environment", "service"]) {
    const value = field(event, name);
    if (value && value.length <= 32 && !found.includes(value)) found.push(value);
  }
  return found.slice(0, 3);
}

const BAD = /^(fail|failed|failure|error|refused|rejected|reject|rollback|critical|breached|unhealthy)$/i;
export const isBad = (word) => BAD.test(word);

/** span writes a duration in milliseconds in the largest fitting unit; `whole` without a fraction. */
export function span(ms, whole = false) {
  const s = Math.max(0, ms) / 1000;
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < 60 && !whole) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

/** ago writes how long a time lies back: "now", "12 s", "4 min". Empty for no time. */
export function ago(time) {
  const at = Date.parse(time ?? "");
  if (Number.isNaN(at)) return "";
  const ms = Date.now() - at;
  return ms < 2000 ? "now" : span(ms, true);
}

/** agoNode is a <time> that keepAgo keeps up to date. */
export function agoNode(time, cls) {
  return el("time", { datetime: time, class: cls, title: new Date(time).toLocaleString(), "data-ago": true }, ago(time));
}

export function keepAgo() {
  for (const node of document.querySelectorAll("time[data-ago]")) {
    const text = ago(node.getAttribute("datetime"));
    if (node.textContent !== text) node.textContent = text;
  }
}

export const clock = (time) => new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

/** jsonNodes writes a value as indented JSON, its parts as spans with a class each. */
export function jsonNodes(value) {
  const text = JSON.stringify(value, null, 2);
  const token = /("(?:\\.|[^"\\])*")(\s*:)?|\b(?:true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
  const nodes = [];
  let end = 0;
  for (const m of text.matchAll(token)) {
    nodes.push(text.slice(end, m.index));
    const cls = m[2] ? "k" : m[1] ? "s" : "n";
    nodes.push(el("span", { class: cls }, m[1] ?? m[0]));
    if (m[2]) nodes.push(m[2]);
    end = m.index + m[0].length;
  }
  nodes.push(text.slice(end));
  return nodes;
}
