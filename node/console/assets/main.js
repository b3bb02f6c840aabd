// The frame: what is around every page, and which page the address means.
import { html, render, useEffect, useState } from "./vendor/preact-htm.js";
import { Brokers, Elections, Overview } from "./cluster.js";
import { Group, Groups } from "./groups.js";
import { Alert, Dialog } from "./parts.js";
import { go, home, isDark, known, mode, place, refresh, source, theme, to, toggleTheme, toggleUtc, useTold, utc } from "./store.js";
import { Topic, Topics } from "./topics.js";

const PAGES = [
  ["", "Overview", "o", Overview],
  ["brokers", "Brokers", "b", Brokers],
  ["topics", "Topics", "t", Topics],
  ["groups", "Groups", "g", Groups],
  ["elections", "Elections", "e", Elections],
];
const KEYS = [
  ["/", "search on this page"],
  ...PAGES.map(([, title, key]) => [`g ${key}`, title.toLowerCase()]),
  ["r", "ask anew now"],
  ["u", "times in UTC or local"],
  ["d", "dark or light"],
  ["?", "these keys"],
  ["Esc", "close, or leave a field"],
];

function Page() {
  const { parts } = place.use();
  const [first = "", name] = parts;
  if (first === "topics" && name) return html`<${Topic} key=${name} name=${name} tab=${parts[2] || "messages"} />`;
  if (first === "groups" && name) return html`<${Group} key=${name} name=${name} />`;
  const found = PAGES.find(([path]) => path === first);
  return found ? html`<${found[3]} />` : html`<${Alert} text=${`The console has no page ${first}.`} />`;
}

function Fallback() {
  const { origin, servedBy } = source.use();
  if (origin === home) return null;
  const here = `${origin}/console/${location.hash}`;
  return html`<div class="banner" role="alert">
    <b>The broker that served this page does not answer.</b> What is shown now comes from broker ${servedBy ?? "…"};
    nothing can be changed here until it is back. <a href=${here}>Open this page on broker ${servedBy ?? "…"}</a></div>`;
}

function Shell() {
  const state = useTold("overview", 2000);
  const [help, setHelp] = useState(false);
  const { parts } = place.use();
  const isUtc = utc.use();
  const { readOnly } = mode.use();
  const { servedBy } = source.use();
  theme.use();
  const { told, trouble } = state;
  useEffect(() => {
    if (!told) return;
    known.set(told.brokers.filter((broker) => broker.alive && broker.http_address)
      .map((broker) => ({ id: broker.id, origin: `http://${broker.http_address}` })));
    if (mode.get().readOnly !== told.read_only || mode.get().version !== told.version) mode.set({ readOnly: told.read_only, version: told.version });
  }, [told]);
  useEffect(() => {
    let waits = 0;
    const onKey = (event) => {
      const inField = event.target.closest?.("input, textarea, select");
      if (event.key === "Escape" && inField) { event.target.blur(); return; }
      if (inField || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
      if (Date.now() - waits < 1200) {
        const found = PAGES.find(([, , key]) => key === event.key);
        waits = 0;
        if (found) { go(...(found[0] ? [found[0]] : [])); event.preventDefault(); return; }
      }
      const act = { g: () => { waits = Date.now(); }, "/": () => document.querySelector("[data-search]")?.focus(),
        r: refresh, u: toggleUtc, d: toggleTheme, "?": () => setHelp(true) }[event.key];
      if (act) { act(); event.preventDefault(); }
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  const title = parts.length ? parts.slice(0, 2).join(" ") : "overview";
  useEffect(() => { document.title = `${title} · lograft`; }, [title]);
  const cluster = told?.cluster;
  const health = trouble || !cluster ? ["unknown", trouble ? "not reached" : "…"] : cluster.healthy ? ["ok", "healthy"] : ["bad", "not healthy"];
  return html`<a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.getElementById("main").focus(); }}>To the content</a>
    <header class="top">
      <a class="brand" href="#/"><svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="7" /><path d="M8 9h16M8 16h11M8 23h6" /><circle cx="23" cy="22" r="3" /></svg>lograft</a>
      <a class=${`health ${health[0]}`} href="#/" title=${cluster ? `cluster ${cluster.cluster_id}` : ""}><i aria-hidden="true"></i>${health[1]}</a>
      <span class="grow"></span>
      ${readOnly && html`<span class="badge" title="console.read_only">read only</span>`}
      <span class="muted served">by broker ${servedBy ?? "…"}</span>
      <button type="button" class="quiet" onClick=${toggleUtc} aria-label=${`Times are ${isUtc ? "in UTC" : "local"}: change`}>${isUtc ? "UTC" : "local"}</button>
      <button type="button" class="quiet" onClick=${toggleTheme} aria-label=${`Change to ${isDark() ? "light" : "dark"}`}>${isDark() ? "☾" : "☀"}</button>
      <button type="button" class="quiet" onClick=${() => setHelp(true)} aria-label="Keys">?</button>
    </header>
    <nav aria-label="Pages">${PAGES.map(([path, title]) => html`
      <a href=${to(...(path ? [path] : []))} aria-current=${(parts[0] || "") === path ? "page" : undefined}>${title}</a>`)}</nav>
    <${Fallback} />
    <main id="main" tabindex="-1">${parts.length ? html`<${Page} />` : html`<${Overview} state=${state} />`}</main>
    ${help && html`<${Dialog} title="Keys" onClose=${() => setHelp(false)}><dl class="keys">${KEYS.map(([keys, what]) => html`
      <div><dt>${keys.split(" ").map((key) => html`<kbd>${key}</kbd> `)}</dt><dd>${what}</dd></div>`)}</dl><//>`}`;
}

document.getElementById("root").textContent = "";
render(html`<${Shell} />`, document.getElementById("root"));
