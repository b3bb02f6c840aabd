// The pieces that pages are made of.
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/preact-htm.js";
import { csv, Digits, number, NONE } from "./format.js";
import { isDark, place, setQuery, theme, utc } from "./store.js";

export function Told({ state, children }) {
  const { told, trouble } = state;
  if (trouble && !told) return html`<${Alert} text=${trouble.message} />`;
  if (!told) return html`<div class="wait" role="status">Asking the cluster…</div>`;
  return html`${trouble && html`<${Alert} text=${`Not up to date: ${trouble.message}`} />`}${children(told)}`;
}

export const Alert = ({ text, kind = "bad" }) => html`<p class="alert ${kind}" role="alert">${text}</p>`;
export const Badge = ({ kind = "", title, children }) => html`<span class="badge ${kind}" title=${title}>${children}</span>`;
export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;

export function Facts({ of }) {
  return html`<dl class="facts">${of.filter(Boolean).map(([name, value, kind, title]) => html`
    <div class=${kind || ""} title=${title}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

export function Card({ title, id, tools, children, wide }) {
  return html`<section class="card ${wide ? "wide" : ""}" aria-labelledby=${id}>
    <header><h2 id=${id}>${title}</h2>${tools && html`<div class="tools">${tools}</div>`}</header>${children}</section>`;
}

// The command that does or shows the same.
export function Cli({ command, label = "Same on the command line" }) {
  const [copied, set] = useState(false);
  const copy = async () => {
    try { await navigator.clipboard.writeText(command); set(true); setTimeout(() => set(false), 1500); } catch { /* it can be marked by hand */ }
  };
  return html`<div class="cli"><span class="visually-hidden">${label}: </span><code tabindex="0" aria-label=${label}>${command}</code>
    <button type="button" class="quiet" onClick=${copy} aria-label=${`Copy the command ${command}`}>${copied ? "copied" : "copy"}</button></div>`;
}

export function save(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// Rows that can be sorted and searched; both are in the address. A column: {id, title, value, draw?, kind?, csv?}.
export function Table({ name, label, columns, rows, keyOf, initial, search = true, file, tools, empty = "Nothing here." }) {
  const { query } = place.use();
  const sort = query.get(`${name}.sort`) || initial || columns[0].id;
  const down = sort.startsWith("-");
  const by = columns.find((column) => column.id === sort.replace(/^-/, "")) || columns[0];
  const wanted = (query.get(`${name}.q`) || "").toLowerCase();
  const shown = useMemo(() => {
    const found = wanted ? rows.filter((row) => columns.some((column) => String(column.value(row) ?? "").toLowerCase().includes(wanted))) : rows;
    const compare = (a, b) => {
      const [left, right] = [by.value(a), by.value(b)];
      if (left == null || right == null) return (left == null) - (right == null);
      const order = typeof left === "number" ? left - right : String(left).localeCompare(String(right), "en", { numeric: true });
      return down ? -order : order;
    };
    return [...found].sort((a, b) => compare(a, b) || String(keyOf(a)).localeCompare(String(keyOf(b)), "en", { numeric: true }));
  }, [rows, wanted, by.id, down]);
  const [most, setMost] = useState(200);
  return html`${(search || file || tools) && html`<div class="table-tools">
      ${search && html`<input type="search" data-search class="search" placeholder="Search   /" aria-label=${`Search ${label}`}
        value=${query.get(`${name}.q`) || ""} onInput=${(event) => setQuery({ [`${name}.q`]: event.target.value })} />
        <span class="muted" role="status">${wanted ? `${number(shown.length)} of ${number(rows.length)}` : number(rows.length)}</span>`}
      <span class="grow"></span>${tools}
      ${file && html`<button type="button" class="quiet" onClick=${() => save(`${file}.csv`, csv(columns, shown), "text/csv")}>CSV</button>`}
    </div>`}
    <div class="scroll" tabindex="0" role="group" aria-label=${label}><table><thead><tr>${columns.map((column) => {
      const isBy = column.id === by.id;
      return html`<th scope="col" class=${column.kind || ""} aria-sort=${isBy ? (down ? "descending" : "ascending") : undefined}>
        <button type="button" onClick=${() => setQuery({ [`${name}.sort`]: isBy && !down ? `-${column.id}` : column.id })}>
          ${column.title}<span class="arrow" aria-hidden="true">${isBy ? (down ? "▾" : "▴") : ""}</span></button></th>`;
    })}</tr></thead><tbody>${shown.slice(0, most).map((row) => html`<tr key=${keyOf(row)}>${columns.map((column) => html`
      <td class=${column.kind || ""} data-title=${column.title}>${column.draw ? column.draw(row) : column.value(row) ?? NONE}</td>`)}</tr>`)}
    </tbody></table>
    ${!shown.length && html`<${Empty}>${rows.length ? "Nothing matches." : empty}<//>`}</div>
    ${shown.length > most && html`<button type="button" onClick=${() => setMost(most * 2)}>Show more: ${number(shown.length - most)} are left</button>`}`;
}

// -- charts ----------------------------------------------------------------------------------------------------------

export function Spark({ columns, label, format }) {
  const [times, values] = columns.length > 1 ? columns : [[], []];
  const known = values.filter((value) => value != null);
  const last = known[known.length - 1];
  const text = `${label}: ${known.length ? `now ${format(last)}, at most ${format(Math.max(...known))}` : "nothing measured yet"}`;
  const [width, height] = [240, 44];
  let path = "";
  if (known.length > 1) {
    const [from, until, top] = [times[0], times[times.length - 1], Math.max(...known, 1e-9)];
    let pen = "M";
    values.forEach((value, at) => {
      if (value == null) { pen = "M"; return; }
      path += `${pen}${(((times[at] - from) / (until - from || 1)) * width).toFixed(1)} ${(height - 3 - (value / top) * (height - 8)).toFixed(1)}`;
      pen = "L";
    });
  }
  return html`<figure class="spark"><figcaption><span>${label}</span><b>${known.length ? format(last) : NONE}</b></figcaption>
    <svg viewBox="0 0 ${width} ${height}" preserveAspectRatio="none" role="img" aria-label=${text}>
      <path class="ground" d="M0 ${height - 2.5}H${width}" />${path && html`<path class="line" d=${path} />`}</svg></figure>`;
}

function hue(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

// `columns`: times in ms, then one for each of `series` {title, color, format, axis}.
export function Chart({ columns, series, label, height = 200 }) {
  const box = useRef(null);
  const plot = useRef(null);
  theme.use();
  const isUtc = utc.use();
  const dark = isDark();
  const has = columns.length > series.length && columns[0].length > 1;
  useLayoutEffect(() => {
    if (!has) return undefined;
    const grid = { stroke: hue("--line"), width: 1 };
    const axis = { stroke: hue("--muted"), grid, ticks: { stroke: hue("--line") }, font: "12px system-ui", size: 68 };
    const made = new uPlot({
      width: box.current.clientWidth, height,
      tzDate: (at) => (isUtc ? uPlot.tzDate(new Date(at * 1000), "Etc/UTC") : new Date(at * 1000)),
      legend: { show: false }, cursor: { drag: { x: false, y: false } },
      scales: Object.fromEntries(series.map((one) => [one.title, { range: (_, low, high) => [0, Math.max(high, 1) * 1.1] }])),
      series: [{}, ...series.map((one) => ({ label: one.title, scale: one.title, stroke: hue(one.color), width: 2, spanGaps: false, points: { show: false } }))],
      axes: [{ ...axis, size: 32, values: [[3600, "{HH}:{mm}", null, null, null, null, null, null, 1], [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1]] },
        ...series.map((one, at) => ({ ...axis, scale: one.title, side: at ? 1 : 3, grid: at ? { show: false } : grid, stroke: hue(one.color), values: (_, ticks) => ticks.map(one.format) }))],
    }, inSeconds(columns), box.current);
    plot.current = made;
    const watch = new ResizeObserver(() => made.setSize({ width: box.current.clientWidth, height }));
    watch.observe(box.current);
    return () => { watch.disconnect(); made.destroy(); plot.current = null; };
  }, [has, dark, isUtc, series.length]);
  useEffect(() => { if (has && plot.current) plot.current.setData(inSeconds(columns)); }, [columns]);
  const lasts = series.map((one, at) => `${one.title}: ${has ? one.format(columns[at + 1][columns[at + 1].length - 1] ?? 0) : NONE}`);
  return html`<figure class="chart"><figcaption>${series.map((one, at) => html`
      <span><i class=${`swatch ${one.color.slice(2)}`}></i>${lasts[at]}</span>`)}</figcaption>
    <div class="plot" ref=${box} style=${{ height: `${height}px` }} role="img" aria-label=${`${label}. Now: ${lasts.join(", ")}`}>
      ${!has && html`<p class="empty">Measured every five seconds while a console is open: a line is drawn soon.</p>`}</div></figure>`;
}
const inSeconds = (columns) => [columns[0].map((ms) => ms / 1000), ...columns.slice(1)];

// -- values ----------------------------------------------------------------------------------------------------------

export function Tree({ value, name, open = 2 }) {
  if (value === null || typeof value !== "object" || value instanceof Digits) {
    const kind = value === null ? "null" : value instanceof Digits ? "number" : typeof value;
    const text = value instanceof Digits ? value.text : kind === "string" ? JSON.stringify(value) : String(value);
    return html`<div class="leaf">${name !== undefined && html`<span class="name">${name}: </span>`}<span class=${kind}>${text}</span></div>`;
  }
  const entries = Array.isArray(value) ? value.map((one, at) => [at, one]) : Object.entries(value);
  const sum = Array.isArray(value) ? `[${entries.length}]` : `{${entries.length}}`;
  return html`<${Branch} name=${name} sum=${sum} entries=${entries} open=${open} />`;
}

function Branch({ name, sum, entries, open }) {
  const [isOpen, set] = useState(open > 0);
  return html`<details open=${isOpen} onToggle=${(event) => { event.stopPropagation(); set(event.currentTarget.open); }}>
    <summary>${name !== undefined && html`<span class="name">${name} </span>`}<span class="muted">${sum}</span></summary>
    ${isOpen && entries.slice(0, 500).map(([key, one]) => html`<${Tree} key=${key} name=${key} value=${one} open=${open - 1} />`)}
    ${isOpen && entries.length > 500 && html`<div class="muted">… ${entries.length - 500} more: see the text</div>`}</details>`;
}

export function Dialog({ title, onClose, children }) {
  const box = useRef(null);
  useLayoutEffect(() => { box.current.showModal(); }, []);
  return html`<dialog ref=${box} aria-labelledby="dialog-title" onClose=${onClose}
      onClick=${(event) => { if (event.target === box.current) box.current.close(); }}>
    <div class="dialog"><header><h2 id="dialog-title">${title}</h2>
      <button type="button" class="quiet" onClick=${() => box.current.close()} aria-label="Close">✕</button></header>${children}</div></dialog>`;
}

export function Field({ label, hint, trouble, children }) {
  return html`<label class=${`field ${trouble ? "wrong" : ""}`}><span>${label}</span>${children}${hint && html`<small>${hint}</small>`}${trouble && html`<small class="trouble" role="alert">${trouble}</small>`}</label>`;
}
