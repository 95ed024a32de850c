// Schedules: what starts by itself, and when.
import { post, useAsk, useSoon } from "./api.js";
import { ago, clock, many, seconds, serverNow, visible } from "./format.js";
import { moveRow, useKeys } from "./keys.js";
import { Fragment, html, link } from "./lib.js";
import { useJobs, useNow } from "./stream.js";
import { togglePause } from "./tasks.js";
import { Empty, say, Text, Trouble } from "./ui.js";

const DAY = 86_400;

function Strip({ moments, now }) {
  const hours = [0, 6, 12, 18, 24];
  const hour = (after) => clock(new Date((now + after * 3600) * 1000).toISOString()).slice(-8, -3);
  return html`<div class="strip"><svg viewBox="0 0 1440 36" preserveAspectRatio="none" role="img" aria-label=${`${many(moments.length, "start")} in the next 24 hours`}>
    <rect class="bed" width="1440" height="36" />${moments.map((at) => html`<rect class="tick" x=${Math.min(1437, Math.max(0, ((seconds(at) - now) / DAY) * 1440))} y="4" width="3" height="28" />`)}</svg>
    <div class="scale note" aria-hidden="true">${hours.map((after) => html`<span>${after ? hour(after) : "now"}</span>`)}</div></div>`;
}

function Schedule({ plan, reload }) {
  const now = useNow(serverNow, 1000);
  const run = async () => {
    try {
      const job = await post(`/schedules/${encodeURIComponent(plan.task)}/run`);
      say(`${visible(plan.task)} was started as`, "", job.id);
    } catch (problem) {
      say(`Not started: ${problem.message}`, "bad");
    }
  };
  const toggle = async () => (await togglePause(plan.task, plan.paused)) && reload();
  const missed = { skip: "a missed start is skipped", once: "missed starts are made up for once", all: "every missed start is made up for" };
  const rule = plan.cron && html`<code><${Text} of=${plan.cron} /></code>${plan.timezone && html` in <${Text} of=${plan.timezone} />`}; `;
  return html`<li class="panel schedule"><div class="head"><h2><a data-row href=${link("tasks", plan.task)}><${Text} of=${plan.task} /></a>
      ${plan.paused && html` <span class="status canceled">paused</span>`}</h2>
      <div class="aside"><a href=${link("jobs", "", { filter: `task:${plan.task}` })}>Its jobs</a>
      <button type="button" class="primary" onClick=${run} aria-label=${`Run now: ${visible(plan.task)}`}>Run now</button>
      <button type="button" onClick=${toggle} aria-label=${`${plan.paused ? "Let it go on" : "Pause"}: ${visible(plan.task)}`}>${plan.paused ? "Let it go on" : "Pause"}</button></div></div>
    <p><strong><${Text} of=${plan.words} /></strong> <span class="note">${rule}<${Text} of=${missed[plan.missed] ?? plan.missed} /></span></p>
    <ol class="next" aria-label="The next starts">${plan.next.map((at) => html`<li><time datetime=${at} title=${at}>${clock(at)}</time> <span class="note">${ago(at, now)}</span></li>`)}</ol>
    <${Strip} moments=${plan.day} now=${now} /></li>`;
}

/** The page. */
export function Schedules() {
  const { data, problem, reload } = useAsk("/schedules", { every: 20 });
  const soon = useSoon(reload);
  const names = new Set(data?.schedules.map((plan) => plan.task));
  useJobs((jobs) => jobs.some((job) => names.has(job.task)) && soon());
  useKeys({ j: () => moveRow(1), k: () => moveRow(-1) });
  return html`<${Fragment}><div class="title"><h1>Schedules</h1></div><${Trouble} problem=${problem} again=${reload} />
    ${data && data.schedules.length === 0 && html`<${Empty}>No task starts by itself. Give one a schedule: <code>@task(cron="0 7 * * *")</code> or <code>@task(every=300)</code>.<//>`}
    <ul class="groups">${(data?.schedules ?? []).map((plan) => html`<${Schedule} key=${plan.task} plan=${plan} reload=${reload} />`)}</ul><//>`;
}
