// Small parts that every page uses. Nothing may live here that asks the server for anything.
import { ago, brief, clock, isOver, serverNow, visible } from "./format.js";
import { cell, html, link, useEffect, useId, useLayoutEffect, useRef, useState } from "./lib.js";
import { overhear, useNow } from "./stream.js";

/** A text of somebody else: kept apart from ours, its invisible marks made visible. */
export const Text = ({ of }) => html`<bdi>${visible(of ?? "")}</bdi>`;

const GLYPHS = {
  scheduled: "M8 4.5V8l2.5 1.5M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0Z",
  queued: "M4 5h8M4 8h8M4 11h5",
  running: "M5.5 3.5v9l7-4.5z",
  succeeded: "M3.5 8.5l3 3 6-7",
  failed: "M4 4l8 8M12 4l-8 8",
  canceled: "M13.5 8A5.5 5.5 0 1 1 2.5 8a5.5 5.5 0 0 1 11 0ZM4.2 4.2l7.6 7.6",
};

/** A status's sign: its shape says it, too, and not its color alone. */
export const Glyph = ({ status }) => html`
  <svg class="glyph" viewBox="0 0 16 16" aria-hidden="true"><path d=${GLYPHS[status] ?? "M8 8h.01"} /></svg>`;

/** A job's status in a word. */
export function Status({ job }) {
  const stopping = job.cancel_requested && !isOver(job);
  return html`<span class="status ${job.status}"><${Glyph} status=${job.status} />${job.status}</span>
    ${stopping && html` <span class="note">${job.unresponsive ? "does not stop" : "stopping"}</span>`}
    ${job.reason && job.reason !== "error" && job.reason !== "requested" && html` <span class="note"><${Text} of=${job.reason} /></span>`}`;
}

/** How long ago something was; the exact moment is its title. */
export function Ago({ at }) {
  const now = useNow(serverNow, 1000);
  if (!at) return "–";
  return html`<time datetime=${at} title=${at}>${ago(at, now)}</time>`;
}

/** A time of day; the exact moment is its title. */
export const Clock = ({ at, millis }) =>
  at ? html`<time datetime=${at} title=${at}>${clock(at, millis)}</time>` : "–";

/** A link to a job's page. */
export const JobLink = ({ id, children }) =>
  html`<a class="mono" href=${link("jobs", id)}>${children ?? html`<${Text} of=${brief(id)} />`}</a>`;

/** A bar of progress; without a number it only says that something goes on. */
export function Bar({ value, label }) {
  const known = value !== null && value !== undefined;
  return html`<div class="bar ${known ? "" : "unknown"}" role="progressbar" aria-label=${label}
    aria-valuemin="0" aria-valuemax="100" aria-valuenow=${known ? Math.round(value) : undefined}>
    <div style=${{ width: known ? `${Math.min(100, Math.max(0, value))}%` : "100%" }}></div></div>`;
}

/** What went wrong with a request, and what to do about it. */
export function Trouble({ problem, again }) {
  if (!problem) return null;
  return html`<div class="trouble" role="alert">
    <strong>${visible(problem.title)}</strong>${problem.detail && html`<span><${Text} of=${problem.detail} /></span>`}
    ${again && html`<button type="button" onClick=${again}>Try again</button>`}</div>`;
}

/** What is said where there is nothing. */
export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;

/** A part of a page under a heading. */
export function Panel({ title, aside, children, kind = "" }) {
  const id = useId();
  return html`<section class="panel ${kind}" aria-labelledby=${id}>
    <div class="head"><h2 id=${id}>${title}</h2>${aside && html`<div class="aside">${aside}</div>`}</div>
    ${children}</section>`;
}

/** A table that scrolls by itself where it is too wide, and is read by its caption. */
export function Table({ caption, heads, children, cards = false }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${caption}>
    <table class=${cards ? "cards" : ""}><caption class="sr">${caption}</caption>
    <thead><tr>${heads.map((head) => html`<th scope="col">${head}</th>`)}</tr></thead>
    <tbody>${children}</tbody></table></div>`;
}

/** A modal dialog; Escape and a click beside it close it, and the focus goes back. */
export function Dialog({ title, close, children, kind = "" }) {
  const box = useRef(null);
  const id = useId();
  useLayoutEffect(() => {
    const dialog = box.current;
    dialog.showModal();
    return () => dialog.close();
  }, []);
  const onCancel = (event) => {
    event.preventDefault();
    close();
  };
  return html`<dialog ref=${box} class=${kind} aria-labelledby=${id} onCancel=${onCancel}
    onMouseDown=${(event) => event.target === box.current && close()}>
    <div class="inside"><div class="head"><h2 id=${id}>${title}</h2>
      <button type="button" class="quiet" onClick=${close} aria-label="Close">✕</button></div>
    ${children}</div></dialog>`;
}

/** A button that copies a text and says so. */
export function Copy({ text, label, children }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text());
      setDone(true);
      setTimeout(() => setDone(false), 2000);
    } catch {
      say(`Copying is not allowed here. The text is: ${text()}`, "bad");
    }
  };
  return html`<button type="button" onClick=${copy} aria-label=${label}>${done ? "Copied" : children}</button>`;
}

const notes = cell([]);
let noted = 0;

/** A short note in the corner; `job` makes it lead to that job. */
export function say(text, kind = "", job = null) {
  const note = { key: ++noted, text, kind, job };
  notes.set([...notes.get().slice(-3), note]);
  setTimeout(() => dismiss(note.key), kind === "bad" ? 15000 : 7000);
}

const dismiss = (key) => notes.set(notes.get().filter((each) => each.key !== key));

/** Where notes are shown. */
export function Notes() {
  const [shown, setShown] = useState(notes.get());
  useEffect(() => notes.watch(setShown), []);
  return html`<div class="notes" role="log" aria-label="Notes">${shown.map(
    (note) => html`<div class="toast ${note.kind}" key=${note.key}>
      <span><${Text} of=${note.text} />${note.job && html` <${JobLink} id=${note.job} />`}</span>
      <button type="button" class="quiet" aria-label="Dismiss" onClick=${() => dismiss(note.key)}>✕</button>
    </div>`,
  )}</div>`;
}

const SPOKEN = 3000; // Milliseconds between two sentences: more would not be listened to.

/** Speaks of jobs that have ended, and of nothing else; many at once are counted. */
export function Speaker() {
  const [words, setWords] = useState("");
  useEffect(() => {
    let ended = new Map();
    const forget = overhear((jobs) => {
      for (const job of jobs) if (isOver(job) && ended.size < 1000) ended.set(job.id, job);
    });
    const timer = setInterval(() => {
      if (!ended.size) return;
      setWords(sentence([...ended.values()]));
      ended = new Map();
    }, SPOKEN);
    return () => {
      forget();
      clearInterval(timer);
    };
  }, []);
  return html`<div class="sr" role="status" aria-live="polite">${words}</div>`;
}

function sentence(jobs) {
  if (jobs.length === 1) return `Job of ${visible(jobs[0].task)} ${jobs[0].status}`;
  const counted = {};
  for (const job of jobs) counted[job.status] = (counted[job.status] ?? 0) + 1;
  const parts = Object.entries(counted).map(([status, each]) => `${each} ${status}`);
  return `${jobs.length} jobs ended: ${parts.join(", ")}`;
}
