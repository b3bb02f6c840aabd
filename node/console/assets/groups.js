// Consumer groups: who reads what, how far behind, and moving them.
import { html, useState } from "./vendor/preact-htm.js";
import { ago, NONE, number, seconds, short, time, word } from "./format.js";
import { Alert, Badge, Card, Chart, Cli, Dialog, Facts, Field, Table, Told } from "./parts.js";
import { change, mode, refresh, to, useTold, utc } from "./store.js";

const KINDS = { stable: "ok", moving: "warn", empty: "" };
const SAYS = { empty: "nobody reads; offsets are kept", stable: "everybody has what they should", moving: "partitions change hands", unknown: "not known" };

export function Groups() {
  const state = useTold("groups");
  const columns = [
    { id: "group", title: "Group", value: (row) => row.group, draw: (row) => html`<a href=${to("groups", row.group)}>${row.group}</a>` },
    { id: "state", title: "State", value: (row) => row.state, draw: (row) => html`<${Badge} kind=${KINDS[row.state]} title=${SAYS[row.state]}>${row.state}<//>` },
    { id: "members", title: "Members", kind: "num", value: (row) => row.members },
    { id: "lag", title: "Records behind", kind: "num", value: (row) => row.lag_records, draw: (row) => number(row.lag_records) },
    { id: "age", title: "Oldest unread", kind: "num", value: (row) => row.lag_seconds, draw: (row) => seconds(row.lag_seconds) },
    { id: "partitions", title: "Partitions", kind: "num", value: (row) => row.partitions },
    { id: "topics", title: "Topics", value: (row) => row.topics.join(" "), draw: (row) => row.topics.map((topic) => html`<a href=${to("topics", topic)}>${topic}</a> `) },
    { id: "coordinator", title: "Coordinator", kind: "num", value: (row) => row.coordinator_id },
  ];
  return html`<h1>Groups</h1><${Told} state=${state}>${(told) => html`
    ${told.told.trouble && html`<${Alert} kind="warn" text=${`Not up to date: ${told.told.trouble}`} />`}
    <${Table} name="g" label="Groups" file="groups" columns=${columns} rows=${told.groups} keyOf=${(row) => row.group} initial="-age" empty="There are no consumer groups yet." />
    <${Cli} command="lograft group list" />`}<//>`;
}

export function Group({ name }) {
  const state = useTold(`group?name=${encodeURIComponent(name)}`);
  const isUtc = utc.use();
  const { readOnly } = mode.use();
  const [seeks, setSeeks] = useState(false);
  return html`<h1><a href="#/groups">Groups</a> <span class="muted">/</span> ${name}</h1>
    <${Told} state=${state}>${({ group, now_ms: now }) => html`
      <${Facts} of=${[
        ["state", html`<${Badge} kind=${KINDS[group.state]}>${group.state}<//>`, "", SAYS[group.state]],
        ["behind", `${number(group.lag_records)} records`], ["oldest unread", seconds(group.lag_seconds)],
        ["members", group.members.length], ["generation", group.generation], ["coordinator", `broker ${group.coordinator_id}`],
      ]} />
      <${Card} title="Lag" id="lag"><${Chart} label=${`Lag of group ${name}`} columns=${group.chart} series=${[
        { title: "records", color: "--accent", format: short }, { title: "seconds", color: "--second", format: seconds }]} /><//>
      <${Card} title="Partitions" id="partitions" tools=${html`<button type="button" disabled=${readOnly} title=${readOnly ? "This console only shows" : ""} onClick=${() => setSeeks(true)}>Seek…</button>`}>
        <${Table} name="p" label="Partitions of the group" file=${`group-${name}`} rows=${group.partitions} keyOf=${(row) => `${row.topic}-${row.partition}`} columns=${partitionColumns(group, isUtc)} /><//>
      <${Card} title="Members" id="members"><${Table} name="m" label="Members" search=${group.members.length > 5} rows=${group.members} keyOf=${(row) => row.member_id} empty="Nobody is a member now." columns=${[
        { id: "client", title: "Client", value: (row) => row.client_id || NONE },
        { id: "member", title: "Member", kind: "mono", value: (row) => row.member_id, draw: (row) => html`<span title=${row.member_id}>${row.instance_id || row.member_id.slice(0, 8)}</span>${row.instance_id && html` <${Badge} title="A static member: it keeps its partitions over a restart">static<//>`}` },
        { id: "host", title: "Host", kind: "mono", value: (row) => row.host },
        { id: "has", title: "Partitions", kind: "num", value: (row) => row.partitions },
        { id: "reads", title: "Subscribes to", value: (row) => row.pattern ? `/${row.pattern}/` : row.topics.join(" ") },
        { id: "heard", title: "Heard", kind: "num", value: (row) => row.heard_ms_ago, draw: (row) => row.heard_ms_ago == null ? NONE : `${seconds(row.heard_ms_ago / 1000)} ago` },
        { id: "joined", title: "Joined", kind: "num", value: (row) => row.joined_ms, draw: (row) => html`<span title=${time(row.joined_ms, isUtc)}>${ago(row.joined_ms, now)}</span>` },
      ]} /><//>
      <${Cli} command=${`lograft group describe ${word(name)} --members -w`} />
      ${seeks && html`<${Seek} group=${group} onClose=${() => setSeeks(false)} />`}`}<//>`;
}

function partitionColumns(group, isUtc) {
  const names = Object.fromEntries(group.members.map((member) => [member.member_id, member.client_id || member.member_id.slice(0, 8)]));
  return [
    { id: "partition", title: "Partition", value: (row) => `${row.topic}-${row.partition}`, draw: (row) => html`<a href=${to("topics", row.topic, "messages", { partitions: row.partition, start: row.stored_offset ?? "", order: row.stored_offset == null ? "" : "oldest" })}>${row.topic}-${row.partition}</a>` },
    { id: "owner", title: "Read by", value: (row) => names[row.member_id] || row.member_id, draw: (row) => row.member_id ? html`<span title=${row.member_id}>${names[row.member_id] || row.member_id.slice(0, 8)}</span>${row.next_member_id && html` <${Badge} kind="warn">→ ${names[row.next_member_id] || row.next_member_id.slice(0, 8)}<//>`}` : html`<span class="muted">nobody</span>` },
    { id: "stored", title: "Stored offset", kind: "num", value: (row) => row.stored_offset, draw: (row) => html`<span title=${row.stored_ms == null ? "" : `stored ${time(row.stored_ms, isUtc)}`}>${number(row.stored_offset)}</span>` },
    { id: "end", title: "End", kind: "num", value: (row) => row.committed_offset, draw: (row) => number(row.committed_offset) },
    { id: "lag", title: "Behind", kind: "num", value: (row) => row.lag_records, draw: (row) => number(row.lag_records) },
    { id: "age", title: "Oldest unread", kind: "num", value: (row) => row.lag_seconds, draw: (row) => seconds(row.lag_seconds) },
    { id: "generation", title: "Granted in", kind: "num", value: (row) => row.generation },
  ];
}

const GOALS = [
  ["start", "the start", ""], ["end", "the end", ""], ["time", "a time", "-1h, or 2026-01-31T10:00:00Z"],
  ["shift", "so many records on or back", "-100"], ["offset", "an offset", "1200"], ["group", "where another group stands", "its name"],
];
function goalOf(kind, detail) {
  const text = detail.trim();
  return { start: "start", end: "end", time: `@${text.replace(/^@/, "")}`, shift: `shift:${/^[+-]/.test(text) ? "" : "+"}${text}`, offset: text, group: `group:${text}` }[kind];
}

function Seek({ group, onClose }) {
  const [kind, setKind] = useState("start");
  const [detail, setDetail] = useState("");
  const [topic, setTopic] = useState("");
  const [partitions, setPartitions] = useState("");
  const [plan, setPlan] = useState(null);
  const [trouble, setTrouble] = useState("");
  const [done, setDone] = useState(null);
  const topics = [...new Set(group.partitions.map((row) => row.topic))];
  const goal = goalOf(kind, detail);
  const command = `lograft group seek ${word(group.group)} --to ${word(goal)}${topic ? ` --topic ${word(topic)}` : ""}${partitions.trim() ? ` -p ${word(partitions.replace(/\s/g, ""))}` : ""}`;
  const path = (what) => `group/${what}?name=${encodeURIComponent(group.group)}`;
  const asked = (set) => (event) => { set(event.target.value); setPlan(null); };
  const preview = async (event) => {
    event.preventDefault();
    setTrouble(""); setDone(null);
    try {
      const numbers = partitions.split(/[\s,]+/).filter(Boolean).map(Number);
      if (numbers.some((one) => !Number.isInteger(one) || one < 0)) throw new Error("Partitions are numbers such as 0,2.");
      setPlan((await change(path("plan"), { to: goal, topics: topic ? [topic] : [], partitions: numbers })).plan);
    } catch (error) { setPlan(null); setTrouble(error.message); }
  };
  const apply = async () => {
    setTrouble("");
    try { setDone(await change(path("seek"), { moves: plan.moves })); setPlan(null); refresh(); } catch (error) { setTrouble(error.message); }
  };
  return html`<${Dialog} title=${`Seek ${group.group}`} onClose=${onClose}>
    <form onSubmit=${preview} class="form">
      <${Field} label="To"><select value=${kind} onChange=${asked(setKind)}>${GOALS.map(([id, text]) => html`<option value=${id}>${text}</option>`)}</select><//>
      ${GOALS.find(([id]) => id === kind)[2] && html`<${Field} label="Which"><input required value=${detail} placeholder=${GOALS.find(([id]) => id === kind)[2]} onInput=${asked(setDetail)} /><//>`}
      <${Field} label="Of topic"><select value=${topic} onChange=${asked(setTopic)}><option value="">all that it reads</option>${topics.map((one) => html`<option>${one}</option>`)}</select><//>
      <${Field} label="Partitions" hint="numbers; empty: all"><input value=${partitions} onInput=${asked(setPartitions)} inputmode="numeric" /><//>
      <button type="submit">Show what it would do</button></form>
    ${trouble && html`<${Alert} text=${trouble} />`}
    ${done && html`<${Alert} kind="good" text=${`Moved, in generation ${done.generation}. ${done.regranted} partitions in members' hands were granted anew.`} />`}
    ${plan && html`<div class="plan" aria-live="polite"><p><b>${number(plan.records_back)}</b> records are read again, <b>${number(plan.records_forward)}</b> passed over${plan.owners ? html`; <b>${plan.owners}</b> members are told` : ""}.</p>
      <div class="scroll short" tabindex="0" role="group" aria-label="Plan"><table class="plain"><thead><tr><th scope="col">Partition</th><th scope="col" class="num">Stored</th><th scope="col" class="num">To</th><th scope="col" class="num">Change</th></tr></thead>
      <tbody>${plan.moves.map((move) => html`<tr><td>${move.topic}-${move.partition}</td><td class="num">${number(move.stored_offset)}</td><td class="num">${number(move.to_offset)}${move.to_offset !== move.asked_offset && html` <${Badge} kind="warn" title=${`asked for: ${move.asked_offset}`}>cut short<//>`}</td><td class="num">${move.change == null ? "new" : `${move.change > 0 ? "+" : ""}${number(move.change)}`}</td></tr>`)}
      ${plan.left_out.map((left) => html`<tr class="muted"><td>${left.topic}-${left.partition}</td><td colspan="3">left as it is: ${left.why}</td></tr>`)}</tbody></table></div>
      <button type="button" class="primary" disabled=${!plan.moves.length} onClick=${apply}>Move ${plan.moves.length} ${plan.moves.length === 1 ? "partition" : "partitions"}</button></div>`}
    <${Cli} command=${command} /><//>`;
}
