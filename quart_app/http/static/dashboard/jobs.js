// Jobs: find some, and act on them. Rows stay where they are while one reads: known jobs change in
// their place, new ones wait behind a pill.
import { ManyDialog } from "./actions.js";
import { useAsk, useSoon } from "./api.js";
import { FilterBox, parse, passes, toMatch, toQuery, withStatus } from "./filter.js";
import { count, isOver, many, seconds, serverNow, STATUSES, visible } from "./format.js";
import { Histogram, JobsTable } from "./jobs-parts.js";
import { currentRow, moveRow, useKeys } from "./keys.js";
import {
  change, Fragment, go, html, link, useCallback, useEffect, useMemo, useRef, useState,
} from "./lib.js";
import { useJobs } from "./stream.js";
import { Empty, say, Trouble } from "./ui.js";

const PAGE = 50;
const NEWS = 1000; // New jobs that are counted; then it says "1,000+".
const COUNTED = 2000; // Milliseconds between two questions for the counts.

/** A page of the list; events change its rows, and are counted where they bring new ones. */
function useRows(query, found, cursor) {
  // A filter that cannot be read would be left out, and so show, and cancel, more than was meant.
  const path = found.problems.length ? null : `/jobs?${query}`;
  const { data, problem, reload, loading } = useAsk(path, { whole: false });
  const [rows, setRows] = useState([]);
  const [fresh, setFresh] = useState(new Set());
  const shown = useRef(new Map());
  // What the server says again after a gap must not make rows jump either.
  const asked = useRef(null);
  const read = useRef(0); // When the page was read, by the server's clock.
  useEffect(() => {
    if (!data) return;
    const same = asked.current === path;
    asked.current = path;
    if (same && rows.length) {
      const newest = new Map(data.jobs.map((job) => [job.id, job]));
      const unknown = data.jobs.filter((job) => !shown.current.has(job.id)).map((job) => job.id);
      put(rows.map((job) => newest.get(job.id) ?? job));
      setFresh((old) => new Set([...old, ...unknown]));
      return;
    }
    put(data.jobs);
    read.current = serverNow();
    setFresh(new Set());
  }, [data]);
  const put = (jobs) => {
    shown.current = new Map(jobs.map((job) => [job.id, job]));
    setRows(jobs);
  };
  const take = (jobs) => {
    const known = jobs.filter((job) => shown.current.has(job.id));
    if (known.length) {
      const newest = new Map(known.map((job) => [job.id, job]));
      put(rows.map((job) => newest.get(job.id) ?? job));
    }
    const now = serverNow();
    // Older ones stand on the pages that follow: they are not new here, whatever they do.
    const since = cursor ? read.current : rows.length < PAGE ? 0 : seconds(rows.at(-1).created);
    const others = jobs.filter((job) =>
      !shown.current.has(job.id) && seconds(job.created) >= since && passes(job, found, now));
    const added = others.filter((job) => !fresh.has(job.id));
    if (added.length && !rows.length) soon(); // Nothing stands there that could jump.
    else if (added.length && fresh.size < NEWS) setFresh(new Set([...fresh, ...added.map((job) => job.id)]));
  };
  const show = useCallback(() => {
    asked.current = null;
    reload();
  }, [reload]);
  const soon = useSoon(show, 300);
  return { rows: path ? rows : [], fresh, take, show, problem, loading, next: data?.next ?? null };
}

/** The counts above the list: of all that pass, whatever their status. */
function useCounts(found) {
  const query = toQuery({ ...found, status: [] });
  const { data, reload } = useAsk(found.problems.length ? null : `/jobs/count${query ? `?${query}` : ""}`);
  return [data, useSoon(reload, COUNTED)];
}

function Tabs({ text, found, counts }) {
  const one = found.status.length === 1 ? found.status[0] : found.status.length ? null : "";
  const tab = (status, title, value) => html`<a href=${link("jobs", "", { filter: withStatus(text, status) })}
    aria-current=${one === status ? "true" : undefined} class=${status}>${title}
    <span class="count">${counts ? `${count(value)}${counts.capped ? "+" : ""}` : "…"}</span></a>`;
  return html`<nav class="tabs" aria-label="Status">${tab("", "All", counts?.total)}
    ${STATUSES.map((status) => tab(status, status, counts?.counts[status] ?? 0))}</nav>`;
}

function Selection({ chosen, rows, all, setAll, total, act, clear }) {
  const full = rows.length > 0 && rows.every((job) => chosen.has(job.id));
  const more = full && total > rows.length;
  return html`<div class="selection" role="region" aria-label="Selected jobs">
    <strong>${all ? `All ${many(total, "job")} that match` : many(chosen.size, "job")} selected</strong>
    ${more && !all && html`<button type="button" onClick=${() => setAll(true)}>Select all ${many(total, "job")} that match</button>`}
    <span class="grow"></span>
    <button type="button" onClick=${() => act("retry")}>Retry</button>
    <button type="button" class="danger" onClick=${() => act("cancel")}>Cancel</button>
    <button type="button" class="quiet" onClick=${clear}>Clear</button></div>`;
}

function useSelection(query) {
  const [chosen, setChosen] = useState(new Set());
  const [all, setAll] = useState(false);
  const clear = () => {
    setChosen(new Set());
    setAll(false);
  };
  useEffect(clear, [query]);
  // From what is chosen then, and not now: a row that did not change keeps an earlier `toggle`.
  const toggle = useCallback((ids, on) => {
    setAll(false);
    setChosen((old) => {
      const next = new Set(old);
      for (const id of ids) {
        if (on ?? !next.has(id)) next.add(id);
        else next.delete(id);
      }
      return next;
    });
  }, []);
  return { chosen, all, setAll, toggle, clear };
}

function Pager({ params, next, text }) {
  const following = next && new URL(next, location.href).searchParams.get("cursor");
  return html`<nav class="pager" aria-label="More pages">
    ${params.get("cursor") && html`<a class="button" href=${link("jobs", "", { filter: text })}>Newest</a>
      <button type="button" onClick=${() => history.back()}>Newer</button>`}
    ${following && html`<a class="button" href=${link("jobs", "", { filter: text, cursor: following })}>Older</a>`}</nav>`;
}

function useJobKeys(rows, selection, act) {
  const row = () => rows.find((job) => job.id === currentRow()?.dataset.row);
  const onRow = (what) => () => {
    const job = row();
    if (selection.all || selection.chosen.size) act(what);
    else if (job && isOver(job) === (what === "retry")) act(what, [job.id]);
    else if (job) say(what === "retry" ? "This job is not over yet" : "This job is over already");
    else say("Select jobs first: j and k move, x selects");
  };
  useKeys({
    j: () => moveRow(1),
    k: () => moveRow(-1),
    x: () => (row() ? selection.toggle([row().id]) : false),
    c: onRow("cancel"),
    r: onRow("retry"),
    Escape: () => (selection.chosen.size ? selection.clear() : false),
  });
}

/** The page. */
export function Jobs({ params, tasks }) {
  const text = params.get("filter") ?? "";
  const found = useMemo(() => parse(text), [text]);
  const query = toQuery(found, { cursor: params.get("cursor"), limit: PAGE });
  const list = useRows(query, found, params.get("cursor"));
  const [counts, soon] = useCounts(found);
  const [dialog, setDialog] = useState(null);
  const selection = useSelection(query);
  useJobs((jobs) => {
    list.take(jobs);
    soon();
  });
  const act = (what, ids = null) => {
    if (selection.all && !ids) return setDialog({ what, target: { match: toMatch(found), words: text } });
    const chosen = ids ?? [...selection.chosen];
    const over = new Map(list.rows.map((job) => [job.id, isOver(job)]));
    const target = { ids: chosen.filter((id) => over.get(id) === (what === "retry")), chosen: chosen.length };
    return setDialog({ what, target });
  };
  useJobKeys(list.rows, selection, act);
  const total = found.status.length && counts ? found.status.reduce((sum, each) => sum + (counts.counts[each] ?? 0), 0) : counts?.total ?? 0;
  const close = (done) => {
    setDialog(null);
    if (done) {
      selection.clear();
      list.show();
    }
  };
  const args = useMemo(() => argumentNames(list.rows, tasks), [list.rows, tasks]);
  return html`<${Fragment}><div class="title"><h1>Jobs</h1><a class="button primary" href=${link("tasks")}>Start a job</a></div>
    <${FilterBox} text=${text} problems=${found.problems} onFilter=${(next) => go(link("jobs", "", { filter: next, hist: params.get("hist") }))}
      known=${{ tasks: tasks.map((task) => task.name), tags: [...new Set(tasks.flatMap((task) => task.tags))], args }} />
    <${Tabs} text=${text} found=${found} counts=${counts} />
    <${Histogram} text=${text} found=${found} open=${params.get("hist") !== "0"} onOpen=${(open) => change({ hist: open ? "" : "0" }, true)} />
    <${Trouble} problem=${list.problem} again=${list.show} />
    <div class="above">${list.fresh.size > 0 && html`<button type="button" class="pill" onClick=${params.get("cursor") ? () => go(link("jobs", "", { filter: text })) : list.show}>
      ${list.fresh.size >= NEWS ? `${NEWS}+` : list.fresh.size} new</button>`}</div>
    ${(selection.chosen.size > 0 || selection.all) && html`<${Selection} ...${selection} rows=${list.rows} total=${total} act=${act} />`}
    ${list.rows.length > 0 ? html`<${JobsTable} rows=${list.rows} chosen=${selection.chosen} toggle=${selection.toggle} />`
      : list.loading ? html`<${Empty}>Reading …<//>` : !list.problem && html`<${Empty}>${found.problems.length ? "This filter cannot be read." : text ? html`No job matches <code>${visible(text)}</code>. <a href=${link("jobs")}>Show all</a>.` : html`There is no job yet. <a href=${link("tasks")}>Start one</a>.`}<//>`}
    <${Pager} params=${params} next=${list.next} text=${text} />
    ${dialog && html`<${ManyDialog} ...${dialog} close=${close} />`}<//>`;
}

function argumentNames(rows, tasks) {
  const names = new Set(rows.flatMap((job) => Object.keys(job.args ?? {})));
  for (const task of tasks) for (const name of Object.keys(task.arguments.properties ?? {})) names.add(name);
  return [...names].sort();
}
