// The parts of the page of many jobs: the table (cards on a narrow screen), and how long they ran as
// bars that filter. Nothing may live here that acts on jobs.
import { ask } from "./api.js";
import { bins } from "./charts.js";
import { toQuery, withDurations } from "./filter.js";
import { duration, isOver, line, many, ran, serverNow, visible } from "./format.js";
import { Component, go, html, link, useEffect, useRef, useState } from "./lib.js";
import { useNow } from "./stream.js";
import { Ago, Bar, Status, Text } from "./ui.js";

function Lasted({ job }) {
  const now = useNow(serverNow, isOver(job) || !job.started ? 3_600_000 : 1000);
  return html`${duration(ran(job, now))}`;
}

/** What there is to say of a job in a few words: where it is, or why it failed. */
function Said({ job }) {
  if (job.status === "failed" && job.error) {
    return html`<span class="bad clip"><${Text} of=${`${job.error.code}: ${job.error.message}`} /></span>`;
  }
  const known = job.progress !== null;
  return html`${job.status === "running" && known && html`<${Bar} value=${job.progress} label=${`Progress of ${visible(job.task)}`} />`}
    ${job.message && !isOver(job) && html`<span class="clip note"><${Text} of=${job.message} /></span>`}
    ${job.position !== null && job.position !== undefined && html`<span class="note">number ${job.position} in line</span>`}
    ${job.status === "scheduled" && job.run_at && html`<span class="note">starts <${Ago} at=${job.run_at} /></span>`}`;
}

/** A row draws itself again only where its job, or its choice, has changed. */
class Row extends Component {
  shouldComponentUpdate(next) {
    return next.job !== this.props.job || next.on !== this.props.on;
  }

  render({ job, on, toggle }) {
    const name = visible(job.task);
    const attempt = job.attempt > 1 ? ` attempt ${job.attempt} of ${job.max_attempts}` : "";
    return html`<tr role="row" class=${on ? "chosen" : ""}>
      <td role="cell" class="pick"><label class="hit"><input type="checkbox" checked=${on} onChange=${() => toggle([job.id])} aria-label=${`Select job ${visible(job.id)} of ${name}`} /></label></td>
      <td role="cell" class="state"><${Status} job=${job} /></td>
      <td role="cell" class="job"><a data-row=${job.id} href=${link("jobs", job.id)}><strong><${Text} of=${job.task} /></strong></a>
        <span class="mono note clip"><${Text} of=${line(job.args)} /></span></td>
      <td role="cell" class="said"><${Said} job=${job} />${attempt && html`<span class="note">${attempt}</span>`}</td>
      <td role="cell" class="num" data-name="Opened"><${Ago} at=${job.created} /></td>
      <td role="cell" class="num" data-name="Ran"><${Lasted} job=${job} /></td></tr>`;
  }
}

/** The rows, as they stand. */
export function JobsTable({ rows, chosen, toggle }) {
  const all = rows.every((job) => chosen.has(job.id));
  const ids = rows.map((job) => job.id);
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Jobs"><table class="cards jobs" role="table"><caption class="sr">Jobs, the newest first</caption>
    <thead role="rowgroup"><tr role="row"><th role="columnheader" scope="col" class="pick"><label class="hit"><input type="checkbox" checked=${all} onChange=${() => toggle(ids, !all)} aria-label="Select all jobs of this page" /></label></th>
      ${["Status", "Job", "Progress or error"].map((head) => html`<th role="columnheader" scope="col">${head}</th>`)}
      <th role="columnheader" scope="col" class="num">Opened</th><th role="columnheader" scope="col" class="num">Ran</th></tr></thead>
    <tbody role="rowgroup">${rows.map((job) => html`<${Row} key=${job.id} job=${job} on=${chosen.has(job.id)} toggle=${toggle} />`)}</tbody></table></div>`;
}

const PAGES = 3; // Pages of 100 jobs that are looked at: enough for a shape, and cheap to ask.

async function read(found, signal) {
  const durations = [];
  let cursor = null;
  for (let page = 0; page < PAGES; page += 1) {
    const { jobs, next } = await ask(`/jobs?${toQuery(found, { cursor, limit: 100 })}`, { signal });
    for (const job of jobs) if (job.finished && job.started) durations.push(ran(job, 0));
    if (!next) break;
    cursor = new URL(next, location.href).searchParams.get("cursor");
  }
  return durations;
}

function useDurations(found, open) {
  const [durations, setDurations] = useState([]);
  const query = toQuery(found);
  useEffect(() => {
    if (!open || found.problems.length) return undefined;
    const control = new AbortController();
    // After the list, which is what one waits for.
    const timer = setTimeout(() => read(found, control.signal).then(setDurations, () => {}), 150);
    return () => {
      clearTimeout(timer);
      control.abort();
    };
  }, [query, open]);
  return durations;
}

const label = (bin) =>
  `${duration(bin.least)} ${bin.most === Infinity ? "or more" : `to ${duration(bin.most)}`}`;

function Bars({ found, text }) {
  const [from, setFrom] = useState(null);
  const [to, setTo] = useState(null);
  const box = useRef(null);
  const most = Math.max(...found.map((bin) => bin.count));
  const [low, high] = from === null ? [-1, -1] : [Math.min(from, to), Math.max(from, to)];
  const use = (one, other) => {
    const least = found[Math.min(one, other)].least;
    const upper = found[Math.max(one, other)].most;
    setFrom(null);
    go(link("jobs", "", { filter: withDurations(text, least || null, upper === Infinity ? null : upper) }));
  };
  const placeOf = (event) => {
    const all = [...box.current.children];
    const place = all.findIndex((each) => event.clientX < each.getBoundingClientRect().right);
    return place < 0 ? all.length - 1 : place;
  };
  const down = (event) => {
    if (event.button) return;
    box.current.setPointerCapture(event.pointerId);
    setFrom(placeOf(event));
    setTo(placeOf(event));
  };
  const move = (event) => from !== null && setTo(placeOf(event));
  const up = () => from !== null && use(from, to);
  const onKey = (event, place) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) {
      const next = Math.min(found.length - 1, Math.max(0, place + step));
      if (event.shiftKey) {
        setFrom(from ?? place);
        setTo(next);
      } else setFrom(null);
      box.current.children[next].focus();
    } else if (event.key === "Enter" || event.key === " ") use(from ?? place, from === null ? place : to);
    else return;
    event.preventDefault();
  };
  return html`<div class="bars" ref=${box} role="group" aria-label="Durations: arrows move, Shift with arrows spans several, Enter filters" onPointerDown=${down} onPointerMove=${move} onPointerUp=${up} onPointerCancel=${() => setFrom(null)}>${found.map(
    (bin, place) => html`<button type="button" class=${place >= low && place <= high ? "on" : ""} tabindex=${place === 0 ? 0 : -1}
      aria-label=${`${label(bin)}: ${many(bin.count, "job")}`} title=${`${label(bin)}: ${many(bin.count, "job")}`} onKeyDown=${(event) => onKey(event, place)}>
      <span class="full"><i style=${{ height: `${bin.count ? Math.max(3, (bin.count / most) * 100) : 0}%` }}></i></span><span class="tick" aria-hidden="true">${duration(bin.least)}</span></button>`,
  )}</div>`;
}

/** The part of the page; it can be folded away. */
export function Histogram({ text, found, open, onOpen }) {
  const durations = useDurations(found, open);
  const shape = bins(durations);
  const limited = found.longer !== undefined || found.shorter !== undefined;
  return html`<details class="histogram" open=${open} onToggle=${(event) => event.target.open !== open && onOpen(event.target.open)}>
    <summary>How long they ran</summary>
    ${shape.length === 0 ? html`<p class="note">No job that has ended is among them.</p>` : html`
      <p class="note">The newest ${many(durations.length, "job")} that ended. Click a bar, or draw over several.
      ${limited && html` <a href=${link("jobs", "", { filter: withDurations(text, null, null) })}>Any duration</a>`}</p>
      <${Bars} found=${shape} text=${text} />`}</details>`;
}
