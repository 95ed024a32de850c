// The public HTTP API, and nothing that a client of it could not do. Only requests may live here.
import { cell, useCallback, useEffect, useRef, useState } from "./lib.js";

const meta = document.querySelector('meta[name="quart-app-base"]');

/** The path under which the app is mounted, without a slash at the end. */
export const base = (meta?.content ?? "").replace(/\/+$/, "");

/** What the server refused, or that it did not answer (status 0). */
export class Problem extends Error {
  constructor(status, title, detail, errors = []) {
    super(detail || title);
    this.status = status;
    this.title = title;
    this.detail = detail;
    this.errors = errors;
  }
}

async function problemOf(response) {
  let said = {};
  try {
    said = await response.json();
  } catch {
    // Not problem+json: a proxy between us answered, and the status says what there is to say.
  }
  const title = String(said.title ?? `The server answered ${response.status}`);
  const errors = Array.isArray(said.errors) ? said.errors : [];
  return new Problem(response.status, title, said.detail ?? "", errors);
}

/** Ask the API. Returns the answer's JSON, or its text where `text` is set. */
export async function ask(path, { method = "GET", body, headers = {}, signal, text } = {}) {
  const sent = { Accept: text ? "*/*" : "application/json", ...headers };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(base + path, {
      method,
      headers: sent,
      signal,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "same-origin",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "No answer", "The server cannot be reached. The page tries again.");
  }
  if (!response.ok) throw await problemOf(response);
  return text ? response.text() : response.json();
}

/** POST with a JSON body. */
export const post = (path, body = {}, headers = {}) =>
  ask(path, { method: "POST", body, headers });

/** A key that makes a start harmless when it is sent twice. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((each) => each.toString(16).padStart(2, "0")).join("");
}

const refreshers = new Set();

/** Read again what every open part of the page shows: after a gap of the stream, say. */
export function refreshAll() {
  for (const refresh of [...refreshers]) refresh();
}

/**
 * What a GET answers, kept fresh.
 *
 * Old data stays while new data comes, so that nothing flickers; answers that arrive after a newer
 * question are dropped.
 *
 * @param path what to ask, or null for nothing.
 * @param every seconds between two questions while the page is visible; 0 asks once.
 * @param whole keep the data of an earlier path until the new one has come.
 */
export function useAsk(path, { every = 0, text = false, whole = true } = {}) {
  const [state, setState] = useState({ data: null, problem: null, path: null });
  const running = useRef(null);
  const load = useCallback(async () => {
    if (path === null) return;
    running.current?.abort();
    const control = (running.current = new AbortController());
    try {
      const data = await ask(path, { signal: control.signal, text });
      if (running.current === control) setState({ data, problem: null, path });
    } catch (problem) {
      if (problem.name === "AbortError" || running.current !== control) return;
      setState((old) => ({ data: old.path === path ? old.data : null, problem, path }));
    }
  }, [path, text]);
  useEffect(() => {
    load();
    refreshers.add(load);
    return () => {
      refreshers.delete(load);
      running.current?.abort();
      running.current = null;
    };
  }, [load]);
  useEvery(load, every);
  const stale = state.path !== path;
  return {
    data: stale && !whole ? null : state.data,
    problem: stale ? null : state.problem,
    loading: stale && path !== null,
    reload: load,
  };
}

/** Whether this tab was told to rest: nothing is asked by the clock then. */
export const resting = cell(false);

/** Call again and again, but not while nobody looks. */
export function useEvery(work, seconds) {
  useEffect(() => {
    if (!seconds) return undefined;
    const timer = setInterval(() => document.hidden || resting.get() || work(), seconds * 1000);
    return () => clearInterval(timer);
  }, [work, seconds]);
}

/** The same call for a shell. Single quotes are the only character that needs care inside them. */
export function curl(path, { method = "GET", body } = {}) {
  const quote = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;
  const parts = ["curl"];
  if (method !== "GET") parts.push("-X", method);
  if (body !== undefined) {
    parts.push("-H", quote("Content-Type: application/json"), "-d", quote(JSON.stringify(body)));
  }
  return [...parts, quote(location.origin + base + path)].join(" ");
}

/** The same work soon after something happened, but not with every event. */
export function useSoon(work, wait = 2000) {
  const timer = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  return useCallback(() => {
    timer.current ||= setTimeout(() => {
      timer.current = 0;
      work();
    }, wait);
  }, [work]);
}
