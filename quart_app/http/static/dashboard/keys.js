// Keys, the palette (Ctrl K) and the help (?): single letters work while no field has the focus.
// They can be switched off (WCAG 2.1.4), since people who speak to their computer would set them
// off. Nothing may live here that a link or a button could not do.
import { visible } from "./format.js";
import { cell, go, html, link, PAGES, useLayoutEffect, useRef, useState } from "./lib.js";
import { setPaused } from "./stream.js";
import { Dialog } from "./ui.js";

/** What the help shows; the order is the reader's. */
export const HELP = [
  ["j / k", "next / previous row"],
  ["x", "select the row"],
  ["Enter", "open the row"],
  ["/", "go to the filter"],
  ["c", "cancel the job, or the selected ones"],
  ["r", "retry the job, or the selected ones"],
  ["p", "pause or go on with live updates"],
  ["g then n j e t s y", "Now, Jobs, Errors, Tasks, Schedules, System"],
  ["Ctrl K", "find a page, a task or a job"],
  ["?", "this help"],
  ["Esc", "close, or clear the selection"],
];
const PLACES = { n: "now", j: "jobs", e: "errors", t: "tasks", s: "schedules", y: "system" };
const STORED = "quart-app-keys";
const layers = [];

function stored() {
  try {
    return localStorage.getItem(STORED) !== "off";
  } catch {
    return true; // Storage is forbidden here: the keys work, and the choice is not kept.
  }
}

/** Whether single letters work. */
export const keysOn = cell(stored());
keysOn.watch((on) => {
  try {
    localStorage.setItem(STORED, on ? "on" : "off");
  } catch {
    // Not kept, see above.
  }
});

const typing = (element) =>
  element instanceof HTMLElement &&
  (element.isContentEditable ||
    (element.matches("input, textarea, select") && !element.matches("[type=checkbox], [type=radio]")));

let before = "";
let timer = 0;

function goto(key) {
  const page = PLACES[key];
  if (page) go(link(page));
  return Boolean(page);
}

function onKey(event) {
  if (event.defaultPrevented || event.isComposing) return;
  const key = event.key;
  const control = event.ctrlKey || event.metaKey;
  if (control && key.toLowerCase() === "k" && !event.altKey && !event.shiftKey) {
    find("palette")?.(event);
    event.preventDefault();
    return;
  }
  if (control || event.altKey || document.querySelector("dialog[open]")) return;
  if (key === "Escape" ? typing(event.target) : typing(event.target) || !keysOn.get()) return;
  const second = before === "g";
  before = "";
  clearTimeout(timer);
  if (second && goto(key)) event.preventDefault();
  else if (key === "g") {
    before = "g";
    timer = setTimeout(() => (before = ""), 1500);
  } else {
    const act = find(key);
    if (act && act(event) !== false) event.preventDefault();
  }
}

function find(key) {
  for (let place = layers.length - 1; place >= 0; place -= 1) {
    const act = layers[place].current[key];
    if (act) return act;
  }
  return null;
}

document.addEventListener("keydown", onKey);

/** Let keys do something while a part of the page is there; later parts come first. At once, and not
 * after the next frame: who types `g j /` fast means the page that comes. */
export function useKeys(map) {
  const layer = useRef(map);
  layer.current = map;
  useLayoutEffect(() => {
    layers.push(layer);
    return () => layers.splice(layers.indexOf(layer), 1);
  }, []);
}

/** Move the focus among rows: their links are marked `data-row`. */
export function moveRow(step) {
  const rows = [...document.querySelectorAll("[data-row]")];
  if (!rows.length) return;
  const at = rows.indexOf(currentRow());
  const next = at < 0 ? (step > 0 ? 0 : rows.length - 1) : at + step;
  const row = rows[Math.min(rows.length - 1, Math.max(0, next))];
  row.focus();
  row.scrollIntoView({ block: "nearest" });
}

/** The row's link that has the focus, or stands in the row that has it. */
export function currentRow() {
  const active = document.activeElement;
  if (active?.matches("[data-row]")) return active;
  return active?.closest("tr, li")?.querySelector("[data-row]") ?? null;
}

const GRAMMAR = "status: task: tag: key: error: args.x: >10s <1m since:1h";

function entries(text, tasks) {
  const pages = Object.entries(PAGES).map(([name, title]) => [title, "page", () => go(link(name))]);
  const found = [
    ...pages,
    ["Failed in the last hour", "jobs", () => go(link("jobs", "", { filter: "status:failed since:1h" }))],
    ["Running jobs", "jobs", () => go(link("jobs", "", { filter: "status:running" }))],
    ...tasks.flatMap(({ name }) => [
      [`Start ${visible(name)}`, "task", () => go(link("tasks", name))],
      [`Jobs of ${visible(name)}`, "jobs", () => go(link("jobs", "", { filter: `task:${name}` }))],
    ]),
    ["Pause live updates", "action", () => setPaused(true)],
    ["Go on with live updates", "action", () => setPaused(false)],
  ].filter(([title]) => title.toLowerCase().includes(text.toLowerCase()));
  if (text.trim()) {
    const words = text.trim();
    found.push([`Jobs with “${visible(words)}”`, "search", () => go(link("jobs", "", { filter: words }))]);
    if (/^[\w-]{16,}$/.test(words)) {
      found.unshift([`Job ${words}`, "job", () => go(link("jobs", words))]);
    }
  }
  return found.slice(0, 12);
}

/** Find a page, a task, a job. */
export function Palette({ tasks, close }) {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const field = useRef(null);
  // At once, and not after the next frame: who types fast would type elsewhere.
  useLayoutEffect(() => field.current.focus(), []);
  const found = entries(text, tasks);
  const chosen = Math.min(at, found.length - 1);
  const run = (entry) => {
    close();
    entry?.[2]();
  };
  const onKey = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) setAt((chosen + step + found.length) % found.length);
    else if (event.key === "Enter") run(found[chosen]);
    else return;
    event.preventDefault();
  };
  const type = (event) => {
    setText(event.target.value);
    setAt(0);
  };
  return html`<${Dialog} title="Find" close=${close} kind="palette">
    <input ref=${field} type="text" value=${text} onInput=${type} onKeyDown=${onKey} role="combobox"
      aria-label="Page, task or job" aria-expanded="true" aria-controls="palette-list"
      aria-autocomplete="list" aria-activedescendant=${found.length ? `palette-${chosen}` : undefined}
      placeholder="Page, task, job id or words" autocomplete="off" spellcheck=${false} />
    <ul id="palette-list" role="listbox" aria-label="Found">${found.map(
      (entry, place) => html`<li role="option" id=${`palette-${place}`} aria-selected=${place === chosen}
        onClick=${() => run(entry)}><bdi>${entry[0]}</bdi><span class="note">${entry[1]}</span></li>`,
    )}</ul><//>`;
}

/** The keys, and the switch for them. */
export function Help({ close }) {
  const [on, setOn] = useState(keysOn.get());
  const toggle = (event) => {
    keysOn.set(event.target.checked);
    setOn(event.target.checked);
  };
  return html`<${Dialog} title="Keys" close=${close}>
    <table class="plain"><caption class="sr">Keys and what they do</caption><tbody>${HELP.map(
      ([key, what]) => html`<tr><th scope="row"><kbd>${key}</kbd></th><td>${what}</td></tr>`,
    )}</tbody></table>
    <label class="check"><input type="checkbox" checked=${on} onChange=${toggle} /> Single letters work as keys</label>
    <p class="note">The address holds what you see: save it, or send it to somebody.
      Filters: <code>${GRAMMAR}</code> and words.</p><//>`;
}
