// The filter box: `status:failed task:report args.month:3 >10s since:1h some words`. Reading it,
// writing it as the API wants it, and the field with its suggestions.
import { ran, seconds, STATUSES } from "./format.js";
import { useKeys } from "./keys.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./lib.js";

const NAMES = ["status", "task", "tag", "key", "error", "parent", "since", "until"];
const UNITS = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86400 };
const AGO = /^(\d{1,9}(?:\.\d{1,3})?)([smhd])$/;
const LASTING = /^([<>])=?((?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+|\d+(?:\.\d+)?)$/;
const PART = /(\d+(?:\.\d+)?)(ms|s|m|h|d)?/g;
const TOKEN = /(?:[^\s"]|"(?:[^"\\]|\\.)*"?)+/g;

const bare = (text) =>
  text.replace(/"((?:[^"\\]|\\.)*)"?/g, (_, inside) => inside.replace(/\\(.)/g, "$1"));

/** A value as it has to be written in the box. */
export const quoted = (text) =>
  /[\s"]/.test(text) || text === "" ? `"${text.replace(/["\\]/g, "\\$&")}"` : text;

/** The box's words: `{status: [...], task, tag, key, error, parent, since, until, args, longer,
 * shorter, q, problems: [...]}`. */
export function parse(text) {
  const found = { status: [], args: {}, problems: [] };
  const words = [];
  for (const token of text.match(TOKEN) ?? []) read(token, found, words);
  if (words.length) found.q = words.join(" ");
  return found;
}

function read(token, found, words) {
  const lasting = LASTING.exec(token);
  const [, name, value] = /^([a-z]+(?:\.[^:\s"]+)?):(.*)$/s.exec(token) ?? [];
  if (lasting) {
    const parts = [...lasting[2].matchAll(PART)];
    found[lasting[1] === ">" ? "longer" : "shorter"] =
      parts.reduce((sum, [, value, unit]) => sum + Number(value) * UNITS[unit ?? "s"], 0);
  } else if (/^[<>]./.test(token)) {
    found.problems.push(`${token[0]} is followed by a duration, like ${token[0]}10s or ${token[0]}5m`);
  } else if (name?.startsWith("args.")) {
    if (name.slice(5) in found.args) found.problems.push(`${name}: is there more than once`);
    found.args[name.slice(5)] = bare(value);
  } else if (name === "status") {
    statuses(bare(value), found);
  } else if (NAMES.includes(name)) {
    if (found[name] !== undefined) found.problems.push(`${name}: is there more than once`);
    found[name] = bare(value);
    if (!value) found.problems.push(`${name}: has no value yet`);
    else if (name === "since" || name === "until") checkMoment(name, found);
  } else if (name && !value.startsWith("//")) {
    found.problems.push(`there is no filter ${name}: (text with a colon goes in double quotes)`);
  } else {
    words.push(bare(token));
  }
}

function statuses(value, found) {
  for (const each of value.split(",").filter(Boolean)) {
    if (STATUSES.includes(each)) found.status.push(each);
    else found.problems.push(`status: is one of ${STATUSES.join(", ")}`);
  }
  if (!value) found.problems.push("status: has no value yet");
}

function checkMoment(name, found) {
  const value = found[name];
  if (AGO.test(value) || !Number.isNaN(Date.parse(value))) return;
  found.problems.push(`${name}: is like 15m, 1h, 7d or 2030-01-31T08:00:00Z`);
}

const PLAIN = ["task", "tag", "key", "error", "parent", "since", "until", "q", "longer", "shorter"];

/** The filters as the query of `GET /jobs`. */
export function toQuery(found, more = {}) {
  const query = new URLSearchParams();
  if (found.status.length) query.set("status", found.status.join(","));
  for (const name of PLAIN) if (found[name] !== undefined) query.set(name, found[name]);
  for (const [name, value] of Object.entries(found.args)) query.set(`args.${name}`, value);
  for (const [name, value] of Object.entries(more)) if (value) query.set(name, value);
  return query.toString();
}

/** The filters as the `match` of what is done with many jobs. */
export function toMatch(found) {
  const match = {};
  if (found.status.length) match.status = found.status;
  for (const name of PLAIN) if (found[name] !== undefined) match[name] = found[name];
  if (Object.keys(found.args).length) match.args = found.args;
  return match;
}

/** The box with its statuses replaced; for the tabs above the list. */
export function withStatus(text, status) {
  const kept = (text.match(TOKEN) ?? []).filter((token) => !token.startsWith("status:"));
  return [...(status ? [`status:${status}`] : []), ...kept].join(" ");
}

/** The box with its limits of duration replaced; for the histogram. */
export function withDurations(text, least, most) {
  const kept = (text.match(TOKEN) ?? []).filter((token) => !LASTING.test(token));
  const say = (mark, value) => (value === null ? [] : [`${mark}${short(value)}`]);
  return [...kept, ...say(">", least), ...say("<", most)].join(" ");
}

function short(value) {
  if (value >= 3600 && value % 3600 === 0) return `${value / 3600}h`;
  if (value >= 60 && value % 60 === 0) return `${value / 60}m`;
  return value < 1 ? `${Number((value * 1000).toFixed(3))}ms` : `${Number(value.toFixed(3))}s`;
}

const textOf = (value) => (typeof value === "string" ? value : JSON.stringify(value));

function at(args, name) {
  let value = args;
  for (const part of name.split(".")) value = Object(value) === value ? value[part] : undefined;
  return value;
}

function moment(text, now) {
  const [, value, unit] = AGO.exec(text) ?? [];
  return value ? now - Number(value) * UNITS[unit] : seconds(text);
}

/** Whether a job passes, as far as its document says: to count what is new, not to decide. */
export function passes(job, found, now) {
  const lower = (text) => String(text ?? "").toLowerCase();
  const lasted = ran(job, now);
  const all = () => lower([job.id, job.task, ...job.tags, JSON.stringify(job.args),
    job.error?.code, job.error?.message].join("\n"));
  return (
    (!found.status.length || found.status.includes(job.status)) &&
    (found.task === undefined || job.task === found.task) &&
    (found.tag === undefined || job.tags.includes(found.tag)) &&
    (found.parent === undefined || job.parent === found.parent) &&
    (found.since === undefined || seconds(job.created) >= moment(found.since, now)) &&
    (found.until === undefined || seconds(job.created) < moment(found.until, now)) &&
    (found.longer === undefined || (lasted !== null && lasted > found.longer)) &&
    (found.shorter === undefined || (lasted !== null && lasted < found.shorter)) &&
    (found.error === undefined || Boolean(job.error)) &&
    Object.entries(found.args).every(([name, value]) => textOf(at(job.args, name)) === value) &&
    (found.q === undefined || all().includes(lower(found.q)))
  );
}

const HINTS = [
  ["status:", "running, failed …"],
  ["task:", "the task's name"],
  ["tag:", "one of the job's tags"],
  ["key:", "the Idempotency-Key it was started with"],
  ["error:", "in the error's code or message"],
  ["args.", "an argument: args.month:3"],
  ["since:", "opened in the last 15m, 1h, 7d"],
  ["until:", "opened before then"],
  [">", "ran longer than: >10s"],
  ["<", "ran shorter than: <500ms"],
];

/** What may be typed next.
 *
 * @param known `{tasks, tags, args}`: names that exist.
 * @returns `[{text, hint, insert}]`, where `insert` is the whole box afterwards.
 */
export function suggest(text, caret, known) {
  const before = text.slice(0, caret);
  const [, kept, word] = /^(.*?)([^\s"]*)$/s.exec(before);
  const rest = text.slice(caret);
  const offer = (value, hint, closed) => ({
    text: value,
    hint,
    insert: `${kept}${value}${closed ? " " : ""}${rest}`,
    caret: kept.length + value.length + (closed ? 1 : 0),
  });
  const values = {
    status: STATUSES,
    task: known.tasks,
    tag: known.tags,
    since: ["15m", "1h", "24h", "7d"],
    until: ["1h", "24h"],
  };
  const [, name, part] = /^([a-z]+):(.*)$/.exec(word) ?? [];
  if (name) {
    const fits = (values[name] ?? []).filter((value) => value.startsWith(part) && value !== part);
    return fits.slice(0, 8).map((value) => offer(`${name}:${quoted(value)}`, "", true));
  }
  const args = word.startsWith("args.") ? known.args.map((each) => [`args.${each}:`, "argument"]) : [];
  return [...args, ...HINTS]
    .filter(([value]) => value.startsWith(word) && value !== word)
    .slice(0, 10)
    .map(([value, hint]) => offer(value, hint, false));
}

/** @param onFilter called with the box's text when it is meant: Enter, or a cleared box. */
export function FilterBox({ text, problems, known, onFilter }) {
  const [typed, setTyped] = useState(text);
  const [caret, setCaret] = useState(0);
  const [open, setOpen] = useState(false);
  const [at, setAt] = useState(-1);
  const field = useRef(null);
  const jump = useRef(null);
  useEffect(() => setTyped(text), [text]);
  // At once, and not after the next frame: who types on would find the caret moved under them.
  useLayoutEffect(() => {
    if (jump.current === null) return;
    field.current.setSelectionRange(jump.current, jump.current);
    jump.current = null;
  });
  useKeys({ "/": () => field.current.focus() });
  const offers = open ? suggest(typed, caret, known) : [];
  const type = (event) => {
    setTyped(event.target.value);
    setCaret(event.target.selectionStart);
    setOpen(true);
    setAt(-1);
  };
  const pick = (offer) => {
    setTyped(offer.insert);
    setCaret(offer.caret);
    jump.current = offer.caret;
    setAt(-1);
    field.current.focus();
  };
  const submit = (event) => {
    event.preventDefault();
    setOpen(false);
    onFilter(typed.trim());
  };
  const onKey = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && offers.length) setAt((at + step + offers.length + (at < 0 && step < 0 ? 1 : 0)) % offers.length);
    else if (event.key === "Enter" && offers[at]) pick(offers[at]);
    else if (event.key === "Tab" && !event.shiftKey && offers[at]) pick(offers[at]);
    else if (event.key === "Escape" && open && offers.length) setOpen(false);
    else if (event.key === "Escape") field.current.blur();
    else return;
    event.preventDefault();
  };
  const clear = () => {
    setTyped("");
    onFilter("");
    field.current.focus();
  };
  return html`<form class="filter" role="search" onSubmit=${submit}>
    <div class="box"><input ref=${field} type="text" value=${typed} onInput=${type} onKeyDown=${onKey} onFocus=${() => setOpen(true)}
      onClick=${(event) => setCaret(event.target.selectionStart)} onBlur=${() => setOpen(false)} role="combobox" aria-label="Filter jobs" aria-autocomplete="list"
      aria-expanded=${offers.length > 0} aria-controls="filter-list" aria-activedescendant=${at >= 0 ? `filter-${at}` : undefined}
      aria-describedby="filter-problem" placeholder="status:failed task:report >10s since:1h, or words" autocomplete="off" autocapitalize="none" spellcheck=${false} />
    ${typed && html`<button type="button" class="quiet clear" aria-label="Clear the filter" onClick=${clear}>✕</button>`}
    <ul id="filter-list" role="listbox" aria-label="Suggestions" hidden=${!offers.length} onMouseDown=${(event) => event.preventDefault()}>${offers.map(
      (offer, place) => html`<li role="option" id=${`filter-${place}`} aria-selected=${place === at} onClick=${() => pick(offer)}>
        <code><bdi>${offer.text}</bdi></code><span class="note">${offer.hint}</span></li>`,
    )}</ul></div>
    <button class="primary">Filter</button>
    <p id="filter-problem" class="bad" role="status">${problems.join("; ")}</p></form>`;
}
