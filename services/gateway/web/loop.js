// The figure eight and the cards beside it.

import { PHASES, agoNode, el } from "./format.js";

const W = 1000, H = 430, HALF = 448, LIFT = 1.22;
const PEAK = Math.asin(1 / Math.sqrt(3)); // where a lemniscate of Bernoulli is highest
const EDGE = 0.34;                        // half the share of the two outer phases
const CLEAR = 0.16;                       // what a node covers to each side
// Plan at the top left, down around the left lobe, up through the middle, around the right lobe, and back.
const PLACE = {
  plan: { at: Math.PI - PEAK, from: Math.PI / 2, to: Math.PI - EDGE },
  develop: { at: Math.PI, from: Math.PI - EDGE, to: Math.PI + EDGE },
  integrate: { at: Math.PI + PEAK, from: Math.PI + EDGE, to: 1.5 * Math.PI },
  deploy: { at: 2 * Math.PI - PEAK, from: 1.5 * Math.PI, to: 2 * Math.PI - EDGE },
  operate: { at: 2 * Math.PI, from: 2 * Math.PI - EDGE, to: 2 * Math.PI + EDGE },
  learn: { at: 2 * Math.PI + PEAK, from: 2 * Math.PI + EDGE, to: 2.5 * Math.PI },
};

function point(t) {
  const d = 1 + Math.sin(t) ** 2;
  return [W / 2 + (HALF * Math.cos(t)) / d, H / 2 + (HALF * LIFT * Math.sin(t) * Math.cos(t)) / d];
}

function line(from, to, steps) {
  let d = "";
  for (let i = 0; i <= steps; i++) {
    const [x, y] = point(from + ((to - from) * i) / steps);
    d += `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
  }
  return d;
}

// The colour changes along the line from each phase to the next; an SVG gradient cannot follow a path, pieces can.
function strand(from, to) {
  const g = el("g", { class: "strand" });
  g.append(el("path", { class: "under", d: line(from, to, 60) }));
  const pieces = 48, step = (to - from) / pieces;
  for (let i = 0; i < pieces; i++) {
    const t = from + i * step;
    const piece = el("path", { class: "piece", d: line(t, t + step * 1.25, 3) });
    piece.style.stroke = colourAt(t + step / 2);
    g.append(piece);
  }
  return g;
}

function colourAt(t) {
  for (let i = 0; i < PHASES.length; i++) {
    const a = PLACE[PHASES[i]].at;
    const next = PHASES[(i + 1) % PHASES.length];
    let b = PLACE[next].at;
    if (b < a) b += 2 * Math.PI;
    const u = t < a ? t + 2 * Math.PI : t;
    if (u >= a && u <= b) return `color-mix(in oklab, var(--${next}) ${Math.round((100 * (u - a)) / (b - a))}%, var(--${PHASES[i]}))`;
  }
  return "var(--muted)";
}

function chevron(t) {
  const [x, y] = point(t), [x2, y2] = point(t + 0.01);
  const turn = (Math.atan2(y2 - y, x2 - x) * 180) / Math.PI;
  return el("path", { class: "chevron", d: "M-5 -6L3 0L-5 6", transform: `translate(${x.toFixed(1)} ${y.toFixed(1)}) rotate(${turn.toFixed(1)})` });
}

const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** makeLoop builds figure and cards; `pick(phase)` is called for a phase, `open(item)` for something that moves. */
export function makeLoop(figure, cards, { pick, open }) {
  const beads = el("g", { class: "beads" }), sparks = el("g");
  figure.append(el("svg", { viewBox: `0 0 ${W} ${H}`, "aria-hidden": "true" },
    // Down through the middle first, then up over it.
    strand(2 * Math.PI + PEAK, 2.5 * Math.PI), strand(Math.PI / 2, Math.PI - PEAK),
    strand(Math.PI - PEAK, Math.PI + PEAK), strand(2 * Math.PI - PEAK, 2 * Math.PI + PEAK),
    strand(Math.PI + PEAK, 2 * Math.PI - PEAK),
    ...[0.43, 0.57].flatMap((f) => [chevron(Math.PI + PEAK + f * (Math.PI - 2 * PEAK)), chevron(PEAK + f * (Math.PI - 2 * PEAK))]),
    beads, sparks));

  const nodes = {}, parts = {};
  for (const phase of PHASES) {
    const [x, y] = point(PLACE[phase].at);
    const count = el("span", { class: "count" }, "0");
    const node = el("button", { type: "button", class: `node ${phase}`, "aria-pressed": "false", onclick: () => pick(phase) }, count, el("span", { class: "name" }, phase));
    node.style.left = `${(100 * x) / W}%`;
    node.style.top = `${(100 * y) / H}%`;
    figure.append(node);
    nodes[phase] = { node, count };

    const list = el("ul"), counters = el("p", { class: "counters" });
    const head = el("button", { type: "button", class: "head", "aria-pressed": "false", onclick: () => pick(phase) }, el("span", { class: "dot" }), phase, el("span", { class: "moving" }));
    const card = el("article", { class: `card ${phase}` }, el("h2", {}, head), counters, list);
    (PHASES.indexOf(phase) < 3 ? cards.dev : cards.ops).append(card);
    parts[phase] = { card, head, list, counters, all: false };
  }

  function fill(phase, state) {
    const part = parts[phase], moving = state?.moving ?? [];
    nodes[phase].count.textContent = moving.length;
    nodes[phase].node.classList.toggle("busy", moving.length > 0);
    nodes[phase].node.setAttribute("aria-label", `${phase}: ${moving.length} moving. Show its events`);
    part.card.classList.toggle("busy", moving.length > 0);
    part.head.querySelector(".moving").textContent = moving.length ? `${moving.length} moving` : "at rest";
    part.counters.replaceChildren(
      el("span", {}, el("b", {}, String(state?.facts ?? 0)), " facts"), el("span", {}, el("b", {}, String(state?.claims ?? 0)), " claims"),
      state?.last ? el("span", { class: "last" }, "last ", agoNode(state.last)) : "");
    const shown = part.all ? moving : moving.slice(0, 3);
    const rows = shown.map((item) => el("li", {}, el("button", { type: "button", class: "item", onclick: () => open(item), title: "Show how it came about", "data-key": item.key },
      el("span", { class: "title" }, item.title || item.key),
      el("span", { class: "what" }, el("span", { class: "state" }, item.state), el("span", {}, item.kind), agoNode(item.since)))));
    if (moving.length > 3) {
      rows.push(el("li", {}, el("button", { type: "button", class: "more", onclick: () => { part.all = !part.all; fill(phase, state); } },
        part.all ? "Show fewer" : `Show ${moving.length - 3} more`)));
    }
    keepFocus(part.list, () => part.list.replaceChildren(...rows));
  }

  return {
    /** show fills everything from an overview. */
    show(phases) {
      beads.replaceChildren();
      for (const phase of PHASES) {
        const state = phases.find((p) => p.phase === phase);
        fill(phase, state);
        const { from, to, at } = PLACE[phase], moving = (state?.moving ?? []).slice(0, 8);
        moving.forEach((item, i) => {
          // Spread over what the node leaves free of the line, so that none is hidden under it.
          const free = (to - from - 2 * CLEAR) * ((i + 1) / (moving.length + 1));
          const t = from + free + (from + free > at - CLEAR ? 2 * CLEAR : 0);
          const [cx, cy] = point(t);
          beads.append(el("circle", { class: `bead ${phase}`, cx, cy, r: 8 }, el("title", {}, `${item.title || item.key}: ${item.state}`)));
        });
      }
    },
    /** mark shows which phase the events are filtered by. */
    mark(chosen) {
      for (const phase of PHASES) {
        for (const button of [nodes[phase].node, parts[phase].head]) button.setAttribute("aria-pressed", String(phase === chosen));
        parts[phase].card.classList.toggle("chosen", phase === chosen);
      }
    },
    /** spark runs a light along the phase's part of the line: something happened there. */
    spark(phase) {
      const place = PLACE[phase];
      if (!place || calm.matches || document.hidden || sparks.childElementCount > 11) return;
      const light = el("circle", { class: `spark ${phase}`, r: 9 });
      sparks.append(light);
      nodes[phase].node.classList.remove("hit");
      void nodes[phase].node.offsetWidth; // restarts the animation
      nodes[phase].node.classList.add("hit");
      const start = performance.now();
      const move = (now) => {
        const u = Math.min(1, (now - start) / 1100);
        const [x, y] = point(place.from + u * (place.to - place.from));
        light.setAttribute("cx", x);
        light.setAttribute("cy", y);
        light.setAttribute("opacity", Math.sin(Math.PI * u));
        if (u < 1) requestAnimationFrame(move);
        else light.remove();
      };
      requestAnimationFrame(move);
    },
  };
}

// A list is rebuilt while somebody may stand on one of its buttons.
function keepFocus(list, rebuild) {
  const key = list.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  rebuild();
  if (key) list.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}
