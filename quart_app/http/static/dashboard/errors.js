// Errors: the failed jobs of a span, grouped by what is alike.
import { ManyDialog } from "./actions.js";
import { useAsk, useSoon } from "./api.js";
import { Sparkline } from "./charts.js";
import { quoted } from "./filter.js";
import { count, many, visible } from "./format.js";
import { moveRow, useKeys } from "./keys.js";
import { change, Fragment, html, link, useState } from "./lib.js";
import { useJobs } from "./stream.js";
import { Ago, Empty, JobLink, Text, Trouble } from "./ui.js";

const SPANS = { "1h": "the last hour", "24h": "the last 24 hours", "7d": "the last 7 days" };

function Group({ kind, since, retry }) {
  const filter = `status:failed error:${kind.fingerprint} since:${since}`;
  const trend = `${many(kind.count, "job")} over time, the oldest first: ${kind.trend.join(", ")}`;
  return html`<li class="panel group"><div class="what"><h2><a data-row href=${link("jobs", "", { filter })}><${Text} of=${kind.code} /></a></h2>
      <p class="message"><${Text} of=${kind.message} /></p>
      <p class="note">in <a href=${link("tasks", kind.task)}><${Text} of=${kind.task} /></a>, first <${Ago} at=${kind.first} />, last <${Ago} at=${kind.last} /></p>
      <p class="note">Newest: ${kind.jobs.map((id) => html`<${JobLink} id=${id} /> `)}</p></div>
    <div class="much"><strong class="big">${count(kind.count)}</strong><${Sparkline} values=${kind.trend} said=${trend} />
      <button type="button" onClick=${() => retry(kind)} aria-label=${`Retry all: ${many(kind.count, "job")} with ${visible(kind.code)}`}>Retry all</button></div></li>`;
}

/** The page. */
export function Errors({ params, tasks }) {
  const since = params.get("since") in SPANS ? params.get("since") : "1h";
  const task = params.get("task") ?? "";
  const query = new URLSearchParams(task ? { since, task } : { since });
  const { data, problem, reload } = useAsk(`/errors?${query}`);
  const [dialog, setDialog] = useState(null);
  const soon = useSoon(reload);
  useJobs((jobs) => jobs.some((job) => job.status === "failed") && soon());
  useKeys({ j: () => moveRow(1), k: () => moveRow(-1) });
  const retry = (kind) => setDialog({
    match: { status: ["failed"], task: kind.task, error: kind.fingerprint, since },
    words: `status:failed task:${quoted(kind.task)} error:${kind.fingerprint} since:${since}`,
  });
  const names = [...new Set([...tasks.map((each) => each.name), ...(task ? [task] : [])])];
  return html`<${Fragment}><div class="title"><h1>Errors</h1><div class="buttons">
      <label class="inline">Task <select value=${task} onChange=${(event) => change({ task: event.target.value })}><option value="">all</option>${names.map((name) => html`<option value=${name}>${visible(name)}</option>`)}</select></label>
      <div class="choice" role="group" aria-label="How far back">${Object.keys(SPANS).map((span) => html`<button type="button" aria-pressed=${since === span} onClick=${() => change({ since: span })}>${span}</button>`)}</div></div></div>
    <${Trouble} problem=${problem} again=${reload} />
    ${data && html`<p class="note">${many(data.errors.length, "kind")} of errors in ${SPANS[since]}, from ${data.capped ? `the newest ${count(data.scanned)}` : count(data.scanned)} failed jobs. Errors that differ only in numbers and names are one kind.</p>`}
    ${data && data.errors.length === 0 && html`<${Empty}>No job has failed in ${SPANS[since]}.<//>`}
    ${data && html`<ul class="groups">${data.errors.map((kind) => html`<${Group} key=${`${kind.task} ${kind.fingerprint}`} kind=${kind} since=${since} retry=${retry} />`)}</ul>`}
    ${dialog && html`<${ManyDialog} what="retry" target=${dialog} close=${() => setDialog(null)} />`}<//>`;
}
