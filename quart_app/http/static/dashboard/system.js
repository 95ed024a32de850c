// System: the processes, the store, the loop's lag, what is kept, and every setting's source.
import { useAsk } from "./api.js";
import { TimeChart } from "./charts.js";
import { count, duration, many, pretty, serverNow, visible } from "./format.js";
import { change, Fragment, html, link, useEffect, useRef, useState } from "./lib.js";
import { useJobs } from "./stream.js";
import { Ago, Empty, Panel, Table, Text, Trouble } from "./ui.js";

const POINTS = 300;
const EVERY = 2; // Seconds between two looks at the lag.
const SERIES = [{ name: "loop lag", color: "running" }];

/** What this page has seen of the lag since it was opened; nobody else keeps it. */
function useLag(health) {
  const points = useRef([]);
  const [data, setData] = useState([[], []]);
  useEffect(() => {
    if (!health || typeof health.lag !== "number") return;
    points.current = [...points.current, [serverNow(), health.lag]].slice(-POINTS);
    setData([points.current.map(([at]) => at), points.current.map(([, lag]) => lag)]);
  }, [health]);
  return data;
}

function Health({ health, data }) {
  const newest = health.blocked?.newest ?? [];
  const most = Math.max(0, ...data[1]);
  return html`<${Panel} title="Event loop" aside=${html`<span class="note">seen by this page since it was opened</span>`}>
    <p><strong class="big">${duration(health.lag)}</strong> <span class="note">lag now, at most ${duration(most)}; a free loop is below 10 ms</span></p>
    <${TimeChart} data=${data} series=${SERIES} format=${duration} said=${`Loop lag: now ${duration(health.lag)}, at most ${duration(most)}`} />
    ${newest.length > 0 && html`<h3>What blocked it</h3><p class="note">${many(health.blocked.count, "time")} since the start of the process; the newest:</p>
      ${newest.map((each) => html`<details><summary>${each.seconds === undefined ? "" : duration(each.seconds)} <${Text} of=${each.task ?? each.job ?? each.job_id ?? "no job"} /></summary><pre class="value" tabindex="0"><${Text} of=${Array.isArray(each.stack) ? each.stack.join("\n") : each.stack ?? pretty(each)} /></pre></details>`)}`}<//>`;
}

function Workers() {
  const { data, problem } = useAsk("/workers", { every: 5 });
  return html`<${Panel} title="Processes"><${Trouble} problem=${problem} />
    ${data && data.workers.length === 0 && html`<${Empty}>One process does it all: this one. Several need a store on Redis or PostgreSQL.<//>`}
    ${data && data.workers.length > 0 && html`<${Table} caption="Processes that work with these jobs" heads=${["Process", "Host", "Kind", "Started", "Running", "Room", "Tasks", "State"]}>${data.workers.map(
      (each) => html`<tr key=${each.id}><th scope="row" class="mono"><${Text} of=${each.id} /></th><td><${Text} of=${each.host} /> <span class="note">${each.pid}</span></td><td><${Text} of=${each.kind} /></td>
        <td><${Ago} at=${each.started_at} /></td><td class="num">${count(each.running)}</td><td class="num">${count(each.room)}</td>
        <td>${each.room === 0 ? "none" : each.only?.length ? each.only.map((name) => html`<${Text} of=${name} /> `) : "all"}</td><td>${each.draining ? html`<span class="status canceled">draining</span>` : "works"}</td></tr>`,
    )}<//>`}<//>`;
}

const write = (value) => (value === null ? "–" : typeof value === "string" ? value : JSON.stringify(value));

function Setting({ each }) {
  const set = each.source !== "default";
  return html`<tr><th scope="row" class="mono"><${Text} of=${each.name} /></th><td class="mono wrap"><${Text} of=${write(each.value)} /></td>
    <td>${set ? html`<strong><${Text} of=${each.source} /></strong>` : html`<span class="note">default</span>`}</td>
    <td><${Text} of=${each.meaning} />${each.expected && html` <span class="note"><${Text} of=${each.expected} /></span>`}</td></tr>`;
}

function Settings({ settings, only }) {
  const shown = settings.filter((each) => !only || each.source !== "default");
  const toggle = html`<label class="check"><input type="checkbox" checked=${only} onChange=${(event) => change({ only: event.target.checked ? "1" : "" }, true)} /> only those that were set</label>`;
  return html`<${Panel} title="Settings" aside=${toggle}>${shown.length === 0 ? html`<${Empty}>Every setting has its default.<//>` : html`
    <${Table} caption="Settings and where each came from" heads=${["Setting", "Value", "From", "What it does"]}>${shown.map((each) => html`<${Setting} key=${each.name} each=${each} />`)}<//>`}<//>`;
}

/** A bound in words: seconds as a duration, bytes with their unit, one for all where it is the same. */
function bound({ name, value }) {
  if (Object(value) === value) {
    const parts = Object.entries(value).map(([status, each]) => [status, bound({ name, value: each })]);
    const same = parts.every(([, each]) => each === parts[0]?.[1]);
    return same ? (parts[0]?.[1] ?? "–") : parts.map(([status, each]) => `${status} ${each}`).join(", ");
  }
  if (typeof value !== "number") return write(value);
  if (/_AGE$/.test(name)) return duration(value);
  return /_BYTES|_RESULT/.test(name) ? `${Number((value / 2 ** 20).toFixed(2))} MiB` : count(value);
}

function Keeps({ settings, health }) {
  const kept = settings.filter((each) => /_RETAIN_|_LOG_(LINES|BYTES)|_MAX_RESULT/.test(each.name));
  const store = settings.find((each) => each.name === "QUART_APP_STORE");
  const said = typeof health?.store === "string" ? health.store : health?.store ? pretty(health.store) : null;
  return html`<${Panel} title="Store and retention"><dl class="facts">
    <div><dt>Store</dt><dd class="mono"><${Text} of=${store ? write(store.value) : "–"} /></dd></div>
    ${said && html`<div><dt>State</dt><dd><${Text} of=${said} /></dd></div>`}
    ${kept.map((each) => html`<div><dt title=${visible(each.name)}><${Text} of=${each.name.replace("QUART_APP_", "").replaceAll("_", " ").toLowerCase()} /></dt><dd><${Text} of=${bound(each)} /></dd></div>`)}</dl>
    <p class="note">Jobs that are over are kept until there are too many of them, they are too old, or take too much room. <a href=${link("jobs")}>See them</a>.</p><//>`;
}

/** The page. */
export function System({ params }) {
  const health = useAsk("/healthz", { every: EVERY });
  const settings = useAsk("/settings");
  const data = useLag(health.data);
  useJobs(() => {}); // Keeps the page live: a restart of the server shows at once.
  return html`<${Fragment}><div class="title"><h1>System</h1>${settings.data && html`<p class="note">${Object.entries(settings.data.versions).map(([name, version]) => html`<span class="tag">${visible(name)} ${visible(version)}</span> `)}</p>`}</div>
    <${Trouble} problem=${health.problem ?? settings.problem} again=${health.reload} />
    <div class="columns">${health.data && html`<${Health} health=${health.data} data=${data} />`}
      ${settings.data && html`<${Keeps} settings=${settings.data.settings} health=${health.data} />`}</div>
    <${Workers} />
    ${settings.data && html`<${Settings} settings=${settings.data.settings} only=${params.get("only") === "1"} />`}<//>`;
}
