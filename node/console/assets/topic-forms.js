// Making a topic, and changing its settings. What is wrong is told at the field that it is about.
import { html, useState } from "./vendor/preact-htm.js";
import { word } from "./format.js";
import { Alert, Cli, Dialog, Field, Told } from "./parts.js";
import { change, refresh, to, useTold } from "./store.js";

// One field for each setting that there is; empty: the brokers' default.
function Fields({ known, values, set, trouble }) {
  return known.map((one) => html`<${Field} label=${one.name} hint=${one.explanation} trouble=${trouble?.field === one.name && trouble.message}>
    <input class="mono" value=${values[one.name] ?? ""} placeholder=${one.default} title=${one.type} aria-invalid=${trouble?.field === one.name} spellcheck=${false}
      onInput=${(event) => set({ ...values, [one.name]: event.target.value })} /><//>`);
}

const given = (values) => Object.fromEntries(Object.entries(values).map(([name, value]) => [name, value.trim()]).filter(([, value]) => value !== ""));
const flags = (config) => Object.entries(config).map(([name, value]) => ` -c ${word(`${name}=${value}`)}`).join("");
// Of what no field tells: said below the form.
const Rest = ({ trouble, fields }) => trouble && !fields.includes(trouble.field) && html`<${Alert} text=${trouble.message} />`;

export function Create({ onClose }) {
  const state = useTold("topic-settings", 0);
  const [name, setName] = useState("");
  const [partitions, setPartitions] = useState("6");
  const [replication, setReplication] = useState("");
  const [values, setValues] = useState({});
  const [trouble, setTrouble] = useState(null);
  const [done, setDone] = useState(null);
  const [sends, setSends] = useState(false);
  const send = async (event) => {
    event.preventDefault();
    setTrouble(null); setDone(null); setSends(true);
    try {
      setDone(await change("topics", { name: name.trim(), partitions: Number(partitions), replication: replication === "" ? null : Number(replication), config: given(values) }));
      refresh();
    } catch (error) { setTrouble(error); }
    setSends(false);
  };
  const at = (field) => trouble?.field === field && trouble.message;
  const command = `lograft topic create ${word(name.trim() || "NAME")} -p ${partitions || 6}${replication ? ` -r ${replication}` : ""}${flags(given(values))}`;
  return html`<${Dialog} title="Create a topic" onClose=${onClose}><${Told} state=${state}>${({ settings }) => html`
    <form class="form tall" onSubmit=${send}>
      <${Field} label="Name" hint="A-Z a-z 0-9 . _ -" trouble=${at("name")}><input required maxlength="249" value=${name} aria-invalid=${!!at("name")} onInput=${(event) => setName(event.target.value)} spellcheck=${false} /><//>
      <${Field} label="Partitions" hint="they can become more, never fewer" trouble=${at("partitions")}><input required type="number" min="1" value=${partitions} aria-invalid=${!!at("partitions")} onInput=${(event) => setPartitions(event.target.value)} /><//>
      <${Field} label="Copies" hint="empty: three, or as many as there are brokers" trouble=${at("replication")}><input type="number" min="1" value=${replication} aria-invalid=${!!at("replication")} onInput=${(event) => setReplication(event.target.value)} /><//>
      <details class="wide"><summary>Settings</summary><div class="form"><${Fields} known=${settings} values=${values} set=${setValues} trouble=${trouble} /></div></details>
      <button type="submit" class="primary" disabled=${sends}>${sends ? "Creating…" : "Create"}</button></form>
    <${Rest} trouble=${trouble} fields=${["name", "partitions", "replication"]} />
    ${done && html`<p class="alert good" role="alert">Created, with ${done.partitions} ${done.partitions === 1 ? "partition" : "partitions"}: <a href=${to("topics", done.name)}>${done.name}</a></p>`}
    <${Cli} command=${command} />`}<//><//>`;
}

export function Alter({ topic, onClose }) {
  const state = useTold("topic-settings", 0);
  const [before, setBefore] = useState(topic.config);
  const [values, setValues] = useState({ ...topic.config });
  const [trouble, setTrouble] = useState(null);
  const [done, setDone] = useState(false);
  const [sends, setSends] = useState(false);
  const wanted = given(values);
  const set = Object.fromEntries(Object.entries(wanted).filter(([name, value]) => before[name] !== value));
  const unset = Object.keys(before).filter((name) => !(name in wanted));
  const count = Object.keys(set).length + unset.length;
  const send = async (event) => {
    event.preventDefault();
    setTrouble(null); setDone(false); setSends(true);
    try {
      const { config } = await change(`topics/${encodeURIComponent(topic.name)}/settings`, { set, unset });
      setBefore(config); setValues({ ...config }); setDone(true);
      refresh();
    } catch (error) { setTrouble(error); }
    setSends(false);
  };
  const command = `lograft topic alter ${word(topic.name)}${flags(set)}${unset.map((name) => ` --unset ${word(name)}`).join("")}`;
  return html`<${Dialog} title=${`Settings of ${topic.name}`} onClose=${onClose}><${Told} state=${state}>${({ settings }) => html`
    <form class="form tall" onSubmit=${send}>
      <p class="muted wide">Empty: the brokers' default holds. The brokers go by a change within moments.</p>
      <${Fields} known=${settings} values=${values} set=${(next) => { setValues(next); setDone(false); }} trouble=${trouble} />
      <button type="submit" class="primary" disabled=${sends || !count}>${sends ? "Changing…" : count ? `Change ${count} ${count === 1 ? "setting" : "settings"}` : "Nothing to change"}</button></form>
    <${Rest} trouble=${trouble} fields=${settings.map((one) => one.name)} />
    ${done && html`<${Alert} kind="good" text="Changed." />`}
    <${Cli} command=${command} />`}<//><//>`;
}
