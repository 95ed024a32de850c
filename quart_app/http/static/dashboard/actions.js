// Cancel and retry: one job, some, or all that match; the last two only after a count. Only what is
// asked of the server, and the questions before it, may live here.
import { post, refreshAll } from "./api.js";
import { count, many, visible } from "./format.js";
import { html, useEffect, useState } from "./lib.js";
import { Dialog, say, Text, Trouble } from "./ui.js";

/** Cancel one job, and say what became of it. */
export async function cancelJob(job) {
  try {
    const after = await post(`/cancel/${encodeURIComponent(job.id)}`);
    if (after.status === "canceled") say(`${visible(job.task)} is canceled`, "", job.id);
    else if (after.finished) say(`${visible(job.task)} was over already: ${after.status}`, "", job.id);
    else say(`${visible(job.task)} was asked to stop`, "", job.id);
    return after;
  } catch (problem) {
    say(`Not canceled: ${problem.message}`, "bad", job.id);
    return null;
  }
}

/** Retry a job that is over, with these arguments changed; the new job's document. */
export async function retryJob(job, changed = {}) {
  try {
    const next = await post(`/jobs/${encodeURIComponent(job.id)}/retry`, changed);
    say(`${visible(job.task)} was started again as`, "", next.id);
    return next;
  } catch (problem) {
    say(`Not started again: ${problem.message}`, "bad", job.id);
    throw problem;
  }
}

const VERBS = {
  cancel: { path: "/cancel", title: "Cancel jobs", verb: "Cancel", done: (said) => `${many(said.canceled, "job")} canceled, ${count(said.canceling)} asked to stop` },
  retry: { path: "/retry", title: "Retry jobs", verb: "Retry", done: (said) => `${many(said.retried, "job")} started again` },
};

/**
 * Ask before many jobs are canceled or retried.
 *
 * @param what `cancel` or `retry`.
 * @param target `{ids: [...], chosen}`, of so many that were chosen, or `{match: {...}, words}` where the server counts first.
 */
export function ManyDialog({ what, target, close }) {
  const { path, title, verb, done } = VERBS[what];
  const [matched, setMatched] = useState(target.ids ? target.ids.length : null);
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    if (!target.match) return;
    post(path, { match: target.match, dry_run: true }).then((said) => setMatched(said.matched), setProblem);
  }, []);
  const act = async () => {
    setBusy(true);
    try {
      say(done(await post(path, target.ids ? { ids: target.ids } : { match: target.match })));
      refreshAll();
      close(true);
    } catch (error) {
      setProblem(error);
      setBusy(false);
    }
  };
  const kind = what === "cancel" ? "jobs that are not over" : "jobs that are over";
  return html`<${Dialog} title=${title} close=${() => close(false)}>
    <p aria-live="polite">${matched === null
      ? problem ? "They could not be counted." : "Counting …"
      : html`<strong class="big">${many(matched, "job")}</strong> ${target.ids ? `of ${count(target.chosen)} selected can be ${what === "cancel" ? "canceled" : "retried"}` : html`match <code><${Text} of=${target.words || "everything"} /></code>`}.`}</p>
    <p class="note">Only ${kind} are touched. ${what === "cancel"
      ? "Waiting ones end at once; running ones are asked to stop. This cannot be undone."
      : "Each is started again as a new job with the same arguments."}</p>
    <${Trouble} problem=${problem} />
    <div class="buttons"><button type="button" onClick=${() => close(false)}>Back</button>
      <button type="button" class=${what === "cancel" ? "danger" : "primary"} disabled=${busy || !matched} onClick=${act}>
        ${verb} ${matched === null ? "" : many(matched, "job")}</button></div><//>`;
}

/** Ask for a job's arguments, and retry it with them. */
export function RetryDialog({ job, close, onDone }) {
  const [text, setText] = useState(JSON.stringify(job.args, null, 2));
  const [problem, setProblem] = useState(null);
  const act = async (event) => {
    event.preventDefault();
    let args;
    try {
      args = JSON.parse(text);
      if (Object(args) !== args || Array.isArray(args)) throw new SyntaxError("it is no object");
    } catch (error) {
      setProblem({ title: "This is not a JSON object", detail: error.message });
      return;
    }
    try {
      onDone(await retryJob(job, changed(job.args, args)));
    } catch (error) {
      setProblem(error);
    }
  };
  return html`<${Dialog} title="Retry with changed arguments" close=${close}>
    <form onSubmit=${act}><label>Arguments of <code><${Text} of=${job.task} /></code>, as JSON
      <textarea class="mono" rows="10" spellcheck=${false} value=${text} onInput=${(event) => setText(event.target.value)}></textarea></label>
    <p class="note">Arguments that you leave as they are stay the same, secret ones too. The job itself is not touched: a new one is started.</p>
    <${Trouble} problem=${problem} />
    ${problem?.errors?.length > 0 && html`<ul>${problem.errors.map((each) => html`<li><code><${Text} of=${each.pointer} /></code> <${Text} of=${each.detail} /></li>`)}</ul>`}
    <div class="buttons"><button type="button" onClick=${close}>Back</button><button class="primary">Start the new job</button></div></form><//>`;
}

/** Only what was changed is sent: what is hidden (a secret) would be overwritten by its mask. */
function changed(before, after) {
  const entries = Object.entries(after);
  return Object.fromEntries(entries.filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(before[name])));
}
