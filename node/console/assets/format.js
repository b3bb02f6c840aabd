// Numbers, sizes and times as people read them. Pure.
const count = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
export const NONE = "–";

export function number(value) { return value == null ? NONE : count.format(value); }

export function short(value) {
  if (value == null) return NONE;
  if (value < 10 && value > 0 && !Number.isInteger(value)) return value.toFixed(1);
  if (value < 10_000) return count.format(value);
  for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= size) return `${(value / size).toFixed(value / size < 10 ? 2 : value / size < 100 ? 1 : 0)} ${unit}`;
  }
  return count.format(value);
}

export function bytes(value) {
  if (value == null) return NONE;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) { value /= 1024; unit += 1; }
  return `${unit && value < 10 ? value.toFixed(2) : unit && value < 100 ? value.toFixed(1) : count.format(value)} ${UNITS[unit]}`;
}

export function seconds(value) {
  if (value == null) return NONE;
  if (value === 0) return "0 s";
  if (value < 0.001) return "< 1 ms";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 90) return `${value < 10 ? value.toFixed(1) : Math.round(value)} s`;
  if (value < 5400) return `${value < 600 ? Number((value / 60).toFixed(1)) : Math.round(value / 60)} min`;
  if (value < 172_800) return `${(value / 3600).toFixed(1)} h`;
  return `${(value / 86_400).toFixed(1)} d`;
}

const two = (n) => String(n).padStart(2, "0");

export function time(ms, isUtc, { date = true, millis = true } = {}) {
  if (ms == null || ms < 0 || ms > 8.64e15) return NONE;
  const at = new Date(ms);
  const of = (name) => (isUtc ? at[`getUTC${name}`]() : at[`get${name}`]());
  const day = `${of("FullYear")}-${two(of("Month") + 1)}-${two(of("Date"))}`;
  const clock = `${two(of("Hours"))}:${two(of("Minutes"))}:${two(of("Seconds"))}`;
  return `${date ? `${day} ` : ""}${clock}${millis ? `.${String(of("Milliseconds")).padStart(3, "0")}` : ""}${isUtc && date ? "Z" : ""}`;
}

export function ago(ms, now) { return ms == null ? NONE : `${seconds(Math.max(0, Math.round((now - ms) / 1000)))} ago`; }

// What a field for date and time holds, as the OFFSETS grammar has it.
export function placeOfTime(text, isUtc) {
  if (!text) return "";
  const withSeconds = /T\d\d:\d\d$/.test(text) ? `${text}:00` : text;
  const at = new Date(isUtc ? `${withSeconds}Z` : withSeconds);
  return Number.isNaN(at.getTime()) ? "" : `@${at.toISOString().replace(/\.000Z$/, "Z")}`;
}

// A word for a shell, quoted if it has to be.
export function word(text) { return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${String(text).replace(/'/g, `'\\''`)}'`; }

export function csv(columns, rows) {
  // A cell that begins like a formula is one to a spreadsheet, whoever wrote it into a topic's or group's name.
  const cell = (value) => {
    const text = value == null ? "" : String(value);
    const safe = /^[=+\-@\t\r]/.test(text) && typeof value !== "number" ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
  };
  return [columns.map((column) => cell(column.title)), ...rows.map((row) => columns.map((column) => cell((column.csv ?? column.value)(row))))]
    .map((line) => line.join(",")).join("\r\n") + "\r\n";
}

export function bytesOf(content) {
  if (!content) return new Uint8Array();
  if (content.text !== undefined) return new TextEncoder().encode(content.text);
  return Uint8Array.from(atob(content.b64), (mark) => mark.charCodeAt(0));
}

export function hex(data, limit = 4096) {
  const lines = [];
  for (let at = 0; at < Math.min(data.length, limit); at += 16) {
    const part = [...data.subarray(at, at + 16)];
    const left = part.map((byte) => byte.toString(16).padStart(2, "0")).join(" ").padEnd(47);
    const right = part.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${left}  ${right}`);
  }
  if (data.length > limit) lines.push(`… ${count.format(data.length - limit)} more bytes`);
  return lines.join("\n");
}

// JSON with every number as it was written: a browser's own numbers would change those above 2^53.
export class Digits { constructor(text) { this.text = text; } }
export function json(text) {
  const keep = (name, value, context) =>
    typeof value === "number" && context?.source !== undefined && String(value) !== context.source ? new Digits(context.source) : value;
  return JSON.parse(text, keep);
}
