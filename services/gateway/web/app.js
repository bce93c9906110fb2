// The dashboard's wiring: what is chosen stands in the address, the overview is read again when something happened,
// events come by the stream.

import * as api from "./api.js";
import { PHASES, agoNode, el, keepAgo } from "./format.js";
import { makeLoop } from "./loop.js";
import { makeFeed } from "./feed.js";
import { makeDetail } from "./detail.js";

const byId = (id) => document.getElementById(id);
const HISTORY = 100; // events shown at first
const state = { project: "", phase: "", seen: false, end: 0, stream: null, open: false, retryAt: 0 };

const loop = makeLoop(byId("figure"), { dev: byId("cards-dev"), ops: byId("cards-ops") }, {
  pick: (phase) => choosePhase(phase === state.phase ? "" : phase),
  open: (item) => item.chain && openChain(item.chain),
});
const feed = makeFeed({ rows: byId("rows"), filter: byId("filter"), pause: byId("pause"), note: byId("events-note") }, {
  pick: (phase) => choosePhase(phase),
  open: (event) => openChain(event.chainid, event),
});
const detail = makeDetail(api, { closed: () => writeAddress() });

function openChain(chain, event) {
  writeAddress(chain);
  detail.show(state.project, chain, event);
}

function writeAddress(chain) {
  const query = new URLSearchParams();
  if (state.project) query.set("project", state.project);
  if (state.phase) query.set("phase", state.phase);
  if (chain) query.set("chain", chain);
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
}

function choosePhase(phase) {
  state.phase = phase;
  writeAddress();
  loop.mark(phase);
  feed.show(phase);
  if (phase && state.project) readHistory();
}

// The overview: read at the start, a moment after events, and now and then, since items also age out.
let reading = false, again = false, refreshTimer;
async function refresh() {
  if (reading) { again = true; return; }
  reading = true;
  try {
    show(await api.overview(state.project));
    problem("");
    askWho(null);
  } catch (err) {
    askWho(err);
    problem(err.status === 401 ? "" : err.status ? `The gateway refused: ${err.message}` : "The gateway does not answer.");
  } finally {
    reading = false;
    if (again) { again = false; soon(); }
  }
}

// A gateway that asks who one is answers 401 until it is told, and 403 for what may not be read.
function askWho(err) {
  const asked = err?.status === 401;
  if (byId("signin").hidden === asked) {
    byId("signin").hidden = !asked;
    if (asked) byId("token").focus();
  }
  if (asked) byId("signin-note").textContent = signedIn ? err.message : "";
}
let signedIn = false;
byId("signin").addEventListener("submit", (e) => {
  e.preventDefault();
  api.signIn(byId("token").value);
  byId("token").value = "";
  signedIn = true;
  state.seen = false;
  refresh();
});

function soon() {
  refreshTimer ??= setTimeout(() => { refreshTimer = undefined; refresh(); }, 350);
}

function show(answer) {
  const projects = answer.projects ?? [], phases = answer.phases ?? [];
  byId("welcome").hidden = projects.length > 0;
  for (const id of ["loop", "events", "project-label"]) byId(id).hidden = projects.length === 0;
  if (projects.length === 0) return;
  const chosen = answer.project || projects[0];
  const select = byId("project");
  if ([...select.options].map((o) => o.value).join() !== projects.join()) select.replaceChildren(...projects.map((p) => el("option", { value: p }, p)));
  select.value = chosen;
  loop.show(phases);
  const sum = (name) => phases.reduce((n, p) => n + (p[name] ?? 0), 0);
  const moving = phases.reduce((n, p) => n + (p.moving?.length ?? 0), 0);
  const last = phases.map((p) => p.last).filter(Boolean).sort((a, b) => Date.parse(a) - Date.parse(b)).at(-1);
  const total = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));
  byId("totals").replaceChildren(total("moving", String(moving)), total("facts", String(sum("facts"))), total("claims", String(sum("claims"))), total("last event", last ? agoNode(last) : "none"));
  state.end = answer.sequence ?? 0;
  if (state.project !== chosen || !state.seen) {
    state.project = chosen;
    state.seen = true;
    feed.clear();
    writeAddress(new URLSearchParams(location.search).get("chain"));
    follow();
    readHistory();
  }
}

async function readHistory() {
  const { project, phase } = state;
  try {
    const found = await api.recent(project, phase, state.end, HISTORY);
    if (project === state.project) { feed.add(found); feed.say(""); }
  } catch (err) {
    feed.say(`Earlier events could not be read: ${err.message}`);
  }
}

function follow() {
  state.stream?.close();
  let opened = false;
  state.open = false;
  state.stream = api.live({ project: state.project }, {
    onevent(event) {
      if (feed.add([event]) === 0) return;
      if (PHASES.includes(event.phase)) loop.spark(event.phase);
      detail.join(event);
      soon();
    },
    async onopen() {
      state.open = true;
      state.retryAt = 0;
      tick();
      if (opened) { // what was missed while the line was down
        const last = feed.last();
        try { feed.add(await api.events({ project: state.project, after: last })); } catch { /* the overview's error is shown */ }
      }
      opened = true;
      refresh();
    },
    onlost(retryAt) {
      state.retryAt = retryAt;
      tick();
    },
  });
}

let trouble = "";
function problem(text) {
  trouble = text;
  tick();
}

function link() {
  if (state.retryAt || trouble) return ["lost", "Not connected"];
  if (!state.stream) return ["live", "Waiting for a first event"];
  return state.open ? ["live", "Live"] : ["connecting", "Connecting…"];
}

function tick() {
  keepAgo();
  const [lamp, word] = link();
  byId("link").dataset.state = lamp;
  if (byId("link-text").textContent !== word) byId("link-text").textContent = word;
  const wait = Math.max(0, Math.ceil((state.retryAt - Date.now()) / 1000));
  const text = state.retryAt ? `The live connection is lost. What you see may be old. ${wait ? `Trying again in ${wait} s.` : "Trying again…"}` : trouble;
  byId("banner").hidden = !text;
  document.body.classList.toggle("stale", Boolean(text));
  if (byId("banner-text").textContent !== text) byId("banner-text").textContent = text;
}

byId("project").addEventListener("change", (e) => {
  state.project = e.target.value;
  state.seen = false;
  refresh();
});
byId("retry").addEventListener("click", () => { state.stream?.again(); refresh(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
document.addEventListener("click", async (e) => {
  const button = e.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(byId(button.dataset.copy).textContent);
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});

byId("cmd-feedback").textContent = `curl ${location.origin}/feedback -H 'Content-Type: application/json' -d '{"project":"shop","user":"ann","text":"The search is too slow"}'`;

const address = new URLSearchParams(location.search);
state.project = address.get("project") ?? "";
const startPhase = address.get("phase") ?? "";
if (PHASES.includes(startPhase)) choosePhase(startPhase);
await refresh();
if (address.get("chain")) openChain(address.get("chain"));
setInterval(tick, 1000);
(function poll() {
  setTimeout(async () => {
    if (!document.hidden && !state.retryAt) await refresh();
    poll();
  }, state.stream && !trouble ? 15000 : 3000);
})();
