// The list of topics, and one topic: its messages, its partitions, its settings.
import { html, useState } from "./vendor/preact-htm.js";
import { Timeline } from "./cluster.js";
import { bytes, NONE, number, seconds, short, word } from "./format.js";
import { Messages } from "./messages.js";
import { Alert, Badge, Card, Cli, Empty, Facts, Spark, Table, Told } from "./parts.js";
import { change, mode, place, refresh, setQuery, to, useTold } from "./store.js";
import { Alter, Create } from "./topic-forms.js";

const worst = (row) => row.groups.reduce((most, one) => Math.max(most, one.lag_records), row.groups.length ? 0 : -1);

export function Topics() {
  const state = useTold("topics");
  const { query } = place.use();
  const { readOnly } = mode.use();
  const [creates, setCreates] = useState(false);
  const internal = query.get("internal") === "1";
  const columns = [
    { id: "name", title: "Topic", value: (row) => row.name, draw: (row) => html`<a href=${to("topics", row.name)}>${row.name}</a>
      ${row.leaderless > 0 && html` <${Badge} kind="bad">${row.leaderless} without leader<//>`}${row.unsound > 0 && html` <${Badge} kind="warn">${row.unsound} lack a copy<//>`}` },
    { id: "in", title: "Records/s", kind: "num", value: (row) => row.in_records_s, draw: (row) => short(row.in_records_s) },
    { id: "bytes", title: "Bytes/s", kind: "num", value: (row) => row.in_bytes_s, draw: (row) => (row.in_bytes_s == null ? NONE : bytes(row.in_bytes_s)) },
    { id: "records", title: "Records", kind: "num", value: (row) => row.records, draw: (row) => number(row.records) },
    { id: "size", title: "Size", kind: "num", value: (row) => row.size_bytes, draw: (row) => html`<span title="Of one copy, as stored">${bytes(row.size_bytes)}</span>` },
    { id: "partitions", title: "Partitions", kind: "num", value: (row) => row.partitions, draw: (row) => html`${row.partitions} <span class="muted">× ${row.replication}</span>` },
    { id: "lag", title: "Groups behind", value: worst, csv: (row) => row.groups.map((one) => `${one.group}:${one.lag_records}`).join(" "),
      draw: (row) => row.groups.length ? row.groups.slice(0, 3).map((one) => html`<a class="lagging" href=${to("groups", one.group)}>${one.group} <b class=${one.lag_records ? "warn" : "ok"} title=${`oldest unread: ${seconds(one.lag_seconds)}`}>${number(one.lag_records)}</b></a> `) : html`<span class="muted">none</span>` },
  ];
  return html`<h1>Topics</h1><${Told} state=${state}>${(told) => html`
    ${told.told.trouble && html`<${Alert} kind="warn" text=${`Not up to date: ${told.told.trouble}`} />`}
    <${Table} name="t" label="Topics" file="topics" columns=${columns} rows=${told.topics.filter((row) => internal || !row.internal)} keyOf=${(row) => row.name}
      tools=${html`<label class="check"><input type="checkbox" checked=${internal} onChange=${(event) => setQuery({ internal: event.target.checked })} /> internal</label>${!readOnly && html`<button type="button" onClick=${() => setCreates(true)}>Create…</button>`}`}
      empty="There are no topics yet: lograft topic create NAME" />
    <p class="muted">Rates are over the last ten seconds or more, from the committed ends; bytes as stored in one copy.</p>
    <${Cli} command="lograft topic list" />`}<//>
    ${creates && html`<${Create} onClose=${() => setCreates(false)} />`}`;
}

export function Topic({ name, tab }) {
  const state = useTold(`topics/${encodeURIComponent(name)}`);
  const tabs = [["messages", "Messages"], ["partitions", "Partitions and Raft"], ["groups", "Groups"], ["settings", "Settings"]];
  return html`<h1><a href="#/topics">Topics</a> <span class="muted">/</span> ${name}</h1>
    <div class="tabs" role="navigation" aria-label="Of this topic">${tabs.map(([id, title]) => html`<a href=${to("topics", name, id)} aria-current=${tab === id ? "page" : undefined}>${title}</a>`)}</div>
    ${tab === "messages" && html`<${Messages} topic=${name} state=${state} />`}
    ${tab !== "messages" && html`<${Told} state=${state}>${({ topic }) => ({
      partitions: () => html`<${Partitions} topic=${topic} />`, groups: () => html`<${Behind} topic=${topic} />`, settings: () => html`<${Settings} topic=${topic} />`,
    }[tab] || (() => html`<${Alert} text="There is no such page." />`))()}<//>`}`;
}

const STATES = { OK: "ok", BEHIND: "warn", UNREACHABLE: "bad", DOUBTFUL: "bad", DAMAGED: "bad", EMPTY: "warn" };

function Partitions({ topic }) {
  const { readOnly } = mode.use();
  const [trouble, setTrouble] = useState("");
  const [done, setDone] = useState("");
  const lead = async (partition, broker) => {
    setTrouble(""); setDone("");
    try {
      const { term } = await change(`topics/${encodeURIComponent(topic.name)}/partitions/${partition}/leader`, { broker_id: broker });
      setDone(`Broker ${broker} leads partition ${partition} in term ${term}.`);
      refresh();
    } catch (error) { setTrouble(error.message); }
  };
  const columns = [
    { id: "number", title: "Partition", kind: "num", value: (row) => row.number, draw: (row) => html`<a href=${to("topics", topic.name, "messages", { partitions: row.number })}>${row.number}</a>` },
    { id: "leader", title: "Leader", value: (row) => row.leader_id, draw: (row) => row.leader_id < 0 ? html`<${Badge} kind="bad">none<//>` : `broker ${row.leader_id}` },
    { id: "term", title: "Term", kind: "num", value: (row) => row.term },
    { id: "replicas", title: "Replicas: how far behind the committed end", value: (row) => row.replicas.map((one) => `${one.broker_id}:${one.state}:${one.lag ?? ""}`).join(" "), draw: (row) => html`<span class="replicas">${row.replicas.map((one) => html`<${Replica} row=${row} one=${one} lead=${readOnly ? null : lead} />`)}</span>` },
    { id: "start", title: "Start", kind: "num", value: (row) => row.log_start, draw: (row) => number(row.log_start) },
    { id: "end", title: "End", kind: "num", value: (row) => row.committed, draw: (row) => number(row.committed) },
    { id: "size", title: "Size", kind: "num", value: (row) => row.size_bytes, draw: (row) => bytes(row.size_bytes) },
  ];
  return html`${trouble && html`<${Alert} text=${trouble} />`}${done && html`<${Alert} kind="good" text=${done} />`}
    <${Card} title="Partitions" id="of-topic"><${Table} name="p" label="Partitions" file=${`${topic.name}-partitions`} columns=${columns} rows=${topic.partitions} keyOf=${(row) => row.number} search=${topic.partitions.length > 12} />
      ${!readOnly && html`<p class="muted">A follower's button hands the leadership to it.</p>`}<//>
    <${Card} title="Elections" id="elections"><${Timeline} topic=${topic.name} /><//>
    <${Cli} command=${`lograft topic describe ${word(topic.name)}`} />`;
}

function Replica({ row, one, lead }) {
  const leads = one.broker_id === row.leader_id;
  const kind = !one.alive ? "bad" : STATES[one.state.toUpperCase()] || "";
  const lag = one.copying ? `${bytes(one.copying.bytes_done)} of ${bytes(one.copying.bytes_total)}` : leads ? "leads" : one.lag == null ? "not known" : one.lag === 0 ? "level" : `${number(one.lag)} behind`;
  const text = html`<b>${one.broker_id}</b> ${lag}${one.state.toUpperCase() !== "OK" ? ` · ${one.state.toLowerCase()}` : ""}${!one.voter ? " · no vote" : ""}${one.leaving ? " · leaving" : ""}`;
  if (!lead || leads || !one.alive || !one.voter) return html`<span class=${`replica ${kind}`}>${text}</span>`;
  return html`<button type="button" class=${`replica ${kind}`} title=${`Hand the leadership of partition ${row.number} to broker ${one.broker_id}`} onClick=${() => lead(row.number, one.broker_id)}>${text}</button>`;
}

function Behind({ topic }) {
  return html`<${Card} title="Groups that read it" id="groups">${topic.groups.length ? html`<${Table} name="tg" label="Groups" search=${topic.groups.length > 8} rows=${topic.groups} keyOf=${(row) => row.group} columns=${[
    { id: "group", title: "Group", value: (row) => row.group, draw: (row) => html`<a href=${to("groups", row.group)}>${row.group}</a>` },
    { id: "lag", title: "Records behind here", kind: "num", value: (row) => row.lag_records, draw: (row) => number(row.lag_records) },
    { id: "age", title: "Oldest unread here", kind: "num", value: (row) => row.lag_seconds, draw: (row) => seconds(row.lag_seconds) }]} />` : html`<${Empty}>No group has read from it.<//>`}<//>
    <${Cli} command="lograft group list" />`;
}

function Settings({ topic }) {
  const { readOnly } = mode.use();
  const [alters, setAlters] = useState(false);
  const entries = Object.entries(topic.config);
  return html`<${Facts} of=${[["records", number(topic.records)], ["size, of one copy", bytes(topic.size_bytes)], ["partitions", topic.partitions.length], ["copies", topic.replication], ["topic id", html`<code>${topic.topic_id}</code>`]]} />
    <${Card} title="Coming in" id="in"><div class="sparks"><${Spark} label="Records a second" columns=${topic.charts.records} format=${(value) => `${short(value)}/s`} /><${Spark} label="Bytes a second" columns=${topic.charts.bytes} format=${(value) => `${bytes(value)}/s`} /></div><//>
    <${Card} title="Settings of this topic" id="settings" tools=${!readOnly && !topic.name.startsWith("__") && html`<button type="button" onClick=${() => setAlters(true)}>Change…</button>`}>${entries.length ? html`<table class="plain"><thead><tr><th scope="col">Setting</th><th scope="col">Value</th></tr></thead><tbody>${entries.map(([key, value]) => html`<tr><td class="mono">${key}</td><td class="mono">${value}</td></tr>`)}</tbody></table>` : html`<${Empty}>None of its own: the brokers' defaults hold.<//>`}<//>
    <${Cli} command=${`lograft topic alter ${word(topic.name)} -c retention.ms=604800000`} label="To change one" />
    ${alters && html`<${Alter} topic=${topic} onClose=${() => setAlters(false)} />`}`;
}
