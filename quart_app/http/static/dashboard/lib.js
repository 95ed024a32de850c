// Preact, its hooks and htm under one roof, and the page's address. Every other module imports this
// one; no component and no rule of ours may live here.
import htm from "../vendor/htm.js";
import { useEffect, useState } from "../vendor/preact-hooks.js";
import { Fragment, h, render } from "../vendor/preact.js";

export {
  useCallback, useEffect, useErrorBoundary, useId, useLayoutEffect, useMemo, useReducer, useRef,
  useState,
} from "../vendor/preact-hooks.js";
export { Component } from "../vendor/preact.js";
export { Fragment, h, render };

/** Markup as a tagged template; what is interpolated becomes text nodes, never markup. */
export const html = htm.bind(h);

/** A tiny observable value: `get()`, `set(value)`, `watch(listener)` which returns its undoing. */
export function cell(value) {
  const listeners = new Set();
  return {
    get: () => value,
    set(next) {
      if (Object.is(next, value)) return;
      value = next;
      for (const listener of [...listeners]) listener(value);
    },
    watch(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

export const PAGES = {
  now: "Now",
  jobs: "Jobs",
  errors: "Errors",
  tasks: "Tasks",
  schedules: "Schedules",
  system: "System",
};

function read() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [page, ...rest] = path.split("/");
  let id = rest.join("/");
  try {
    id = decodeURIComponent(id);
  } catch {
    // Typed by hand and no escape: taken as it stands.
  }
  return { page: page || "now", id, params: new URLSearchParams(query) };
}

const current = cell(read());
window.addEventListener("hashchange", () => current.set(read()));

/** The address of a page; empty parameters are left out. */
export function link(page, id = "", params = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== "" && value !== null && value !== undefined) query.set(name, value);
  }
  const text = query.toString();
  return `#/${page}${id ? `/${encodeURIComponent(id)}` : ""}${text ? `?${text}` : ""}`;
}

/** Go to an address; `replace` leaves no entry in the history, for what is typed. */
export function go(address, replace = false) {
  if (address === location.hash) return;
  history[replace ? "replaceState" : "pushState"](null, "", address);
  current.set(read());
}

/** The same page with other parameters. */
export function change(params, replace = false) {
  const { page, id, params: old } = current.get();
  go(link(page, id, { ...Object.fromEntries(old), ...params }), replace);
}

/** Where the page is: `{page, id, params}`. */
export function useRoute() {
  const [route, setRoute] = useState(current.get());
  useEffect(() => current.watch(setRoute), []);
  return route;
}
