// The list of events: newest first, filtered by phase, at most KEEP held and SHOW shown.

import { PHASES, agoNode, clock, describe, el, isBad, marks, phaseOf, typeLabel } from "./format.js";

const KEEP = 2000, SHOW = 200;

export function makeFeed({ rows, filter, pause, note }, { pick, open }) {
  let held = new Map(); // by sequence: a sequence comes twice after a reconnect
  let phase = "", paused = false, waiting = 0, due = false, quiet = "";

  const chips = ["", ...PHASES].map((name) => el("button", { type: "button", class: `chip ${name || "all"}`, "aria-pressed": String(name === ""), onclick: () => pick(name) },
    name ? el("span", { class: "dot" }) : undefined, name || "all"));
  filter.append(...chips);

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    waiting = 0;
    pause.textContent = paused ? "Go on" : "Pause";
    if (!paused) later();
  });

  rows.addEventListener("keydown", (e) => {
    const list = [...rows.querySelectorAll("button")], at = list.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: list.length - 1 }[e.key];
    if (to === undefined || !list[to]) return;
    e.preventDefault();
    list[to].focus();
  });

  function row(event, fresh) {
    const name = phaseOf(event);
    return el("li", { class: `row ${name}${event.kind === "claim" ? " claim" : ""}${fresh ? " fresh" : ""}`, "data-sequence": event.sequence },
      el("button", { type: "button", onclick: () => open(event) },
        el("span", { class: "time", title: new Date(event.time).toLocaleString() }, clock(event.time)),
        el("span", { class: "phase" }, el("span", { class: "dot" }), name),
        el("span", { class: "type" }, typeLabel(event.type)),
        el("span", { class: "text" }, describe(event)),
        el("span", { class: "marks" },
          event.kind === "claim" ? el("span", { class: "mark asks" }, `claim by ${event.principal ?? "?"}`) : undefined,
          ...marks(event).map((m) => el("span", { class: isBad(m) ? "mark bad" : "mark" }, m))),
        agoNode(event.time, "ago")));
  }

  function draw() {
    due = false;
    if (paused) return;
    const wanted = [...held.values()].filter((e) => !phase || e.phase === phase).sort((a, b) => b.sequence - a.sequence).slice(0, SHOW);
    const have = new Map([...rows.children].map((n) => [n.dataset.sequence, n]));
    const first = have.size === 0;
    // Rows that stay are kept as they are, so that neither the focus nor the reader's place is lost.
    const next = wanted.map((e) => have.get(String(e.sequence)) ?? row(e, !first));
    const keep = new Set(next);
    for (const n of have.values()) if (!keep.has(n)) n.remove();
    next.forEach((n, i) => { if (rows.children[i] !== n) rows.insertBefore(n, rows.children[i] ?? null); });
    note.hidden = wanted.length > 0;
    note.textContent = quiet || (phase ? `No event in ${phase} yet.` : "No event yet. The next one appears here by itself.");
  }

  function later() {
    if (due) return;
    due = true;
    requestAnimationFrame(draw);
  }

  return {
    add(list) {
      let fresh = 0;
      for (const e of list) {
        if (held.has(e.sequence)) continue;
        held.set(e.sequence, e);
        fresh++;
      }
      if (held.size > KEEP) held = new Map([...held].sort((a, b) => b[0] - a[0]).slice(0, KEEP / 2));
      if (paused && fresh) {
        waiting += fresh;
        pause.textContent = `Go on (${waiting} new)`;
      }
      later();
      return fresh;
    },
    clear() { held.clear(); rows.replaceChildren(); later(); },
    show(chosen) {
      phase = chosen;
      chips.forEach((c, i) => c.setAttribute("aria-pressed", String((["", ...PHASES])[i] === chosen)));
      later();
    },
    /** say replaces the line that stands where there are no events. */
    say(text) { quiet = text; later(); },
    last: () => held.size ? Math.max(...held.keys()) : 0,
  };
}
