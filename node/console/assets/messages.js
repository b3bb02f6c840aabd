// Records of a topic: looked for, followed live, looked at closely, produced and sent again.
import { html, useEffect, useMemo, useRef, useState } from "./vendor/preact-htm.js";
import { bytes, bytesOf, hex, json, NONE, number, placeOfTime, seconds, time, word } from "./format.js";
import { Alert, Badge, Cli, Dialog, Empty, Field, Tree } from "./parts.js";
import { ask, change, home, lines, mode, place, setQuery, source, to, utc } from "./store.js";

const LIMIT = 50;
const KEPT = 500; // rows of a live tail on the page
const HELD = 1000; // while it is paused
const FIELDS = ["start", "stop", "order", "partitions", "text", "where"];
const ENDED = {
  all: "All of it was looked through.",
  limit: "There may be more.",
  bytes: "Stopped: enough bytes for one go. Narrow the search, or go on from here.",
  time: "Stopped: long enough for one go. Narrow the search, or go on from here.",
};
const SAVED = "lograft.filters";

export function Messages({ topic, state }) {
  const { query } = place.use();
  const { readOnly } = mode.use();
  const wanted = Object.fromEntries(FIELDS.map((name) => [name, query.get(name) || ""]));
  const live = query.get("live") === "1";
  const [produces, setProduces] = useState(null);
  const open = (record = {}) => setProduces(record);
  const described = state.told?.topic;
  return html`${state.trouble && !described && html`<${Alert} text=${state.trouble.message} />`}
    <${Controls} topic=${topic} wanted=${wanted} live=${live} produce=${readOnly ? null : open} described=${described} />
    ${live ? html`<${Live} key=${JSON.stringify(wanted)} topic=${topic} wanted=${wanted} resend=${readOnly ? null : open} />`
      : html`<${Found} key=${JSON.stringify(wanted)} topic=${topic} wanted=${wanted} resend=${readOnly ? null : open} />`}
    <${Cli} command=${commandOf(topic, wanted, live)} />
    ${produces && html`<${Produce} topic=${topic} record=${produces} partitions=${described?.partitions.length} onClose=${() => setProduces(null)} />`}`;
}

function commandOf(topic, wanted, live) {
  const partitions = wanted.partitions ? ` -p ${word(wanted.partitions)}` : "";
  if (live) return `lograft consume ${word(topic)}${partitions} -o end`;
  const range = wanted.start || wanted.stop ? `${wanted.start || "start"}:${wanted.stop || "end"}` : wanted.order === "oldest" ? "start:end" : `-${LIMIT}:end`;
  return `lograft consume ${word(topic)}${partitions} -o ${word(range)} --json`;
}

const pathOf = (topic, what, wanted, more = {}) =>
  `topics/${encodeURIComponent(topic)}/${what}?${new URLSearchParams(Object.entries({ ...wanted, ...more }).filter(([, value]) => value !== ""))}`;

// -- what is looked for ----------------------------------------------------------------------------------------------

function Controls({ topic, wanted, live, produce, described }) {
  const isUtc = utc.use();
  const [draft, setDraft] = useState(wanted);
  useEffect(() => setDraft(wanted), [JSON.stringify(wanted)]);
  const typed = (name) => (event) => setDraft({ ...draft, [name]: event.target.value });
  const submit = (event) => { event?.preventDefault(); setQuery(draft); };
  const choose = (changes) => { setDraft({ ...draft, ...changes }); setQuery({ ...draft, ...changes, live: false }); };
  return html`<form class="controls" onSubmit=${submit} role="search" aria-label="Messages">
    <div class="row">
      <${Field} label="Text, or /pattern/"><input type="search" data-search value=${draft.text} onInput=${typed("text")} placeholder="in key, value, headers" spellcheck=${false} /><//>
      <${Field} label="Where"><input value=${draft.where} onInput=${typed("where")} placeholder='status = "failed" and order.total >= 100' spellcheck=${false} list="saved-filters" /><//>
      <${Field} label="Partitions"><input class="small" value=${draft.partitions} onInput=${typed("partitions")} placeholder=${described ? `all ${described.partitions.length}` : "all"} inputmode="numeric" /><//>
    </div>
    <div class="row">
      <${Field} label="From"><input class="medium" value=${draft.start} onInput=${typed("start")} placeholder="start, 120, -50, @-1h" spellcheck=${false} disabled=${live} /><//>
      <${Field} label="Until, without it"><input class="medium" value=${draft.stop} onInput=${typed("stop")} placeholder="end" spellcheck=${false} disabled=${live} /><//>
      <${Field} label="Order"><select value=${draft.order} disabled=${live} onChange=${(event) => choose({ order: event.target.value })}><option value="">newest first</option><option value="oldest">oldest first</option></select><//>
    </div>
    <details class="times"><summary>By date and time</summary><div class="row">
      <${Field} label=${`From (${isUtc ? "UTC" : "local"})`}><input type="datetime-local" step="1" disabled=${live} onChange=${(event) => setDraft({ ...draft, start: placeOfTime(event.target.value, isUtc) })} /><//>
      <${Field} label=${`Until (${isUtc ? "UTC" : "local"})`}><input type="datetime-local" step="1" disabled=${live} onChange=${(event) => setDraft({ ...draft, stop: placeOfTime(event.target.value, isUtc) })} /><//>
    </div></details>
    <div class="row buttons">
      <button type="submit" class="primary">${live ? "Filter" : "Search"}</button>
      <button type="button" onClick=${() => choose({ start: "", stop: "", order: "" })}>Newest</button>
      <button type="button" onClick=${() => choose({ start: "@-1h", stop: "", order: "oldest" })}>Last hour</button>
      <button type="button" onClick=${() => choose({ start: "", stop: "", order: "oldest" })}>From the start</button>
      <button type="button" aria-pressed=${live} onClick=${() => setQuery({ ...draft, live: !live })}>Live</button>
      <${SavedFilters} draft=${draft} />
      <span class="grow"></span>
      ${produce && html`<button type="button" onClick=${() => produce()}>Produce…</button>`}
    </div></form>`;
}

function SavedFilters({ draft }) {
  const [saved, set] = useState(() => { try { return JSON.parse(localStorage.getItem(SAVED)) || []; } catch { return []; } });
  const keep = () => {
    const next = [draft.where.trim(), ...saved.filter((one) => one !== draft.where.trim())].slice(0, 20);
    try { localStorage.setItem(SAVED, JSON.stringify(next)); } catch { /* then for this page */ }
    set(next);
  };
  return html`<datalist id="saved-filters">${[...saved, 'status = "failed"', "order.total >= 100", "user.name ~ ann", "exists error.code", "headers.trace-id = 7"].map((one) => html`<option value=${one}></option>`)}</datalist>
    ${draft.where.trim() && !saved.includes(draft.where.trim()) && html`<button type="button" class="quiet" onClick=${keep}>Remember this condition</button>`}`;
}

// -- what is found ---------------------------------------------------------------------------------------------------

function Found({ topic, wanted, resend }) {
  const [rows, setRows] = useState([]);
  const [news, setNews] = useState(null);
  const [trouble, setTrouble] = useState("");
  const [runs, setRuns] = useState(true);
  const over = useRef(null);
  const look = async (cursor = "") => {
    const mine = (over.current = new AbortController());
    setRuns(true); setTrouble("");
    try {
      for await (const told of lines(pathOf(topic, "messages", wanted, { limit: LIMIT, cursor }), mine.signal)) {
        if (mine.signal.aborted) return;
        if (told.rows.length) setRows((before) => [...before, ...told.rows]);
        setNews(told);
      }
    } catch (error) { if (!mine.signal.aborted) setTrouble(error.message); }
    if (over.current === mine) setRuns(false);
  };
  useEffect(() => { look(); return () => over.current?.abort(); }, []);
  const stop = () => { over.current.abort(); setRuns(false); };
  const cursor = news?.cursor && Object.entries(news.cursor).map(([number, at]) => `${number}:${at}`).join(",");
  source.use();
  const download = `${home}/console/api/${pathOf(topic, "download", wanted, { limit: 100000 })}`;
  return html`<div class="progress" role="status"><span>
      ${news ? html`<b>${number(rows.length)}</b> found · ${number(news.read)} of ${number(news.total)} read · ${bytes(news.bytes)}${news.unreadable ? ` · ${number(news.unreadable)} batches could not be read and are left out` : ""}` : runs ? "Searching…" : ""}
      ${!runs && news && (news.ended ? html` · ${ENDED[news.ended]}` : !trouble && " · Cancelled.")}</span>
      ${runs && html`<progress max=${news?.total || 1} value=${news?.read || 0} aria-label="Records read"></progress><button type="button" class="quiet" onClick=${stop}>Cancel</button>`}
      <span class="grow"></span>${rows.length > 0 && source.get().origin === home && html`<a class="button quiet" href=${download} download title="Lines of JSON, with whole values; within the same budget">Download</a>`}</div>
    ${trouble && html`<${Alert} text=${trouble} />`}
    <${Rows} topic=${topic} rows=${rows} resend=${resend} />
    ${!runs && !trouble && !rows.length && html`<${Empty}>No record ${wanted.text || wanted.where ? "matches" : "is here"}.<//>`}
    ${!runs && news?.ended && news.ended !== "all" && html`<button type="button" onClick=${() => look(cursor)}>Go on${wanted.order === "oldest" ? "" : ": older"}</button>`}`;
}

function Live({ topic, wanted, resend }) {
  const [rows, setRows] = useState([]);
  const [counts, setCounts] = useState({ seen: 0, skipped: 0 });
  const [paused, setPaused] = useState(false);
  const [held, setHeld] = useState(0);
  const [trouble, setTrouble] = useState("");
  const isPaused = useRef(false);
  const waiting = useRef([]);
  useEffect(() => {
    const over = new AbortController();
    const { text, where, partitions } = wanted;
    (async () => {
      while (!over.signal.aborted) {
        try {
          for await (const told of lines(pathOf(topic, "tail", { text, where, partitions }), over.signal)) {
            setTrouble("");
            let dropped = 0;
            if (isPaused.current) {
              waiting.current.push(...told.rows);
              dropped = Math.max(0, waiting.current.length - HELD);
              waiting.current.splice(0, dropped);
              setHeld(waiting.current.length);
            } else if (told.rows.length) {
              setRows((before) => [...told.rows.toReversed(), ...before].slice(0, KEPT));
            }
            setCounts((before) => ({ seen: before.seen + told.seen, skipped: before.skipped + told.skipped + dropped }));
          }
        } catch (error) {
          if (over.signal.aborted) return;
          setTrouble(`${error.message} Trying again; what came meanwhile is not shown.`);
          if (error.status >= 400 && error.status < 500) { setTrouble(error.message); return; }
        }
        await new Promise((resolve) => setTimeout(resolve, 1500));
      }
    })();
    return () => over.abort();
  }, []);
  const pause = () => {
    isPaused.current = !isPaused.current;
    setPaused(isPaused.current);
    if (!isPaused.current) {
      const more = waiting.current;
      waiting.current = [];
      setHeld(0);
      setRows((before) => [...more.toReversed(), ...before].slice(0, KEPT));
    }
  };
  return html`<div class="progress"><span role="status"><i class=${`pulse ${paused || trouble ? "" : "on"}`} aria-hidden="true"></i>
      ${paused ? `Paused: ${number(held)} wait.` : "Live."} ${number(counts.seen)} came, ${number(counts.skipped)} of them not shown (50 a second are).</span>
      <button type="button" onClick=${pause}>${paused ? "Go on" : "Pause"}</button><button type="button" class="quiet" onClick=${() => setRows([])}>Clear</button><span class="grow"></span>
      <span class="muted">It uses no group and stores nothing: no consumer gets fewer records for it.</span></div>
    ${trouble && html`<${Alert} kind="warn" text=${trouble} />`}
    <${Rows} topic=${topic} rows=${rows} resend=${resend} />
    ${!rows.length && html`<${Empty}>Waiting for records.<//>`}`;
}

// -- records ---------------------------------------------------------------------------------------------------------

function oneLine(content, limit) {
  if (!content) return html`<span class="muted">null</span>`;
  if (content.text === undefined) return html`<span class="muted">${bytes(content.size)}, not text</span>`;
  const text = content.text.slice(0, limit);
  return text === "" ? html`<span class="muted">empty</span>` : text;
}

function Rows({ topic, rows, resend }) {
  const isUtc = utc.use();
  const [open, setOpen] = useState(null);
  if (!rows.length) return null;
  return html`<div class="scroll records" tabindex="0" role="group" aria-label="Records"><table><thead><tr>
      <th scope="col">Time</th><th scope="col" class="num">Part.</th><th scope="col" class="num">Offset</th><th scope="col">Key</th><th scope="col">Value</th></tr></thead>
    <tbody>${rows.map((row) => {
      const id = `${row.p}:${row.o}`;
      const isOpen = open === id;
      return html`<tr key=${id} class=${isOpen ? "open" : ""}><td class="time"><button type="button" aria-expanded=${isOpen} onClick=${() => setOpen(isOpen ? null : id)}>${time(row.t, isUtc)}<span class="visually-hidden"> record ${row.o} of partition ${row.p}</span></button></td>
        <td class="num">${row.p}</td><td class="num">${row.o}</td><td class="mono key">${oneLine(row.key, 60)}</td><td class="mono value">${oneLine(row.value, 300)}</td></tr>
        ${isOpen && html`<tr key=${`${id}+`} class="detail"><td colspan="5"><${Detail} topic=${topic} row=${row} resend=${resend} /></td></tr>`}`;
    })}</tbody></table></div>`;
}

const isCut = (content) => content && (content.text !== undefined ? new TextEncoder().encode(content.text).length : bytesOf(content).length) < content.size;

function Detail({ topic, row, resend }) {
  const [whole, setWhole] = useState(row);
  const [trouble, setTrouble] = useState("");
  const [tab, setTab] = useState("");
  const needs = row.cut;
  useEffect(() => {
    if (!needs) return;
    ask(`topics/${encodeURIComponent(topic)}/records/${row.p}/${row.o}`).then(({ record }) => setWhole(record), (error) => setTrouble(error.message));
  }, []);
  const value = whole.value;
  const parsed = useMemo(() => { try { const found = json(value.text); return typeof found === "object" && found !== null ? { found } : null; } catch { return null; } }, [value]);
  const tabs = [parsed && ["json", "JSON"], value?.text !== undefined && ["text", "Text"], value && ["hex", "Hex"], ["headers", `Headers (${whole.headers.length})`]].filter(Boolean);
  const shown = tab || tabs[0][0];
  const waits = needs && whole === row && !trouble;
  return html`<div class="record">
    <div class="tabs small" role="group" aria-label="Shown as">${tabs.map(([id, title]) => html`<button type="button" aria-pressed=${shown === id} onClick=${() => setTab(id)}>${title}</button>`)}
      <span class="grow"></span><span class="muted">${topic}-${row.p} @ ${row.o} · term ${row.term} · key ${row.key ? bytes(row.key.size) : NONE} · value ${value ? bytes(value.size) : NONE}</span>
      <a class="button quiet" href=${to("topics", topic, "messages", { partitions: row.p, start: row.o, order: "oldest" })}>From here</a>
      ${resend && html`<button type="button" class="quiet" disabled=${waits || whole.cut} title=${whole.cut ? "Larger than the console shows: it would be no copy" : "Fills the form: nothing is sent yet"} onClick=${() => resend(whole)}>Resend…</button>`}</div>
    ${trouble && html`<${Alert} text=${trouble} />`}
    ${whole.key && html`<p class="mono whole-key"><span class="muted">key </span>${whole.key.text ?? hex(bytesOf(whole.key), 256)}</p>`}
    ${waits ? html`<p class="wait">Asking for all of it…</p>` : {
      json: () => html`<div class="tree mono"><${Tree} value=${parsed.found} /></div>`,
      text: () => html`<pre tabindex="0">${value.text}</pre>`,
      hex: () => html`<pre tabindex="0">${hex(bytesOf(value))}</pre>`,
      headers: () => whole.headers.length ? html`<table class="plain"><thead><tr><th scope="col">Name</th><th scope="col">Value</th></tr></thead><tbody>${whole.headers.map(([name, one]) => html`<tr><td class="mono">${name}</td><td class="mono">${one === null ? html`<span class="muted">null</span>` : one.text ?? hex(bytesOf(one), 256)}</td></tr>`)}</tbody></table>${whole.cut && !waits && html`<p class="muted">Of large keys and headers only the first part is shown${whole.headers_left_out ? `; ${number(whole.headers_left_out)} headers are left out` : ""}. Download has all of it.</p>`}` : html`<${Empty}>It has no headers.<//>`,
    }[shown]()}
    ${!value && shown !== "headers" && html`<p class="muted">No value: a tombstone. Where the topic is compacted it deletes the key.</p>`}
    ${isCut(value) && !waits && html`<p class="muted">Only the first part is shown: the value has ${bytes(value.size)}. Download has all of it.</p>`}</div>`;
}

// -- producing -------------------------------------------------------------------------------------------------------

const kindOf = (content) => (content == null ? "none" : content.text !== undefined ? "text" : "b64");
const asContent = (kind, text) => (kind === "none" ? null : { [kind]: text });

function Produce({ topic, record, partitions, onClose }) {
  const isResent = record.o !== undefined;
  const [to_, setTo] = useState(topic);
  const [keyKind, setKeyKind] = useState(kindOf(record.key));
  const [key, setKey] = useState(record.key?.text ?? record.key?.b64 ?? "");
  const [valueKind, setValueKind] = useState(isResent ? kindOf(record.value) : "text");
  const [value, setValue] = useState(record.value?.text ?? record.value?.b64 ?? "");
  const [headers, setHeaders] = useState(() => (record.headers || []).map(([name, content]) => ({ name, kind: kindOf(content), text: content?.text ?? content?.b64 ?? "" })));
  const [partition, setPartition] = useState("");
  const [many, setMany] = useState(false);
  const [told, setTold] = useState(null);
  const [trouble, setTrouble] = useState("");
  const [sends, setSends] = useState(false);
  const send = async (event) => {
    event.preventDefault();
    setTrouble(""); setTold(null); setSends(true);
    const one = { key: asContent(keyKind, key), headers: headers.map((header) => [header.name, asContent(header.kind, header.text)]), partition: partition === "" ? null : Number(partition) };
    const values = many ? value.split("\n").filter((line) => line !== "").map((text) => ({ text })) : [asContent(valueKind, value)];
    try { setTold(await change(`topics/${encodeURIComponent(to_)}/records`, { records: values.map((content) => ({ ...one, value: content })) })); } catch (error) { setTrouble(error.message); }
    setSends(false);
  };
  const change_ = (at, changes) => setHeaders(headers.map((header, number_) => (number_ === at ? { ...header, ...changes } : header)));
  const command = `lograft produce ${word(to_)}${keyKind === "text" ? ` -k ${word(key)}` : ""}${partition === "" ? "" : ` -p ${partition}`}${headers.map((header) => ` -H ${word(`${header.name}=${header.text}`)}`).join("")}`;
  return html`<${Dialog} title=${isResent ? `Send ${topic}-${record.p} @ ${record.o} again` : `Produce to ${topic}`} onClose=${onClose}>
    <form class="form" onSubmit=${send}>
      ${isResent && html`<p class="muted wide">A copy: the record itself stays where it is. Its key, value and headers are as they were unless you change them.</p>`}
      <${Field} label="Topic"><input required value=${to_} onInput=${(event) => setTo(event.target.value)} spellcheck=${false} /><//>
      <${Field} label="Partition" hint="empty: by key"><input type="number" min="0" max=${partitions && to_ === topic ? partitions - 1 : undefined} value=${partition} onInput=${(event) => setPartition(event.target.value)} /><//>
      <${Field} label="Key"><select value=${keyKind} onChange=${(event) => setKeyKind(event.target.value)}><option value="none">none</option><option value="text">text</option><option value="b64">base64</option></select><//>
      ${keyKind !== "none" && html`<${Field} label=${`Key, as ${keyKind === "text" ? "text" : "base64"}`}><input value=${key} onInput=${(event) => setKey(event.target.value)} spellcheck=${false} /><//>`}
      <${Field} label="Value"><select value=${valueKind} disabled=${many} onChange=${(event) => setValueKind(event.target.value)}><option value="text">text</option><option value="b64">base64</option><option value="none">none: a tombstone</option></select><//>
      ${valueKind !== "none" && html`<label class="field wide"><span>Value</span><textarea rows="7" value=${value} onInput=${(event) => setValue(event.target.value)} spellcheck=${false}></textarea></label>`}
      <label class="check wide"><input type="checkbox" checked=${many} disabled=${valueKind !== "text"} onChange=${(event) => setMany(event.target.checked)} /> each line is a record</label>
      <fieldset class="wide"><legend>Headers</legend>${headers.map((header, at) => html`<div class="row header"><input aria-label="Header name" value=${header.name} onInput=${(event) => change_(at, { name: event.target.value })} />
        <input aria-label="Header value" value=${header.text} disabled=${header.kind === "none"} onInput=${(event) => change_(at, { text: event.target.value })} />${header.kind !== "text" && html`<${Badge}>${header.kind === "b64" ? "base64" : "null"}<//>`}
        <button type="button" class="quiet" aria-label=${`Remove header ${header.name}`} onClick=${() => setHeaders(headers.filter((_, number_) => number_ !== at))}>✕</button></div>`)}
        <button type="button" class="quiet" onClick=${() => setHeaders([...headers, { name: "", kind: "text", text: "" }])}>Add a header</button></fieldset>
      <button type="submit" class="primary" disabled=${sends}>${sends ? "Sending…" : isResent ? "Send again" : "Produce"}</button></form>
    ${trouble && html`<${Alert} text=${trouble} />`}
    ${told && html`<${Alert} kind="good" text=${`${told.count === 1 ? `Written to partition ${told.produced[0].partition} at offset ${told.produced[0].offset}` : `${number(told.count)} records written`}, ${told.durability}.`} />`}
    <${Cli} command=${command} label="The same; the value from standard input" /><//>`;
}
