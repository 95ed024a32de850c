// The parts of one job's page: the status machine as a picture, attempts and steps as bars, the
// timeline, the children, the log. Nothing may live here that acts on the job.
import { useAsk } from "./api.js";
import {
  clock, count, duration, isOver, many, ran, seconds, serverNow, visible,
} from "./format.js";
import { html, link, useLayoutEffect, useRef, useState } from "./lib.js";
import { useNow } from "./stream.js";
import { Copy, Empty, JobLink, Panel, Status, Table, Text, Trouble } from "./ui.js";

const WIDTH = 132;
const HEIGHT = 46;
const PLACES = {
  scheduled: [12, 24],
  queued: [12, 130],
  running: [236, 130],
  succeeded: [470, 24],
  failed: [470, 130],
  canceled: [470, 236],
};
// [from, to, path]: between the sides of the boxes, curved where another line is in the way.
const MOVES = [
  ["scheduled", "queued", "M60 70V130"],
  ["queued", "running", "M144 146H236"],
  ["running", "queued", "M236 164H144"],
  ["running", "scheduled", "M290 130C290 60 240 47 144 47"],
  ["running", "succeeded", "M368 144C420 144 410 47 470 47"],
  ["running", "failed", "M368 153H470"],
  ["running", "canceled", "M368 164C420 164 410 259 470 259"],
  ["queued", "canceled", "M78 176C78 250 200 266 470 266"],
  ["scheduled", "canceled", "M20 70C-8 150 -8 282 120 282C250 282 360 276 470 276"],
  ["queued", "failed", "M110 176C130 236 330 236 480 176"],
  ["scheduled", "failed", "M144 36C300 0 440 40 490 130"],
];

/** The statuses of the timeline one after another: `[{status, time}]`. */
export function way(job, rows) {
  const told = rows.length ? rows : [{ status: job.run_at && !job.started ? "scheduled" : "queued", time: job.created }];
  const found = [];
  for (const row of told) {
    // No job goes on without having been due; that is no row of its own.
    if (found.at(-1)?.status === "scheduled" && row.status === "running") found.push({ status: "queued", time: row.time });
    if (found.at(-1)?.status !== row.status) found.push({ status: row.status, time: row.time });
  }
  if (found.at(-1).status !== job.status) found.push({ status: job.status, time: job.updated });
  return found;
}

function State({ name, visits, now }) {
  const [x, y] = PLACES[name];
  const last = visits.at(-1);
  const times = visits.length > 1 ? ` ×${visits.length}` : "";
  return html`<g class="state ${name} ${visits.length ? "seen" : ""} ${now ? "now" : ""}">
    <rect x=${x} y=${y} width=${WIDTH} height=${HEIGHT} rx="10" />
    <text x=${x + WIDTH / 2} y=${y + (last ? 19 : 28)} class="name">${name}${times}</text>
    ${last && html`<text x=${x + WIDTH / 2} y=${y + 37} class="at">${clock(last.time, true).slice(-12)}</text>`}</g>`;
}

function sentence(steps) {
  const parts = steps.map(({ status, time }, place) => {
    const next = steps[place + 1];
    const lasted = next ? ` for ${duration(seconds(next.time) - seconds(time))}` : "";
    return `${visible(status)} at ${clock(time)}${lasted}`;
  });
  return parts.join(", then ");
}

/** The picture, and the same in words. */
export function Machine({ job, rows }) {
  const steps = way(job, rows);
  const taken = new Set(steps.slice(1).map((step, place) => `${steps[place].status} ${step.status}`));
  const visits = (name) => steps.filter((step) => step.status === name);
  return html`<div class="scroll machine" tabindex="0" role="region" aria-label="The status machine"><svg viewBox="-14 8 628 292" role="img" aria-label=${sentence(steps)}>
    <defs>${["", "on"].map((kind) => html`<marker id=${`arrow${kind}`} class=${`arrow ${kind}`} viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" /></marker>`)}</defs>
    ${MOVES.map(([from, to, path]) => {
      const on = taken.has(`${from} ${to}`);
      return html`<path class="move ${on ? "on" : ""}" d=${path} marker-end=${on ? "url(#arrowon)" : "url(#arrow)"} />`;
    })}
    ${Object.keys(PLACES).map((name) => html`<${State} name=${name} visits=${visits(name)} now=${job.status === name} />`)}</svg></div>
    <p class="note">${sentence(steps)}</p>`;
}

const STEP = /^step '(.*)' finished$/s;

/** Bars `[{name, from, to, kind, note}]` in seconds of the epoch. */
function barsOf(job, rows, now) {
  const found = [];
  let free = seconds(job.created);
  const wait = (until) => {
    if (until - free > 0.0005) found.push({ name: "waits", from: free, to: until, kind: "queued", note: "" });
  };
  for (const each of job.attempts ?? []) {
    wait(seconds(each.started));
    const note = each.error ? `${each.reason}: ${each.error.code}` : each.reason;
    attempt(found, each.attempt, seconds(each.started), seconds(each.ended), "failed", note, rows);
    free = seconds(each.ended);
  }
  const end = seconds(job.finished) ?? now;
  wait(job.started ? seconds(job.started) : end);
  if (job.started) {
    const kind = isOver(job) ? job.status : "running";
    attempt(found, job.attempt, seconds(job.started), end, kind, isOver(job) ? job.status : "runs", rows);
  }
  return found;
}

/** An attempt's bar, and below it those of its steps: only their ends are known, so that each is
 * drawn from the end of the one before. */
function attempt(found, number, from, to, kind, note, rows) {
  found.push({ name: `attempt ${number}`, from, to, kind, note });
  let begin = from;
  for (const row of rows) {
    const [, name] = STEP.exec(row.action) ?? [];
    const at = seconds(row.time);
    if (name === undefined || at < from || at > to) continue;
    found.push({ name, step: true, from: begin, to: at, kind: "step", note: "" });
    begin = at;
  }
}

const MOST = 60; // Bars that are drawn; a job with more steps has the table.

/** Attempts and steps on one line of time. */
export function Gantt({ job, rows }) {
  const now = useNow(serverNow, isOver(job) ? 3_600_000 : 500);
  const all = barsOf(job, rows, now);
  const start = seconds(job.created);
  const whole = Math.max(0.001, (seconds(job.finished) ?? now) - start);
  const steps = all.some((bar) => bar.step);
  return html`<${Panel} title=${steps ? "Attempts and steps" : "Attempts"}>
    <ul class="gantt">${all.slice(0, MOST).map((bar) => html`<li class=${bar.step ? "step" : ""}>
      <span class="who clip"><${Text} of=${bar.name} /></span>
      <span class="track" aria-hidden="true"><i class="paint ${bar.kind}" style=${{ left: `${((bar.from - start) / whole) * 100}%`, width: `${Math.max(0.4, ((bar.to - bar.from) / whole) * 100)}%` }}></i></span>
      <span class="num note">${duration(Math.max(0, bar.to - bar.from))} <${Text} of=${bar.note} /></span></li>`)}</ul>
    ${all.length > MOST && html`<p class="note">and ${all.length - MOST} more: they are in the timeline</p>`}<//>`;
}

/** The server's table of what happened. */
export function Timeline({ rows, problem }) {
  return html`<${Panel} title="Timeline"><${Trouble} problem=${problem} />
    ${rows.length === 0 ? html`<${Empty}>Nothing is known of it.<//>` : html`
    <${Table} caption="What happened, the oldest first" heads=${["Time", "After", "What", "Where", "A request was answered", "Status"]}>${rows.map(
      (row) => html`<tr key=${row.step}><td class="mono nowrap" title=${row.time}>${clock(row.time, true)}</td><td class="num nowrap">${duration(row.since)}</td>
        <td><${Text} of=${row.action} /></td><td><${Text} of=${row.where} /></td><td class="mono nowrap">${visible(row.response)}</td><td><${Text} of=${row.status} /></td></tr>`,
    )}<//>`}<//>`;
}

const DEEPEST = 8;
const FIRST = 100;

function Branch({ job, depth }) {
  const [open, setOpen] = useState(false);
  return html`<li><div class="leaf"><${Status} job=${job} /> <${JobLink} id=${job.id}><${Text} of=${job.task} /><//>
      <span class="note num">${duration(ran(job, serverNow()))}</span>
      ${job.children && depth < DEEPEST && html`<button type="button" class="quiet" aria-expanded=${open} onClick=${() => setOpen(!open)}>${open ? "Hide its children" : "Its children"}</button>`}</div>
    ${open && html`<${Children} id=${job.id} depth=${depth + 1} live=${!isOver(job)} />`}</li>`;
}

function Children({ id, depth, live }) {
  const { data, problem } = useAsk(`/jobs?parent=${encodeURIComponent(id)}&limit=${FIRST}`, { every: live ? 2 : 0 });
  const jobs = data ? [...data.jobs].reverse() : [];
  if (!depth && !problem && !jobs.length) return null; // Most jobs have none, and no need to say so.
  const branches = html`<${Trouble} problem=${problem} />
    ${data && jobs.length === 0 && html`<p class="note">It has started no job.</p>`}
    ${jobs.length > 0 && html`<ul class="tree">${jobs.map((job) => html`<${Branch} key=${job.id} job=${job} depth=${depth} />`)}</ul>`}
    ${data?.next && html`<p class="note"><a href=${link("jobs", "", { filter: `parent:${id}` })}>All of them</a>: these are the newest ${many(FIRST, "job")}</p>`}`;
  return depth ? branches : html`<${Panel} title="Children">${branches}<//>`;
}

/** The part of a job's page; nothing where its task cannot start others. */
export function Family({ job }) {
  return job.children && html`<${Children} id=${job.id} depth=${0} live=${!isOver(job)} />`;
}

/** Lines that are drawn; more would cost the page its pace. */
export const LINES = 1000;
const LEVELS = ["debug", "info", "warning", "error", "critical"];

const Line = ({ line }) => html`<div class="line ${LEVELS.includes(line.level) ? line.level : ""}"><span class="mono at" title=${line.time}>${clock(line.time, true).slice(-12)}</span>
  <span class="level"><${Text} of=${line.level} /></span><bdi>${visible(line.text)}</bdi></div>`;

/** The part of a job's page. */
export function Log({ lines, dropped, live }) {
  const [least, setLeast] = useState(0);
  const [follow, setFollow] = useState(true);
  const box = useRef(null);
  const fits = least ? lines.filter((line) => LEVELS.indexOf(line.level) >= least) : lines;
  const shown = fits.slice(-LINES);
  useLayoutEffect(() => {
    if (follow && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines, follow, least]);
  const onScroll = () => {
    if (!box.current) return; // The last of it comes when the page is another already.
    const { scrollTop, scrollHeight, clientHeight } = box.current;
    setFollow(scrollHeight - scrollTop - clientHeight < 24);
  };
  const aside = html`<label class="inline">Level <select value=${least} onChange=${(event) => setLeast(Number(event.target.value))}>${LEVELS.map(
      (level, place) => html`<option value=${place}>${place ? `${level} and above` : "all"}</option>`,
    )}</select></label>
    ${!follow && html`<button type="button" onClick=${() => setFollow(true)}>To the end</button>`}
    ${lines.length > 0 && html`<${Copy} text=${() => fits.map((line) => `${line.time} ${line.level} ${line.text}`).join("\n")}>Copy<//>`}`;
  const hidden = dropped + fits.length - shown.length;
  return html`<${Panel} title="Log" aside=${aside}>
    ${shown.length === 0 ? html`<${Empty}>${live ? "Nothing was said yet." : "Nothing was said."}<//>` : html`
    <div class="log" ref=${box} onScroll=${onScroll} tabindex="0" role="region" aria-label="The log's lines">
      ${hidden > 0 && html`<div class="note">${count(hidden)} earlier lines are not shown here</div>`}
      ${shown.map((line) => html`<${Line} key=${line.seq} line=${line} />`)}</div>`}<//>`;
}
