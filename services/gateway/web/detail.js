// One event: its JSON, and the chain that it belongs to as a line from the first sentence on. What led to the event
// (its causes, one by one) stands out from what else happened in the same turn.

import { clock, describe, el, jsonNodes, phaseOf, span, typeLabel } from "./format.js";

const byId = (id) => document.getElementById(id);

export function makeDetail(api, { closed }) {
  const dialog = byId("detail"), list = byId("chain"), note = byId("chain-note");
  let chain = "", events = [], asked = 0;

  byId("detail-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (e) => { if (e.target === dialog) dialog.close(); }); // the backdrop
  dialog.addEventListener("close", () => { chain = ""; events = []; closed(); });

  function causes(event) {
    const known = new Map(events.map((e) => [e.id, e])), path = new Set();
    for (let e = event; e && !path.has(e.id); e = known.get(e.causationid)) path.add(e.id);
    return path;
  }

  function select(event) {
    byId("detail-title").textContent = typeLabel(event.type);
    byId("detail-title").className = phaseOf(event);
    byId("detail-sub").textContent = `${describe(event)} · ${event.kind} ${event.sequence}${event.principal ? ` by ${event.principal}` : ""} · ${new Date(event.time).toLocaleString()}`;
    byId("json").replaceChildren(...jsonNodes(event));
    const path = causes(event);
    for (const row of list.children) {
      row.classList.toggle("cause", path.has(row.dataset.id));
      const here = row.dataset.id === event.id;
      const button = row.querySelector("button");
      if (here) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }

  function draw() {
    const start = Date.parse(events[0]?.time);
    list.replaceChildren(...events.map((e) => el("li", { class: phaseOf(e) + (e.kind === "claim" ? " claim" : ""), "data-id": e.id },
      el("button", { type: "button", onclick: () => select(e) },
        el("span", { class: "dot" }), el("span", { class: "type" }, typeLabel(e.type)), el("span", { class: "text" }, describe(e)),
        el("span", { class: "at", title: clock(e.time) }, e === events[0] ? "start" : `+${span(Date.parse(e.time) - start)}`)))));
  }

  list.addEventListener("keydown", (e) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[e.key];
    if (!step) return;
    const buttons = [...list.querySelectorAll("button")], to = buttons[buttons.indexOf(document.activeElement) + step];
    if (!to) return;
    e.preventDefault();
    to.focus();
    to.click();
  });

  return {
    /** show opens the dialog on a chain; `event` is what to select, else the newest of the chain. */
    async show(project, wanted, event) {
      const turn = ++asked;
      chain = wanted;
      events = event ? [event] : [];
      list.replaceChildren();
      byId("json").replaceChildren();
      byId("detail-title").textContent = "…";
      byId("detail-sub").textContent = "";
      if (event) { draw(); select(event); }
      note.textContent = chain ? "Reading the chain…" : "This event belongs to no chain.";
      if (!dialog.open) dialog.showModal();
      if (!chain) return;
      try {
        const found = await api.events({ project, chain });
        if (turn !== asked || !dialog.open) return;
        const all = new Map([...events, ...found].map((e) => [e.id, e]));
        events = [...all.values()].sort((a, b) => a.sequence - b.sequence);
        note.textContent = events.length === 1 ? "One event so far." : `${events.length} events in ${span(Date.parse(events.at(-1).time) - Date.parse(events[0].time))}. What led to the selected one is joined by a line.`;
        if (events.length === 0) { note.textContent = "No event of this chain was found."; return; }
        draw();
        select(events.find((e) => e.id === event?.id) ?? events.at(-1));
        list.querySelector("[aria-current]")?.scrollIntoView({ block: "center" });
      } catch (err) {
        if (turn === asked) note.textContent = `The chain could not be read: ${err.message}`;
      }
    },
    /** join adds an event that arrives while its chain is open. */
    join(event) {
      if (!dialog.open || !chain || event.chainid !== chain || events.some((e) => e.id === event.id)) return;
      const current = list.querySelector("[aria-current]")?.closest("li").dataset.id, focused = list.contains(document.activeElement);
      events.push(event);
      draw();
      const chosen = events.find((e) => e.id === current);
      if (chosen) select(chosen);
      if (focused) list.querySelector("[aria-current]")?.focus();
    },
  };
}
