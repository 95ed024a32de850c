// <job-progress job="ID" base="/background"></job-progress>: a job's bar in a page of your own.
//
// One script tag: <script type="module" src="/background/static/dashboard/job-progress.js"></script>
// It follows the job's stream, shows bar, message, status and the time that is left, and fires
// `end` (its `detail` is the job's document) when the job is over. Without `base` the address of
// this file says where the app is mounted. No dependency, and no style or markup that a strict
// Content-Security-Policy of your page would refuse. Parts for your own CSS: bar, fill, text.
const HERE = new URL("../..", import.meta.url).href.replace(/\/$/, "");
const OVER = ["succeeded", "failed", "canceled"];
const SIGNS = { succeeded: "✓", failed: "✕", canceled: "⊘" };
const LONGEST = 15000;
// As the dashboard's `visible`: what has no shape, and more accents on a letter than any script has.
const HIDDEN = /(?![\t\n])[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu;
const HEAP = /(\p{M}{4})\p{M}+/gu;

const CSS = `
:host { display: block; color-scheme: light dark; font: inherit; overflow-wrap: anywhere; }
:host([hidden]) { display: none; }
.bar { height: .5em; border-radius: 1em; overflow: hidden; background: light-dark(#dfe3ea, #333b49); }
.fill { height: 100%; width: 0; border-radius: inherit; background: light-dark(#2f5fd0, #84a9ff); transition: width .3s; }
.unknown .fill { width: 30%; animation: go 1.4s ease-in-out infinite alternate; }
.succeeded .fill { background: light-dark(#1a7f4b, #5fd39a); }
.failed .fill { background: light-dark(#c0342b, #ff8f86); }
.canceled .fill { background: light-dark(#6b7280, #a3abba); }
.text { margin: .35em 0 0; display: flex; gap: .6em; flex-wrap: wrap; }
.left { margin-inline-start: auto; opacity: .8; font-variant-numeric: tabular-nums; }
@keyframes go { from { translate: 0 } to { translate: 235% 0 } }
@media (prefers-reduced-motion: reduce) { .fill { transition: none; } .unknown .fill { animation: none; width: 100%; opacity: .5; } }
`;
let sheet = null;

const make = (name, part, kind = part) => {
  const element = document.createElement(name);
  element.className = kind;
  element.setAttribute("part", part);
  return element;
};

/** A text of somebody else, with a sign in the place of what cannot be seen. */
const visible = (text) => String(text).replace(HIDDEN, "\ufffd").replace(HEAP, "$1…");

const timeLeft = (job) => {
  const left = Math.round((Date.parse(job.eta) - Date.now()) / 1000);
  if (!job.eta || left <= 0) return "";
  return left < 60 ? `${left} s left` : `${Math.floor(left / 60)} m ${left % 60} s left`;
};

/** The element; see the top of this file. */
export class JobProgress extends HTMLElement {
  static observedAttributes = ["job", "base"];
  #source = null;
  #timer = 0;
  #clock = 0;
  #tries = 0;
  #job = null;
  #parts = null;

  /** The job's newest document, or null. */
  get value() {
    return this.#job;
  }

  connectedCallback() {
    if (!this.#parts) this.#build();
    this.#follow();
  }

  disconnectedCallback() {
    this.#stop();
  }

  attributeChangedCallback(name, before, after) {
    if (this.#parts && this.isConnected && before !== after) this.#follow();
  }

  #build() {
    const root = this.attachShadow({ mode: "open" });
    // A sheet of its own is no inline style: the page's policy has nothing against it.
    sheet ??= new CSSStyleSheet();
    if (!sheet.cssRules.length) sheet.replaceSync(CSS);
    root.adoptedStyleSheets = [sheet];
    const [bar, fill, text] = [make("div", "bar"), make("div", "fill"), make("p", "text")];
    const [status, message, left] = [make("strong", "status"), make("bdi", "message"), make("span", "left")];
    bar.setAttribute("role", "progressbar");
    bar.setAttribute("aria-valuemin", "0");
    bar.setAttribute("aria-valuemax", "100");
    status.setAttribute("role", "status");
    bar.append(fill);
    text.append(status, message, left);
    root.append(bar, text);
    this.#parts = { bar, fill, status, message, left };
  }

  #url() {
    const base = (this.getAttribute("base") ?? HERE).replace(/\/+$/, "");
    return `${base}/jobs/${encodeURIComponent(this.getAttribute("job") ?? "")}`;
  }

  #stop() {
    this.#source?.close();
    this.#source = null;
    clearTimeout(this.#timer);
    clearInterval(this.#clock);
  }

  #follow() {
    this.#stop();
    this.#job = null;
    this.#tries = 0;
    this.#parts.status.textContent = "";
    if (!this.getAttribute("job")) return;
    this.#clock = setInterval(() => this.#job && this.#drawLeft(), 1000);
    this.#open();
  }

  #open() {
    const source = (this.#source = new EventSource(`${this.#url()}/events`));
    source.onmessage = (event) => this.#take(JSON.parse(event.data));
    source.onerror = () => {
      if (source !== this.#source || source.readyState !== EventSource.CLOSED) return;
      // Any answer but a stream ends an EventSource: ask once what there is, then try again.
      this.#ask();
      this.#timer = setTimeout(() => this.#open(), Math.min(LONGEST, 1000 * 2 ** this.#tries++));
    };
  }

  async #ask() {
    const url = this.#url();
    try {
      const response = await fetch(url, { headers: { Accept: "application/json" } });
      if (url !== this.#url() || !this.isConnected) return;
      if (response.ok) this.#take(await response.json());
      else if (response.status === 404) {
        this.#parts.status.textContent = "There is no such job";
        this.#stop();
      }
    } catch {
      // The server is away: the next try is under way.
    }
  }

  #take(job) {
    if (OVER.includes(this.#job?.status)) return;
    this.#tries = 0;
    this.#job = job;
    this.#draw(job);
    if (!OVER.includes(job.status)) return;
    this.#stop();
    this.dispatchEvent(new CustomEvent("end", { detail: job, bubbles: true, composed: true }));
  }

  #draw(job) {
    const { bar, fill, status, message } = this.#parts;
    const over = OVER.includes(job.status);
    const value = job.status === "succeeded" ? 100 : job.progress;
    const known = value !== null && value !== undefined;
    bar.className = `bar ${job.status} ${known || over || job.status !== "running" ? "" : "unknown"}`;
    fill.style.width = known ? `${Math.min(100, Math.max(0, value))}%` : over ? "100%" : "";
    bar.setAttribute("aria-label", `Progress of ${visible(job.task)}`);
    if (known) bar.setAttribute("aria-valuenow", String(Math.round(value)));
    else bar.removeAttribute("aria-valuenow");
    const word = `${SIGNS[job.status] ?? ""} ${job.status}`.trim();
    // The same word again would be spoken again.
    if (status.textContent !== word) status.textContent = word;
    message.textContent = visible((job.status === "failed" ? job.error?.message : job.message) ?? "");
    this.#drawLeft();
  }

  #drawLeft() {
    const job = this.#job;
    const percent = job.progress === null || OVER.includes(job.status) ? "" : `${Math.round(job.progress)} %`;
    const line = job.status === "queued" && job.position ? `number ${job.position} in line` : "";
    this.#parts.left.textContent = OVER.includes(job.status) ? "" : [percent, line || timeLeft(job)].filter(Boolean).join(" · ");
  }
}

if (!customElements.get("job-progress")) customElements.define("job-progress", JobProgress);
