// The page's frame: navigation, live state, keys, and the page that the address names.
import { ask, refreshAll, useAsk } from "./api.js";
import { Errors } from "./errors.js";
import { Job } from "./job.js";
import { Jobs } from "./jobs.js";
import { Help, Palette, useKeys } from "./keys.js";
import {
  Component, Fragment, html, link, PAGES, render, useEffect, useLayoutEffect, useRef, useRoute,
  useState,
} from "./lib.js";
import { Now } from "./now.js";
import { Schedules } from "./schedules.js";
import { setPaused, useStreamState } from "./stream.js";
import { System } from "./system.js";
import { Tasks } from "./tasks.js";
import { Notes, Speaker, Trouble } from "./ui.js";

const STATES = {
  off: ["", "not live"],
  connecting: ["", "connecting"],
  live: ["good", "live"],
  waiting: ["bad", "reconnecting"],
  paused: ["warn", "paused"],
  final: ["", "final"],
};

const SHOWN = { now: Now, errors: Errors, tasks: Tasks, schedules: Schedules, system: System };

/** A page that fails leaves the others alone, and says so. */
class Fence extends Component {
  constructor() {
    super();
    this.state = { problem: null };
  }

  static getDerivedStateFromError(error) {
    return { problem: { title: "This page could not be drawn", detail: String(error) } };
  }

  componentDidCatch(error) {
    console.error(error);
  }

  render({ children }, { problem }) {
    const again = () => this.setState({ problem: null });
    return problem ? html`<${Trouble} problem=${problem} again=${again} />` : children;
  }
}

function Live() {
  const state = useStreamState();
  const paused = state === "paused";
  const [kind, word] = STATES[state];
  useKeys({ p: () => setPaused(!paused) });
  return html`<span class="live ${kind}" title="Updates of this page"><span class="dot" aria-hidden="true"></span>${word}</span>
    <button type="button" onClick=${() => setPaused(!paused)} aria-pressed=${paused}>${paused ? "Go on" : "Pause"}</button>`;
}

function Frame({ page, children, open }) {
  const { problem } = useAsk("/readyz", { every: 15 });
  const main = useRef(null);
  const skip = (event) => {
    event.preventDefault(); // A link to #main would be taken for a page's address.
    main.current.focus();
  };
  return html`<${Fragment}>
    <a class="skip" href="#main" onClick=${skip}>To the content</a>
    <header>
      <a class="brand" href=${link("now")}><span aria-hidden="true" class="mark"><i></i><i></i><i></i></span>Jobs</a>
      <nav aria-label="Pages">${Object.entries(PAGES).map(
        ([name, title]) => html`<a href=${link(name)} aria-current=${page === name ? "page" : undefined}>${title}</a>`,
      )}</nav>
      <div class="tools"><${Live} />
        <button type="button" onClick=${() => open("palette")}>Find <kbd class="wide">Ctrl K</kbd></button>
        <button type="button" onClick=${() => open("help")} aria-label="Keys and help">?</button></div>
    </header>
    <main id="main" tabindex="-1" ref=${main}>
      ${problem && problem.status !== 404 && html`<${Trouble} problem=${problem} again=${refreshAll} />`}
      ${children}
    </main>
  <//>`;
}

function App() {
  const { page, id, params } = useRoute();
  const [dialog, setDialog] = useState(null);
  const [tasks, setTasks] = useState([]);
  useEffect(() => {
    ask("/tasks").then((said) => setTasks(said.tasks), () => {});
  }, []);
  useKeys({ "?": () => setDialog("help"), palette: () => setDialog("palette") });
  useLayoutEffect(() => setDialog(null), [page, id]); // It would lie over a page that was gone back to.
  useEffect(() => {
    const title = id || PAGES[page] || "Not here";
    document.title = `${title} · Jobs`;
  }, [page, id]);
  const known = page === "jobs" ? (id ? Job : Jobs) : SHOWN[page];
  return html`<${Frame} page=${page} open=${setDialog}>
      <${Fence} key=${`${page}/${page === "jobs" ? id : ""}`}>
        ${known ? html`<${known} id=${id} params=${params} tasks=${tasks} />` : html`<h1>There is no such page</h1>`}
      <//>
    <//>
    <${Notes} /><${Speaker} />
    ${dialog === "help" && html`<${Help} close=${() => setDialog(null)} />`}
    ${dialog === "palette" && html`<${Palette} tasks=${tasks} close=${() => setDialog(null)} />`}`;
}

render(html`<${App} />`, document.getElementById("app"));
