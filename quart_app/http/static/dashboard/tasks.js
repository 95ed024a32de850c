// Tasks: what can be started, how long it takes, what limits it, and the form that starts it.
import { post, useAsk, useSoon } from "./api.js";
import { quoted } from "./filter.js";
import { count, duration, visible } from "./format.js";
import { moveRow, useKeys } from "./keys.js";
import { Fragment, html, link } from "./lib.js";
import { useJobs } from "./stream.js";
import { StartForm } from "./start-form.js";
import { Ago, Empty, Panel, say, Text, Trouble } from "./ui.js";

/** Pause a task or let it go on, and say so. */
export async function togglePause(name, paused) {
  try {
    await post(`/tasks/${encodeURIComponent(name)}/${paused ? "resume" : "pause"}`);
    say(paused ? `${visible(name)} goes on` : `${visible(name)} is paused: what runs goes on, nothing new begins`);
    return true;
  } catch (problem) {
    say(`Not changed: ${problem.message}`, "bad");
    return false;
  }
}

const LIMITS = {
  run: ["Runs", (value) => ({ loop: "on the event loop", thread: "in a thread", process: "in a process" })[value] ?? value],
  timeout: ["Timeout", duration],
  quick: ["Answer waits", duration],
  max_attempts: ["Attempts", String],
  limit: ["At once", (value) => `${value} running`],
  rate: ["Rate", String],
  limit_key: ["Per", String],
  limit_total: ["At once in all", (value) => `${value} running`],
  rate_total: ["Rate in all", String],
  priority: ["Priority", String],
  max_waiting: ["Waiting at most", String],
  unique: ["Unique", (value) => (value === true ? "by its arguments" : value)],
  debounce: ["Debounce", duration],
};

function Facts({ task }) {
  const seen = task.durations;
  const facts = Object.entries(LIMITS)
    .filter(([name]) => task.policy[name])
    .map(([name, [title, write]]) => [title, html`<${Text} of=${write(task.policy[name])} />`]);
  if (seen.count) facts.push(["Takes", `${duration(seen.p50)}, 95 % under ${duration(seen.p95)}`], ["Succeeded", count(seen.count)]);
  if (task.next) facts.push(["Next", html`<${Ago} at=${task.next} />`]);
  return html`<dl class="facts">${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function Task({ task, on }) {
  const words = task.description.split("\n\n")[0];
  return html`<li><a data-row class="task ${on ? "on" : ""}" aria-current=${on ? "true" : undefined} href=${link("tasks", task.name)}>
    <strong><${Text} of=${task.name} /></strong>${task.paused && html`<span class="status canceled">paused</span>`}
    <span class="note"><${Text} of=${words} /></span>
    <span class="note num">${task.durations.count ? `takes ${duration(task.durations.p50)}` : "no success yet"}</span></a></li>`;
}

function Detail({ task, params, reload }) {
  const toggle = async () => (await togglePause(task.name, task.paused)) && reload();
  return html`<div class="detail"><p class="crumbs"><a href=${link("tasks")}>All tasks</a></p><${Panel} title=${html`<${Text} of=${task.name} />`} aside=${html`
      <a href=${link("jobs", "", { filter: `task:${quoted(task.name)}` })}>Its jobs</a>
      <button type="button" onClick=${toggle}>${task.paused ? "Let it go on" : "Pause it"}</button>`}>
    ${task.paused && html`<p class="warn">It is paused: starts are accepted, and wait.</p>`}
    <p class="prose"><${Text} of=${task.description || "It has no description."} /></p><${Facts} task=${task} /><//>
    <${Panel} title="Start a job"><${StartForm} key=${task.name} task=${task} params=${params} /><//></div>`;
}

/** The page. */
export function Tasks({ id, params }) {
  const { data, problem, reload } = useAsk("/tasks", { every: 15 });
  const soon = useSoon(reload, 5000); // Durations change with every job; nobody needs each of them.
  useJobs(soon);
  useKeys({ j: () => moveRow(1), k: () => moveRow(-1) });
  const tasks = data?.tasks ?? [];
  const task = tasks.find((each) => each.name === id);
  return html`<${Fragment}><div class="title"><h1>Tasks</h1></div><${Trouble} problem=${problem} again=${reload} />
    ${data && tasks.length === 0 && html`<${Empty}>No task is offered: name modules in QUART_APP_TASKS.<//>`}
    <div class=${task ? "split" : "split alone"}><ul class="catalog" aria-label="Tasks">${tasks.map((each) => html`<${Task} key=${each.name} task=${each} on=${each === task} />`)}</ul>
      ${task && html`<${Detail} key=${task.name} task=${task} params=${params} reload=${reload} />`}
      ${data && id && !task && html`<${Empty}>There is no task <code>${visible(id)}</code>.<//>`}</div><//>`;
}
