// One job: what it is, where it is, what happened in it, and what can be done with it. It follows
// the job's own stream while it goes on, which brings the log as well; the page has no other.
import { cancelJob, RetryDialog, retryJob } from "./actions.js";
import { ask, base, curl, Problem, useAsk } from "./api.js";
import { quoted } from "./filter.js";
import {
  brief, duration, isOver, pretty, ran, seconds, serverNow, short, visible,
} from "./format.js";
import { Family, Gantt, Log, Machine, Timeline } from "./job-parts.js";
import { useKeys } from "./keys.js";
import { Fragment, go, html, link, useCallback, useEffect, useRef, useState } from "./lib.js";
import { claimState, streamState, tell, useNow } from "./stream.js";
import { Ago, Bar, Copy, Empty, JobLink, Panel, Status, Text, Trouble } from "./ui.js";

const KEPT = 2000; // Lines in memory; the log shows the last of them.

/** The job and its log, newest first known, then as the stream tells. */
function useStory(id) {
  const [job, setJob] = useState(null);
  const [lines, setLines] = useState([]);
  const [problem, setProblem] = useState(null);
  const [dropped, setDropped] = useState(0);
  const buffer = useRef({ job: null, lines: [], seen: -1, frame: 0, log: [] });
  const draw = useCallback(() => {
    const held = buffer.current;
    held.frame = 0;
    if (held.job) {
      setJob(held.job);
      if (isOver(held.job)) tell([held.job]);
      held.job = null;
    }
    if (!held.lines.length) return;
    const all = held.log.concat(held.lines);
    held.lines = [];
    held.log = all.slice(-KEPT);
    if (all.length > KEPT) setDropped((old) => old + all.length - KEPT);
    setLines(held.log);
  }, []);
  const add = useCallback((line) => {
    const held = buffer.current;
    if (line.seq <= held.seen) return;
    held.seen = line.seq;
    held.lines.push(line);
    held.frame ||= requestAnimationFrame(draw);
  }, [draw]);
  const set = useCallback((next) => {
    buffer.current.job = next;
    buffer.current.frame ||= requestAnimationFrame(draw);
  }, [draw]);
  const read = useCallback(async () => {
    try {
      const path = `/jobs/${encodeURIComponent(id)}`;
      set(await ask(path));
      const text = await ask(`${path}/log`, { text: true });
      for (const line of text.split("\n").slice(-KEPT)) if (line) add(JSON.parse(line));
      setProblem(null);
    } catch (error) {
      setProblem(error instanceof Problem ? error : new Problem(0, "Not readable", String(error)));
    }
  }, [id]);
  useEffect(() => {
    read();
    return () => cancelAnimationFrame(buffer.current.frame);
  }, [read]);
  return { job, lines, dropped, problem, add, set, read, setJob };
}

// A stream that is told to pause may say something more before it is closed.
const say = (state) => streamState.get() === "paused" || streamState.set(state);

/** The job's own stream: while it goes on, while somebody looks, and not while paused. */
function useJobStream(id, over, story) {
  const [paused, setPaused] = useState(streamState.get() === "paused");
  const [hidden, setHidden] = useState(document.hidden);
  useEffect(() => streamState.watch((state) => setPaused(state === "paused")), []);
  useEffect(() => {
    const see = () => setHidden(document.hidden);
    document.addEventListener("visibilitychange", see);
    return () => document.removeEventListener("visibilitychange", see);
  }, []);
  useEffect(claimState, []);
  const active = over === false && !paused && !hidden;
  useEffect(() => {
    if (!active) {
      if (over) say("final");
      return undefined;
    }
    let source = null;
    let timer = 0;
    let tries = 0;
    const open = () => {
      say(tries ? "waiting" : "connecting");
      source = new EventSource(`${base}/jobs/${encodeURIComponent(id)}/events`);
      source.onopen = () => {
        tries = 0;
        say("live");
      };
      source.onmessage = (event) => story.set(JSON.parse(event.data));
      source.addEventListener("log", (event) => story.add(JSON.parse(event.data)));
      source.onerror = () => {
        say("waiting");
        if (source.readyState !== EventSource.CLOSED) return; // It comes back by itself.
        story.read(); // Over (204), gone (404), or shutting down (503): ask, and try again.
        timer = setTimeout(open, Math.min(15000, 1000 * 2 ** tries++));
      };
    };
    open();
    return () => {
      clearTimeout(timer);
      source.close();
      say("off");
    };
  }, [id, active, over, paused]);
}

function Facts({ job }) {
  const now = useNow(serverNow, isOver(job) ? 3_600_000 : 500);
  const waited = seconds(job.started ?? job.finished) ?? now;
  const facts = [
    ["Opened", html`<${Ago} at=${job.created} />`],
    [job.started ? "Waited" : isOver(job) ? "Waited" : "Waits for", duration(Math.max(0, waited - seconds(job.created)))],
    job.started && [isOver(job) ? "Ran" : "Runs for", duration(ran(job, now))],
    job.run_at && !job.started && ["Starts", html`<${Ago} at=${job.run_at} />`],
    job.position !== null && job.position !== undefined && ["In line", `number ${job.position}`],
    ["Attempt", `${Math.max(job.attempt, 0)} of ${job.max_attempts}`],
    job.expires && ["Expires", html`<${Ago} at=${job.expires} />`],
    job.worker && ["Worker", html`<${Text} of=${job.worker} />`],
    job.parent && ["Parent", html`<${JobLink} id=${job.parent} />`],
    job.retry_of && ["Retry of", html`<${JobLink} id=${job.retry_of} />`],
    job.tags.length && ["Tags", job.tags.map((tag) => html`<a class="tag" href=${link("jobs", "", { filter: `tag:${quoted(tag)}` })}><${Text} of=${tag} /></a> `)],
  ].filter(Boolean);
  return html`<dl class="facts">${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function Progress({ job }) {
  const now = useNow(serverNow, 1000);
  if (isOver(job) || (job.status !== "running" && job.progress === null)) return null;
  const left = job.eta ? seconds(job.eta) - now : null;
  const end = left === null ? "" : left < 0 ? "longer than usual" : `about ${duration(Math.ceil(left))} left`;
  return html`<div class="progress"><${Bar} value=${job.progress} label="Progress" />
    <p><strong>${job.progress === null ? "running" : `${Math.round(job.progress)} %`}</strong> <span class="note">${end}</span>
    ${job.message && html` <${Text} of=${job.message} />`}</p></div>`;
}

const MOST = 4000;

/** A value as JSON; of a long one the beginning, since thousands of lines would stop the page. */
function Value({ value }) {
  const [whole, setWhole] = useState(false);
  const text = pretty(value);
  return html`<pre class="value" tabindex="0"><code><${Text} of=${whole ? text : short(text, MOST)} /></code></pre>
    ${text.length > MOST && !whole && html`<button type="button" onClick=${() => setWhole(true)}>Show all ${text.length} characters</button>`}
    <${Copy} text=${() => text}>Copy<//>`;
}

function Failed({ job }) {
  const filter = `status:failed task:${job.task} error:${quoted(job.error.code)}`;
  const query = new URLSearchParams({ status: "failed", task: job.task, error: job.error.code, limit: 6 });
  const { data } = useAsk(`/jobs?${query}`);
  const others = (data?.jobs ?? []).filter((other) => other.id !== job.id).slice(0, 5);
  return html`<${Panel} title="Error" kind="error" aside=${html`<a href=${link("jobs", "", { filter })}>All of its kind</a>`}>
    <p><strong><${Text} of=${job.error.code} /></strong></p><pre class="value" tabindex="0"><${Text} of=${job.error.message} /></pre>
    ${others.length > 0 && html`<h3>Its like</h3><ul class="list">${others.map(
      (other) => html`<li><${JobLink} id=${other.id} /> <${Ago} at=${other.finished} /> <span class="note clip"><${Text} of=${other.error?.message ?? ""} /></span></li>`,
    )}</ul>`}<//>`;
}

function Stack({ id, started }) {
  // A job that ends at once would be gone before its stack could be asked for.
  const ready = useNow(serverNow, 1000) - seconds(started) > 1;
  const { data, problem, reload } = useAsk(ready ? `/jobs/${encodeURIComponent(id)}/stack` : null, { every: 5 });
  if (problem?.status === 409 || problem?.status === 404) return null;
  const where = { loop: "on the event loop", thread: "in a thread", process: "in a process of its own", elsewhere: "in another process" };
  return html`<${Panel} title="Where its code is now" aside=${html`<button type="button" onClick=${reload}>Look again</button>`}>
    <${Trouble} problem=${problem} />
    ${data && (data.stack.length === 0 ? html`<${Empty}>It runs ${where[data.where] ?? "elsewhere"}, where its stack cannot be seen from here.<//>` : html`
    <p class="note">It runs ${where[data.where]}; the innermost call is last.</p>
    <ol class="stack">${data.stack.map((call) => html`<li><span class="note"><${Text} of=${call.file} />:${call.line} in <${Text} of=${call.function} /></span><code><${Text} of=${call.code ?? ""} /></code></li>`)}</ol>`)}<//>`;
}

function Actions({ job, onJob, change }) {
  const over = isOver(job);
  const cancel = async () => {
    const after = await cancelJob(job);
    if (after) onJob(after);
  };
  const retry = () => retryJob(job).then((next) => go(link("jobs", next.id)), () => {});
  useKeys({
    c: () => (over ? false : cancel()),
    r: () => (over ? retry() : false),
  });
  return html`<div class="buttons">${over
    ? html`<button type="button" class="primary" onClick=${retry}>Retry</button><button type="button" onClick=${change}>Retry with changes</button>`
    : html`<button type="button" class="danger" disabled=${Boolean(job.cancel_requested)} onClick=${cancel}>${job.cancel_requested ? "Stopping …" : "Cancel"}</button>`}
    <${Copy} text=${() => curl(`/start/${encodeURIComponent(job.task)}`, { method: "POST", body: job.args })} label="Copy as curl: the call that starts such a job">Copy as curl<//></div>`;
}

/** The page. */
export function Job({ id }) {
  const story = useStory(id);
  const { job } = story;
  const [dialog, setDialog] = useState(false);
  const over = job ? isOver(job) : null;
  useJobStream(id, over, story);
  const timeline = useAsk(job ? `/jobs/${encodeURIComponent(id)}/timeline` : null, { every: over === false ? 2 : 0 });
  const version = job ? `${job.status} ${job.attempt}` : "";
  useEffect(() => void (version && timeline.reload()), [version]);
  const missing = story.problem?.status === 404;
  if (!job) {
    return html`<${Fragment}><h1>Job</h1>${missing
      ? html`<${Empty}>There is no job <code>${visible(id)}</code>: it never was, or its record has expired. <a href=${link("jobs")}>All jobs</a>.<//>`
      : story.problem ? html`<${Trouble} problem=${story.problem} again=${story.read} />` : html`<${Empty}>Reading …<//>`}<//>`;
  }
  const rows = timeline.data?.timeline ?? [];
  return html`<${Fragment}>
    <p class="crumbs"><a href=${link("jobs")}>Jobs</a> / <a href=${link("tasks", job.task)}><${Text} of=${job.task} /></a> / <span class="mono"><${Text} of=${brief(job.id)} /></span></p>
    <div class="title"><h1><${Text} of=${job.task} /> <${Status} job=${job} /></h1><${Actions} job=${job} onJob=${story.set} change=${() => setDialog(true)} /></div>
    <p class="mono note id"><${Text} of=${job.id} /> <${Copy} text=${() => job.id} label="Copy id of the job">Copy id<//></p>
    <${Trouble} problem=${story.problem} again=${story.read} />
    <${Progress} job=${job} /><${Facts} job=${job} />
    <${Panel} title="The way it took"><${Machine} job=${job} rows=${rows} /><//>
    ${job.status === "failed" && job.error && html`<${Failed} job=${job} />`}
    <div class="columns"><${Panel} title="Arguments"><${Value} value=${job.args} /><//>
      ${job.status === "succeeded" ? html`<${Panel} title="Result"><${Value} value=${job.result} /><//>` : null}</div>
    ${job.status === "running" && html`<${Stack} id=${id} started=${job.started} />`}
    <${Log} lines=${story.lines} dropped=${story.dropped} live=${!over} />
    <${Gantt} job=${job} rows=${rows} />
    <${Family} job=${job} />
    <${Timeline} rows=${rows} problem=${timeline.problem} />
    ${dialog && html`<${RetryDialog} job=${job} close=${() => setDialog(false)} onDone=${(next) => go(link("jobs", next.id))} />`}<//>`;
}
