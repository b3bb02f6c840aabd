// What the whole page shares: which broker is asked, how times are shown, where the page is. No drawing here.
import { useEffect, useState } from "./vendor/preact-htm.js";

const TIMEOUT_MS = 9000;
const HOME_TRY_MS = 5000;

// -- told to all who listen ------------------------------------------------------------------------------------------

function signal(value) {
  const listeners = new Set();
  return {
    get: () => value,
    set(next) { value = next; for (const listener of [...listeners]) listener(value); },
    use() {
      const [, draw] = useState(0);
      useEffect(() => { const listener = () => draw((n) => n + 1); listeners.add(listener); return () => listeners.delete(listener); }, []);
      return value;
    },
  };
}

function stored(key, otherwise) {
  try { return localStorage.getItem(key) ?? otherwise; } catch { return otherwise; }
}
function store(key, value) {
  try { localStorage.setItem(key, value); } catch { /* then it holds for this page */ }
}

export const utc = signal(stored("lograft.utc", "1") === "1");
export function toggleUtc() { utc.set(!utc.get()); store("lograft.utc", utc.get() ? "1" : "0"); }

const systemDark = matchMedia("(prefers-color-scheme: dark)");
export const theme = signal(document.documentElement.dataset.theme || "");
export const isDark = () => (theme.get() || (systemDark.matches ? "dark" : "light")) === "dark";
export function toggleTheme() {
  const next = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  store("lograft.theme", next);
  theme.set(next);
}
systemDark.addEventListener("change", () => theme.set(theme.get()));

// -- which broker is asked -------------------------------------------------------------------------------------------

// `home` served this page. If it falls silent, the others are asked: only for what can be looked at.
export const home = location.origin;
export const source = signal({ origin: home, why: "", servedBy: null });
export const known = signal([]); // consoles: {id, origin}
export const mode = signal({ readOnly: false, version: "" });
let homeTimer = 0;

export class Trouble extends Error {
  constructor(text, status = 0, field = "") { super(text); this.status = status; this.field = field; }
}

function origins() {
  const now = source.get().origin;
  return [...new Set([now, home, ...known.get().map((console) => console.origin)])];
}

function turnTo(origin, why) {
  if (source.get().origin === origin) return;
  source.set({ ...source.get(), origin, why });
  clearInterval(homeTimer);
  if (origin !== home) homeTimer = setInterval(tryHome, HOME_TRY_MS);
}

async function tryHome() {
  try {
    const answer = await fetch(`${home}/console/api/overview`, { signal: AbortSignal.timeout(3000) });
    if (answer.ok) turnTo(home, "");
  } catch { /* not yet */ }
}

async function asTold(answer) {
  let told = {};
  try { told = await answer.json(); } catch { /* the status says it */ }
  return new Trouble(told.error || `the broker answered ${answer.status}`, answer.status, told.field);
}

// Ask for what can be looked at: of the broker that answered last, and of the others if it does not.
export async function ask(path, { signal: aborted, timeout = TIMEOUT_MS } = {}) {
  let last = new Trouble("no broker's console answered: is the cluster running?");
  for (const origin of origins()) {
    try {
      const signals = [AbortSignal.timeout(timeout), ...(aborted ? [aborted] : [])];
      const answer = await fetch(`${origin}/console/api/${path}`, { signal: AbortSignal.any(signals) });
      if (answer.status === 503 && origins().length > 1) { last = await asTold(answer); continue; }
      if (!answer.ok) throw await asTold(answer);
      const told = await answer.json();
      turnTo(origin, origin === home ? "" : last.message);
      if (told.served_by !== undefined && told.served_by !== source.get().servedBy) {
        source.set({ ...source.get(), servedBy: told.served_by });
      }
      return told;
    } catch (error) {
      if (aborted?.aborted || error instanceof Trouble) throw error;
      last = new Trouble(error.name === "TimeoutError" ? "the broker did not answer in time" : "no broker answers here now");
    }
  }
  throw last;
}

// Lines of JSON as they come; ends when the broker ends it, or `aborted` says so.
export async function* lines(path, aborted) {
  let answer;
  for (const origin of origins()) {
    try {
      answer = await fetch(`${origin}/console/api/${path}`, { signal: aborted });
      turnTo(origin, origin === home ? "" : "no broker answers here now");
      break;
    } catch (error) {
      if (aborted.aborted) return;
    }
  }
  if (!answer) throw new Trouble("no broker's console answered: is the cluster running?");
  if (!answer.ok) throw await asTold(answer);
  const decoder = new TextDecoder();
  const reader = answer.body.getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      rest += decoder.decode(value ?? new Uint8Array(), { stream: !done });
      const parts = rest.split("\n");
      rest = parts.pop();
      for (const part of parts) {
        if (!part) continue;
        const told = JSON.parse(part);
        if (told.error) throw new Trouble(told.error);
        yield told;
      }
      if (done) return;
    }
  } catch (error) {
    if (aborted.aborted) return;
    throw error instanceof Trouble ? error : new Trouble("the broker went away meanwhile");
  } finally {
    reader.cancel().catch(() => {});
  }
}

// A change: only of the broker that served this page.
export async function change(path, content) {
  if (source.get().origin !== home) {
    throw new Trouble("The broker that served this page does not answer. Open the console of another one to change anything.");
  }
  let answer;
  try {
    answer = await fetch(`${home}/console/api/${path}`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-lograft-console": "1" },
      body: JSON.stringify(content),
      signal: AbortSignal.timeout(30000),
    });
  } catch {
    throw new Trouble("No answer: it is not known whether this was done. Look before you try again.");
  }
  if (!answer.ok) throw await asTold(answer);
  return answer.json();
}

// What `path` tells, again and again; what was told last stays while a newer answer is awaited or fails.
export function useTold(path, everyMs = 2000) {
  const [state, set] = useState({ path: null, told: null, trouble: null });
  useEffect(() => {
    const over = new AbortController();
    let timer = 0;
    const look = async () => {
      if (!document.hidden) {
        try {
          const told = await ask(path, { signal: over.signal });
          if (!over.signal.aborted) set({ path, told, trouble: null });
        } catch (trouble) {
          if (!over.signal.aborted) set((before) => ({ path, told: before.path === path ? before.told : null, trouble }));
        }
      }
      if (!over.signal.aborted && everyMs) timer = setTimeout(look, everyMs);
    };
    const wake = () => { if (!document.hidden) { clearTimeout(timer); look(); } };
    look();
    document.addEventListener("visibilitychange", wake);
    document.addEventListener("lograft:refresh", wake);
    return () => {
      over.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", wake);
      document.removeEventListener("lograft:refresh", wake);
    };
  }, [path, everyMs]);
  return state.path === path ? state : { path, told: null, trouble: null };
}
export const refresh = () => document.dispatchEvent(new Event("lograft:refresh"));

// -- where the page is: all of it in the address ---------------------------------------------------------------------

function parsed() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map((part) => { try { return decodeURIComponent(part); } catch { return part; } });
  return { parts, query: new URLSearchParams(query) };
}
export const place = signal(parsed());
addEventListener("hashchange", () => place.set(parsed()));

export function to(...parts) {
  const query = parts.length && typeof parts[parts.length - 1] === "object" ? parts.pop() : {};
  const kept = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "" && value != null));
  return `#/${parts.map(encodeURIComponent).join("/")}${[...kept].length ? `?${kept}` : ""}`;
}
export function go(...parts) { location.hash = to(...parts); }

// Change something of what stands behind the `?`, in place: no new entry in the browser's history.
export function setQuery(changes) {
  const { parts, query } = place.get();
  const next = new URLSearchParams(query);
  for (const [name, value] of Object.entries(changes)) {
    if (value === "" || value == null || value === false) next.delete(name); else next.set(name, value === true ? "1" : value);
  }
  history.replaceState(null, "", `#/${parts.map(encodeURIComponent).join("/")}${[...next].length ? `?${next}` : ""}`);
  place.set(parsed());
}
