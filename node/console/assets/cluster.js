// Overview, brokers, and the timeline of elections.
import { html } from "./vendor/preact-htm.js";
import { ago, bytes, number, seconds, short, time } from "./format.js";
import { Alert, Badge, Card, Cli, Empty, Facts, Spark, Table, Told } from "./parts.js";
import { place, setQuery, to, useTold, utc } from "./store.js";

const perSecond = (value) => `${short(value)}/s`;
const bytesPerSecond = (value) => `${bytes(value)}/s`;

export function brokerState(broker) {
  if (broker.removed) return ["", broker.replicas ? "being removed" : "removed"];
  if (broker.gone) return ["bad", "gone"];
  if (!broker.alive) return ["bad", "not in touch"];
  return broker.draining ? ["warn", "draining"] : ["ok", "up"];
}

export function Overview({ state }) {
  return html`<h1>Overview</h1><${Told} state=${state}>${(told) => html`
    <${Health} told=${told} />
    <div class="grid">
      <${Card} title="Coming in" id="coming-in"><div class="sparks">
        <${Spark} label="Records a second" columns=${told.charts.records} format=${perSecond} />
        <${Spark} label="Bytes a second, stored" columns=${told.charts.bytes} format=${bytesPerSecond} />
        <${Spark} label="Unread by groups" columns=${told.charts.lag} format=${short} />
        <${Spark} label="Oldest unread" columns=${told.charts.lag.length ? [told.charts.lag[0], told.charts.lag[2]] : []} format=${seconds} /></div><//>
      <${Card} title="Furthest behind" id="behind" tools=${html`<a href="#/groups">All groups</a>`}>
        ${told.told.groups.trouble && html`<${Alert} kind="warn" text=${`Groups: ${told.told.groups.trouble}`} />`}
        ${told.hot.length ? html`<table class="plain"><thead><tr><th scope="col">Group</th><th scope="col" class="num">Records</th><th scope="col" class="num">Oldest</th></tr></thead>
          <tbody>${told.hot.map((row) => html`<tr key=${row.group}><td><a href=${to("groups", row.group)}>${row.group}</a> ${!row.members && html`<${Badge} kind="warn">nobody reads<//>`}</td>
            <td class="num">${number(row.lag_records)}</td><td class="num">${seconds(row.lag_seconds)}</td></tr>`)}</tbody></table>`
          : html`<${Empty}>${told.groups ? "Every group has read all there is." : "There are no consumer groups."}<//>`}<//>
    </div>
    <${Card} title="Brokers" id="brokers" tools=${html`<a href="#/brokers">More of them</a>`}><div class="scroll" tabindex="0" role="group" aria-label="Brokers"><table class="plain">
      <thead><tr><th scope="col">Broker</th><th scope="col">State</th><th scope="col">Address</th><th scope="col" class="num">Leads</th><th scope="col" class="num">Holds</th></tr></thead>
      <tbody>${told.brokers.map((broker) => { const [kind, text] = brokerState(broker); return html`<tr key=${broker.id}><td>${broker.id}
        ${broker.id === told.cluster.controller_id && html` <${Badge} title="It leads __cluster and decides">controller<//>`}</td>
        <td><${Badge} kind=${kind}>${text}<//></td><td class="mono">${broker.address}</td><td class="num">${broker.leaders}</td><td class="num">${broker.replicas}</td></tr>`; })}</tbody></table></div><//>
    <${Cli} command="lograft cluster health" />`}<//>`;
}

function Health({ told }) {
  const { cluster } = told;
  if (!cluster) return html`<${Alert} text=${told.told.cluster.trouble || "The cluster did not answer yet."} />`;
  const stale = told.told.cluster.age_ms > 10_000;
  return html`<section class=${`verdict ${cluster.healthy ? "ok" : "bad"}`} aria-label="Health" role="status">
    <h2>${cluster.healthy ? "Healthy" : "Not healthy"}</h2>
    ${cluster.reasons.length > 0 && html`<ul>${cluster.reasons.map((reason) => html`<li>${reason}</li>`)}</ul>`}
    ${stale && html`<p>As of ${seconds(told.told.cluster.age_ms / 1000)} ago. ${told.told.cluster.trouble}</p>`}
    <${Facts} of=${[
      ["can lose", `${cluster.losses_borne} ${cluster.losses_borne === 1 ? "broker" : "brokers"}`, cluster.losses_borne ? "" : "warn", "and still decide"],
      ["controller", cluster.controller_id < 0 ? "none" : `broker ${cluster.controller_id}`, cluster.controller_id < 0 ? "bad" : "", `term ${cluster.controller_term}`],
      ["topics", number(cluster.topics)],
      ["partitions", number(cluster.partitions)],
      ["without leader", number(cluster.leaderless), cluster.leaderless ? "bad" : ""],
      ["lack a copy", number(cluster.under_replicated), cluster.under_replicated ? "warn" : ""],
      cluster.frail ? ["fewer than 3 copies", number(cluster.frail), "warn", "the loss of one broker stops these"] : null,
    ]} /></section>`;
}

const SETTINGS = [
  { id: "name", title: "Setting", kind: "mono", value: (row) => row.name },
  { id: "value", title: "Value", value: (row) => row.value, draw: (row) => html`<b>${row.value}</b>${row.value !== row.default && html` <${Badge} title=${`default: ${row.default}`}>decided<//>`}` },
  { id: "default", title: "Default", value: (row) => row.default },
  { id: "explanation", title: "What it is", value: (row) => row.explanation },
];

export function Brokers() {
  const state = useTold("overview");
  const settings = useTold("settings", 10000);
  const columns = [
    { id: "id", title: "Broker", value: (row) => row.id, draw: (row) => html`${row.id} ${row.controller && html`<${Badge}>controller<//>`} ${row.voter && html`<${Badge} title="Votes on the cluster's decisions">votes<//>`}` },
    { id: "state", title: "State", value: (row) => brokerState(row)[1], draw: (row) => { const [kind, text] = brokerState(row); return html`<${Badge} kind=${kind}>${text}<//>`; } },
    { id: "leaders", title: "Leads", kind: "num", value: (row) => row.leaders },
    { id: "replicas", title: "Holds", kind: "num", value: (row) => row.replicas },
    { id: "address", title: "Clients", kind: "mono", value: (row) => row.address },
    { id: "peer", title: "Peers", kind: "mono", value: (row) => row.peer_address },
    { id: "http", title: "Console", kind: "mono", value: (row) => row.http_address, draw: (row) => (row.alive && row.http_address ? html`<a href=${`http://${row.http_address}/console/${location.hash}`}>${row.http_address}</a>` : row.http_address) },
    { id: "rack", title: "Rack", value: (row) => row.rack },
    { id: "version", title: "Version", kind: "tight", value: (row) => row.version, draw: (row) => html`${row.version}${row.protocol && html` <span class="muted" title="Versions of the protocol between brokers">p${row.protocol.join("–")}</span>`}` },
    { id: "directory", title: "Directory", kind: "mono", value: (row) => row.directory_id, draw: (row) => html`<span title=${row.directory_id}>${row.directory_id.slice(0, 8)}</span>` },
    { id: "start", title: "Start number", kind: "num", value: (row) => row.start_number, draw: (row) => row.start_number },
  ];
  return html`<h1>Brokers</h1><${Told} state=${state}>${(told) => html`
    <${Table} name="b" label="Brokers" file="brokers" columns=${columns} rows=${told.brokers.map((row) => ({ ...row, controller: row.id === told.cluster?.controller_id }))} keyOf=${(row) => row.id} />
    <${Cli} command="lograft broker list" />`}<//>
    <${Card} title="Settings of the cluster" id="cluster-settings"><${Told} state=${settings}>${(told) => html`
      <${Table} name="s" label="Settings of the cluster" search=${false} columns=${SETTINGS} rows=${told.settings} keyOf=${(row) => row.name} />
      <${Cli} command="lograft cluster settings" />`}<//><//>`;
}

// -- elections -------------------------------------------------------------------------------------------------------

function story(change) {
  const other = change.other_id < 0 ? "" : `broker ${change.other_id}`;
  if (change.leads) {
    return { first: "began to lead: no leader was known before", silent: `began to lead: ${other} was out of touch`,
      handed_over: `began to lead: ${other} handed over or resigned`, again: "began to lead again" }[change.why] || "began to lead";
  }
  return change.why === "superseded" ? `ceased to lead: ${other} does` : "ceased to lead";
}

function Lanes({ elections, now, isUtc }) {
  const ids = [...new Set(elections.map((change) => change.broker_id))].sort((a, b) => a - b);
  if (!ids.length) return null;
  const from = Math.min(...elections.map((change) => change.at_ms));
  const span = Math.max(now - from, 60_000);
  const left = now - span;
  return html`<figure class="lanes"><div role="img" aria-label=${`${elections.length} changes of leadership since ${time(from, isUtc)}`}>
    ${ids.map((id) => html`<div class="lane" key=${id}><span>broker ${id}</span><div class="rail">${elections.filter((change) => change.broker_id === id).map((change) => html`
      <i class=${change.leads ? "led" : "left"} style=${{ left: `${((change.at_ms - left) / span) * 100}%` }}
        title=${`${time(change.at_ms, isUtc)}  ${change.topic}-${change.partition} term ${change.term}: ${story(change)}`}></i>`)}</div></div>`)}</div>
    <figcaption><span>${time(left, isUtc, { millis: false })}</span><span><i class="led"></i> began to lead <i class="left"></i> ceased</span><span>now</span></figcaption></figure>`;
}

export function Timeline({ topic = "", partition = "", internal = true }) {
  const isUtc = utc.use();
  const query = new URLSearchParams(Object.entries({ topic, partition }).filter(([, value]) => value !== ""));
  const state = useTold(`elections?${query}`, 3000);
  return html`<${Told} state=${state}>${(told) => {
    const rows = internal ? told.elections : told.elections.filter((change) => !change.topic.startsWith("__"));
    return html`${told.unheard.length > 0 && html`<${Alert} kind="warn" text=${`Not told by broker ${told.unheard.join(", ")}.`} />`}
      <${Lanes} elections=${rows} now=${told.now_ms} isUtc=${isUtc} />
      ${rows.length ? html`<ol class="timeline">${rows.slice(0, 100).map((change) => html`
        <li key=${`${change.at_ms}/${change.broker_id}/${change.topic_id}/${change.partition}/${change.term}/${change.leads}`} class=${change.leads ? "led" : "left"}>
          <time title=${ago(change.at_ms, told.now_ms)}>${time(change.at_ms, isUtc)}</time>
          <span>${topic ? html`partition ${change.partition}` : html`<a href=${to("topics", change.topic, "partitions")}>${change.topic || change.topic_id.slice(0, 8)}-${change.partition}</a>`}</span>
          <span>term ${change.term}</span><span>broker ${change.broker_id} ${story(change)}</span></li>`)}</ol>` : html`<${Empty}>No broker has seen a change since it started.<//>`}
      <p class="muted">Each broker remembers its own last 500, since it started; times are by its clock.</p>`;
  }}<//>`;
}

export function Elections() {
  const { query } = place.use();
  const internal = query.get("internal") === "1";
  return html`<h1>Elections</h1>
    <label class="check"><input type="checkbox" checked=${internal} onChange=${(event) => setQuery({ internal: event.target.checked })} /> also of the cluster's own topics</label>
    <${Timeline} internal=${internal} /><${Cli} command="lograft partition list" />`;
}
