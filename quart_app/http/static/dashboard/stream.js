// One stream of events for all tabs of this browser. The visible tab that holds the lock reads
// `/events` and tells the others; where there are no locks (plain http beyond localhost) each tab
// reads its own. Hidden and paused tabs read nothing and catch up when they come back. Nothing may
// live here that knows what is shown.
import { base, refreshAll, resting } from "./api.js";
import { cell, useEffect, useRef, useState } from "./lib.js";

const NAME = `quart-app ${location.origin}${base}`;
const FLUSH = 100; // Milliseconds between two rounds of drawing: more would be work for nobody.
const HIDDEN = 2000; // Milliseconds hidden before the stream is let go: switching tabs is short.
const MOST = 5000; // Jobs kept between two rounds; past them the page is read again instead.
const LONGEST = 15000; // Milliseconds between two tries.

/** `off`, `connecting`, `live`, `waiting` or `paused`. */
export const streamState = cell("off");
const listeners = new Set();
const pending = new Map();
const channel = "BroadcastChannel" in window ? new BroadcastChannel(NAME) : null;

let source = null;
let release = null; // Gives the lock back.
let asking = null; // Takes back the question for it.
let timer = 0;
let tries = 0;
let flushed = 0;
let wanted = 0;
let paused = false;
let hiddenTimer = 0;
let overflow = false;
let opened = false;
let claimed = 0; // Pages with a stream of their own, whose state is shown instead.

function setState(state, tell = source !== null) {
  if (!claimed || state === "paused") streamState.set(state);
  if (tell) channel?.postMessage({ state });
}

function deliver(jobs) {
  for (const listener of [...listeners]) listener(jobs);
}

function flush() {
  timer = 0;
  flushed = performance.now();
  const jobs = [...pending.values()];
  pending.clear();
  if (overflow) {
    overflow = false;
    refreshAll();
  }
  if (!jobs.length) return;
  channel?.postMessage({ jobs });
  deliver(jobs);
}

function schedule() {
  if (timer) return;
  const wait = Math.max(0, FLUSH - (performance.now() - flushed));
  timer = setTimeout(() => requestAnimationFrame(flush), wait);
}

function take(event) {
  let job;
  try {
    job = JSON.parse(event.data);
  } catch {
    return; // Cut by a proxy; the next version of the job says it all again.
  }
  pending.delete(job.id); // So that the newest version is also the last in order.
  pending.set(job.id, job);
  if (pending.size > MOST) {
    overflow = true;
    pending.clear();
  }
  schedule();
}

function open() {
  // Of each job the newest version is enough, ten times a second: it is not drawn more often.
  source = new EventSource(`${base}/events?every=0.1`);
  setState(opened ? "waiting" : "connecting");
  source.onopen = () => {
    tries = 0;
    // What happened before it was open is only known by reading again.
    refreshAll();
    opened = true;
    setState("live");
    channel?.postMessage({ opened: true });
  };
  source.onmessage = take;
  source.onerror = () => {
    setState("waiting");
    // The browser tries again by itself, with the last id, unless an answer other than 200 came.
    if (source?.readyState === EventSource.CLOSED) again();
  };
}

function again() {
  source.close();
  const wait = Math.min(LONGEST, 1000 * 2 ** tries++) * (0.75 + Math.random() / 2);
  const mine = source;
  setTimeout(() => source === mine && source !== null && open(), wait);
}

function close() {
  source?.close();
  source = null;
  clearTimeout(timer);
  timer = 0;
  pending.clear();
}

function lead() {
  open();
  return new Promise((resolve) => {
    release = () => {
      release = null;
      close();
      resolve();
    };
  });
}

function start() {
  if (asking || release) return;
  setState("connecting", false);
  if (!navigator.locks || !channel) {
    asking = { abort() {} };
    lead();
    return;
  }
  const control = (asking = new AbortController());
  channel.postMessage({ hello: true });
  navigator.locks.request(NAME, { signal: control.signal }, lead).catch(() => {});
}

function stop(state) {
  asking?.abort();
  asking = null;
  release?.();
  setState(state, false);
}

function decide() {
  if (paused) stop("paused");
  else if (!wanted || document.hidden) stop("off");
  else start();
}

channel?.addEventListener("message", ({ data }) => {
  if (data.hello && source) channel.postMessage({ state: streamState.get() });
  if (source || !asking) return; // We read it ourselves, or do not want it now.
  if (data.jobs) deliver(data.jobs);
  if (data.state) setState(data.state, false);
  if (data.opened) refreshAll();
});

document.addEventListener("visibilitychange", () => {
  clearTimeout(hiddenTimer);
  if (document.hidden) {
    hiddenTimer = setTimeout(decide, HIDDEN);
  } else if (!asking && wanted && !paused) {
    decide();
    refreshAll();
  }
});

window.addEventListener("pagehide", () => stop("off"));
window.addEventListener("pageshow", (event) => event.persisted && decide());

/** Stop or go on with live updates, for this tab. */
export function setPaused(value) {
  paused = value;
  resting.set(value);
  if (!value && claimed) streamState.set("off"); // The page opens its own stream again.
  decide();
  if (!paused) refreshAll();
}

/** Call with each round of changed jobs: one version, the newest, of each. */
export function useJobs(take) {
  const newest = useRef(take);
  newest.current = take;
  useEffect(() => {
    const listener = (jobs) => newest.current(jobs);
    listeners.add(listener);
    wanted += 1;
    decide();
    return () => {
      listeners.delete(listener);
      wanted -= 1;
      // A page that follows wants it again at once: do not close what is needed a moment later.
      setTimeout(decide, 50);
    };
  }, []);
}

/** Let a page with a stream of its own say how that is; returns the undoing. */
export function claimState() {
  claimed += 1;
  return () => {
    claimed -= 1;
    if (!paused) streamState.set("off");
  };
}

/** Hear of changed jobs without asking for a stream. */
export function overhear(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Tell what another stream brought, such as that of one job's page. */
export const tell = deliver;

/** The stream's state, for showing it. */
export function useStreamState() {
  const [state, set] = useState(streamState.get());
  useEffect(() => streamState.watch(set), []);
  return state;
}

/** Now, by the server's clock, again and again. */
export function useNow(read, every = 1000) {
  const [now, setNow] = useState(read);
  useEffect(() => {
    const ticking = setInterval(() => document.hidden || setNow(read()), every);
    return () => clearInterval(ticking);
  }, [every]);
  return now;
}
