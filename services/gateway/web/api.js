// Talking to the gateway: three addresses, read only. Where it asks who one is, a token is sent in a header, which no other
// page can do; it is kept for this tab only.

const KEPT = "lemnis-token";
let token = sessionStorage.getItem(KEPT) ?? "";

/** signIn keeps a token for this tab; an empty one forgets it. */
export function signIn(text) {
  token = text.trim();
  if (token) sessionStorage.setItem(KEPT, token);
  else sessionStorage.removeItem(KEPT);
}

const headers = (accept) => (token ? { Accept: accept, Authorization: `Bearer ${token}` } : { Accept: accept });

async function get(path, params) {
  const query = new URLSearchParams(Object.entries(params).filter(([, v]) => v !== "" && v !== undefined && v !== null));
  const answer = await fetch(`${path}?${query}`, { headers: headers("application/json") });
  if (answer.ok) return answer.json();
  let said = "";
  try {
    const body = await answer.json();
    said = body.message ?? body.error?.message ?? body.detail ?? (typeof body.error === "string" ? body.error : "");
  } catch { /* no JSON: the status has to do */ }
  const failure = new Error(said || `${path} answered ${answer.status}`);
  failure.status = answer.status;
  throw failure;
}

export const overview = (project) => get("/api/v1/overview", { project });

/** events reads pages from `after` on, `pages` at most; answers them in the stream's order. */
export async function events(params, pages = 5) {
  const all = [];
  let after = params.after;
  for (let i = 0; i < pages; i++) {
    const page = await get("/events", { limit: 1000, ...params, after });
    all.push(...page.events);
    if (!page.next || page.events.length === 0 || String(page.next) === String(after)) break;
    after = page.next;
  }
  return all.sort((a, b) => a.sequence - b.sequence);
}

/**
 * recent finds the last events. `end` is the sequence that the overview stood at. The sequence runs over all projects,
 * so the window before it is widened until it holds enough or reaches the start.
 */
export async function recent(project, phase, end, want) {
  if (!end) return (await events({ project, phase })).slice(-want);
  for (let window = want * 4; ; window *= 8) {
    const after = Math.max(0, end - window);
    const found = await events({ project, phase, after });
    if (found.length >= want || after === 0 || window > 100000) return found.slice(-want);
  }
}

/**
 * live follows the stream. It closes and opens the connection itself, with growing pauses: browsers differ in when
 * they give up. `onopen` is called at each opening, so that the caller can read what it missed.
 */
export function live(params, { onevent, onopen, onlost }) {
  let source, timer, tries = 0, closed = false;
  const open = () => {
    clearTimeout(timer);
    source?.close();
    const address = `/events/stream?${new URLSearchParams(params)}`;
    source = token ? new TokenSource(address) : new EventSource(address);
    source.onopen = () => { tries = 0; onopen(); };
    source.onerror = () => {
      source.close();
      if (closed) return;
      const pause = Math.min(15000, 1000 * 2 ** tries++);
      timer = setTimeout(open, pause);
      onlost(Date.now() + pause);
    };
    const take = (message) => {
      try { onevent(JSON.parse(message.data)); } catch (err) { console.error("an event could not be read", err); }
    };
    source.addEventListener("fact", take);
    source.addEventListener("claim", take);
  };
  open();
  return { again: open, close() { closed = true; clearTimeout(timer); source.close(); } };
}

/** TokenSource is as much of an EventSource as live needs, by fetch, since an EventSource sends no header. */
class TokenSource {
  #listeners = {};
  #abort = new AbortController();

  constructor(address) { this.#run(address); }

  addEventListener(name, take) { this.#listeners[name] = take; }

  close() { this.#abort.abort(); }

  async #run(address) {
    try {
      const answer = await fetch(address, { headers: headers("text/event-stream"), signal: this.#abort.signal });
      if (!answer.ok) throw new Error(`the stream answered ${answer.status}`);
      this.onopen?.();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        blocks.forEach((block) => this.#take(block));
      }
    } catch { /* lost, as when the other side ends it */ }
    if (!this.#abort.signal.aborted) this.onerror?.();
  }

  #take(block) {
    let name = "message";
    const data = [];
    for (const line of block.split("\n")) {
      if (line.startsWith("event: ")) name = line.slice(7);
      else if (line.startsWith("data: ")) data.push(line.slice(6));
    }
    if (data.length) this.#listeners[name]?.({ data: data.join("\n") });
  }
}
