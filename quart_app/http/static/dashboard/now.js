// Now: what runs and waits, what ended, how long it took. Read again when something happened.
import { useAsk, useSoon } from "./api.js";
import { TimeChart } from "./charts.js";
import { clock, count, duration, isOver, line, many, seconds, serverNow, setServerNow } from "./format.js";
import { moveRow, useKeys } from "./keys.js";
import { change, Fragment, html, link, useCallback, useEffect, useRef, useState } from "./lib.js";
import { useJobs, useNow } from "./stream.js";
import { Empty, Glyph, Panel, Table, Text, Trouble } from "./ui.js";

const WINDOW = 120; // Seconds that a lane shows.
const LANES = 24;
const KEPT = 200; // Jobs remembered for lanes; more run than anybody could look at.
const ENDS = [
  { name: "succeeded", color: "succeeded" },
  { name: "failed", color: "failed" },
  { name: "canceled", color: "canceled" },
];
const RANGES = { "10m": 600, "1h": 3600 };

function Tile({ title, value, note, href, kind = "" }) {
  return html`<a class="tile ${kind}" href=${href}><span class="label">${title}</span>
    <span class="value">${value}</span><span class="note">${note}</span></a>`;
}

function Tiles({ stats }) {
  const { counts } = stats;
  const failed = stats.failed_last_hour;
  const lag = stats.lag ?? 0;
  const word = lag > 0.1 ? "something blocks the event loop" : lag > 0.02 ? "the event loop is a little late" : "the event loop is free";
  const place = counts.scheduled ? `${many(counts.scheduled, "job")} scheduled` : "none scheduled";
  const oldest = stats.oldest_wait === null ? place : `oldest waits ${duration(stats.oldest_wait)}, ${place}`;
  return html`<div class="tiles">
    <${Tile} title="Running" value=${count(counts.running)} note=${`${many(stats.watchers ?? 0, "watcher")}`} href=${link("jobs", "", { filter: "status:running" })} />
    <${Tile} title="Waiting" value=${count(counts.queued)} note=${oldest} href=${link("jobs", "", { filter: "status:queued,scheduled" })} />
    <${Tile} title="Failed in the last hour" value=${count(failed)} kind=${failed ? "bad" : ""} note=${failed ? "see them" : "none"} href=${link("jobs", "", { filter: "status:failed since:1h" })} />
    <${Tile} title="Loop lag" value=${duration(lag)} kind=${lag > 0.1 ? "warn" : ""} note=${word} href=${link("system")} /></div>`;
}

/** The last hour's endings, in so many bars. */
function ends(throughput, now, range) {
  const { bucket } = throughput;
  const size = range === 600 ? bucket : Math.max(bucket, 60);
  const bars = Math.ceil(range / size);
  const length = throughput.succeeded.length;
  const begin = Math.floor(now / size) * size - (bars - 1) * size;
  // The last bucket is the one that now lies in.
  const first = Math.floor(now / bucket) * bucket - (length - 1) * bucket;
  const sums = ENDS.map(({ name }) => {
    const sum = new Array(bars).fill(0);
    throughput[name].forEach((value, place) => {
      const bar = Math.floor((first + place * bucket - begin) / size);
      if (bar >= 0 && bar < bars) sum[bar] += value;
    });
    return sum;
  });
  return [sums[0].map((_, place) => begin + place * size), ...sums];
}

function Throughput({ stats, range }) {
  const data = ends(stats.throughput, seconds(stats.now), RANGES[range]);
  const total = (row) => row.reduce((sum, each) => sum + each, 0);
  const said = ENDS.map(({ name }, place) => `${total(data[place + 1])} ${name}`).join(", ");
  const choose = html`<div class="choice" role="group" aria-label="How far back">${Object.keys(RANGES).map(
    (each) => html`<button type="button" aria-pressed=${range === each} onClick=${() => change({ range: each }, true)}>${each}</button>`,
  )}</div>`;
  return html`<${Panel} title="Jobs that ended" aside=${choose}>
    <p class="note">${said}, as this process has heard since ${clock(stats.throughput.since)}</p>
    <${TimeChart} kind="bars" data=${data} series=${ENDS} format=${(value) => (Number.isInteger(value) ? count(value) : "")} said=${`Jobs that ended in the last ${range}: ${said}`} /><//>`;
}

function Spread({ value, most }) {
  if (value.p50 === null) return html`<span class="note">nothing seen</span>`;
  const wide = (each) => `${Math.max(1, (each / most) * 100)}%`;
  return html`<span class="spread" aria-hidden="true"><i style=${{ width: wide(value.p95) }}></i><b style=${{ width: wide(value.p50) }}></b></span>
    <span>${duration(value.p50)} / ${duration(value.p95)}</span>`;
}

function Durations({ tasks }) {
  const rows = Object.entries(tasks);
  const most = (kind) => Math.max(0.001, ...rows.map(([, each]) => each[kind].p95 ?? 0));
  const [wait, run] = [most("wait"), most("run")];
  return html`<${Panel} title="How long jobs wait and run">
    ${rows.length === 0 ? html`<${Empty}>No job has been started yet. <a href=${link("tasks")}>Start one</a>.<//>` : html`
    <${Table} caption="Median and 95th percentile by task" heads=${["Task", "Waits p50 / p95", "Runs p50 / p95", "Run", "Wait"]}>${rows.map(
      ([name, each]) => html`<tr key=${name}><th scope="row"><a href=${link("tasks", name)}><${Text} of=${name} /></a></th>
        <td><${Spread} value=${each.wait} most=${wait} /></td><td><${Spread} value=${each.run} most=${run} /></td>
        <td class="num">${count(each.counts.running ?? 0)}</td><td class="num">${count((each.counts.queued ?? 0) + (each.counts.scheduled ?? 0))}</td></tr>`,
    )}<//>`}<//>`;
}

/** Running jobs and those that ended in the window; the newest versions of the most recent ones. */
function useLanes() {
  const jobs = useRef(new Map());
  const [, redraw] = useState(0);
  const take = useCallback((found) => {
    for (const job of found) {
      if (!job.started) jobs.current.delete(job.id);
      else jobs.current.set(job.id, job);
    }
    const surplus = jobs.current.size - KEPT;
    for (const id of [...jobs.current.keys()].slice(0, Math.max(0, surplus))) jobs.current.delete(id);
    redraw((value) => value + 1);
  }, []);
  const read = useAsk("/jobs?status=running&limit=100");
  useEffect(() => {
    if (!read.data) return;
    // What does not run any more, and was not heard of, is gone: after a gap of the stream.
    const running = new Set(read.data.jobs.map((job) => job.id));
    for (const [id, job] of jobs.current) if (!isOver(job) && !running.has(id)) jobs.current.delete(id);
    take([...read.data.jobs].reverse());
  }, [read.data]);
  const newest = useAsk("/jobs?limit=100"); // What has ended before the page was opened.
  useEffect(() => {
    if (newest.data) take(newest.data.jobs.filter((job) => isOver(job) && !jobs.current.has(job.id)).reverse());
  }, [newest.data]);
  return [jobs.current, take];
}

function Lane({ job, now }) {
  const left = Math.max(0, 1 - (now - seconds(job.started)) / WINDOW);
  const right = Math.min(1, 1 - (now - (seconds(job.finished) ?? now)) / WINDOW);
  const style = { left: `${left * 100}%`, width: `${Math.max(0.6, (right - left) * 100)}%` };
  const lasts = (seconds(job.finished) ?? now) - seconds(job.started);
  const aim = !job.finished && Number.isFinite(job.progress) ? `${Math.round(job.progress)} %` : "";
  return html`<li><span class="who"><${Glyph} status=${job.status} /><a data-row href=${link("jobs", job.id)}><${Text} of=${job.task} /></a>
      <span class="note clip"><${Text} of=${line(job.args, 60)} /></span></span>
    <span class="track" aria-hidden="true"><i class="paint ${job.status} ${left === 0 ? "cut" : ""}" style=${style}></i></span>
    <span class="note num"><span class="sr">${job.status} </span>${aim} ${duration(Math.max(0, lasts))}</span></li>`;
}

function Lanes({ jobs }) {
  const now = useNow(serverNow, 500);
  const shown = [...jobs.values()].filter((job) => !job.finished || now - seconds(job.finished) < WINDOW);
  shown.sort((one, other) => (one.started < other.started ? 1 : -1));
  const more = shown.length - LANES;
  return html`<${Panel} title="The last two minutes" aside=${html`<a href=${link("jobs", "", { filter: "status:running" })}>All running jobs</a>`}>
    ${shown.length === 0 ? html`<${Empty}>Nothing runs. A job shows here as a lane from its start to now.<//>` : html`
    <ul class="lanes">${shown.slice(0, LANES).map((job) => html`<${Lane} key=${job.id} job=${job} now=${now} />`)}</ul>
    <p class="scale note" aria-hidden="true"><span>2 minutes ago</span><span>1 minute ago</span><span>now</span></p>
    ${more > 0 && html`<p class="note">and ${count(more)} more${""}</p>`}`}<//>`;
}

/** The page. */
export function Now({ params }) {
  const { data, problem, reload } = useAsk("/stats", { every: 5 });
  const soon = useSoon(reload, 1500);
  const [lanes, take] = useLanes();
  useJobs((jobs) => {
    take(jobs);
    soon();
  });
  useKeys({ j: () => moveRow(1), k: () => moveRow(-1) });
  useEffect(() => data && setServerNow(data.now), [data]);
  const range = params.get("range") in RANGES ? params.get("range") : "1h";
  return html`<${Fragment}><div class="title"><h1>Now</h1><a class="button primary" href=${link("tasks")}>Start a job</a></div>
    <${Trouble} problem=${problem} again=${reload} />
    ${data && html`<${Tiles} stats=${data} />`}
    <${Lanes} jobs=${lanes} />
    ${data && html`<div class="columns"><${Throughput} stats=${data} range=${range} /><${Durations} tasks=${data.tasks} /></div>`}<//>`;
}
