// Charts over time and small pictures, as SVG: their colors are the style sheet's, so that they
// follow light and dark by themselves. A picture says nothing to who cannot see it, so each has a
// sentence. Nothing may live here that knows what is measured.
import { html } from "./lib.js";
import { clock } from "./format.js";

const WIDTH = 1000; // Of the picture; the page stretches it.
const HEIGHT = 100;

/** The highest value of an axis: a round number, so that its labels are short. */
function top(most) {
  if (!(most > 0)) return 1;
  const size = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 4, 5, 10].find((each) => each * size >= most) * size;
}

/** Bars that stand on each other, one for each moment. */
function Bars({ rows, series, high }) {
  const wide = WIDTH / rows[0].length;
  return rows[0].map((_, place) => {
    let y = HEIGHT;
    return rows.map((row, kind) => {
      const height = (row[place] / high) * HEIGHT;
      y -= height;
      return height > 0 && html`<rect class="paint ${series[kind].color}" x=${place * wide + wide * 0.1} y=${y} width=${wide * 0.8} height=${height} />`;
    });
  });
}

function Lines({ moments, rows, series, high }) {
  const [first, span] = [moments[0], Math.max(1, moments.at(-1) - moments[0])];
  return rows.map((row, kind) => {
    const points = row.map((value, place) => {
      const x = ((moments[place] - first) / span) * WIDTH;
      return `${x.toFixed(1)},${(HEIGHT - (value / high) * HEIGHT).toFixed(1)}`;
    });
    return html`<polyline class="draw ${series[kind].color}" points=${points.join(" ")} />`;
  });
}

/**
 * A chart over time.
 *
 * @param data `[moments in seconds, values, values...]`, one list for each of `series`.
 * @param series `[{name, color}]`; colors are names of the style sheet.
 * @param kind `bars`, which stand on each other, or `lines`.
 * @param said the chart in a sentence.
 */
export function TimeChart({ data: [moments, ...rows], series, kind = "lines", format = String, said }) {
  if (moments.length < 2) return html`<p class="note">Measuring …</p>`;
  const sums = moments.map((_, place) => rows.reduce((sum, row) => sum + row[place], 0));
  const high = top(Math.max(...(kind === "bars" ? sums : rows.flat())));
  const marks = [0, 0.5, 1].map((part) => moments[0] + part * (moments.at(-1) - moments[0]));
  return html`<figure class="chart"><div class="plot">
      <div class="ys" aria-hidden="true"><span>${format(high)}</span><span>${format(high / 2)}</span><span>${format(0)}</span></div>
      <svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label=${said}>
        ${[0, 0.5, 1].map((part) => html`<line class="grid" x1="0" x2=${WIDTH} y1=${part * HEIGHT} y2=${part * HEIGHT} />`)}
        <${kind === "bars" ? Bars : Lines} moments=${moments} rows=${rows} series=${series} high=${high} /></svg>
      <div class="scale note" aria-hidden="true">${marks.map((at) => html`<span>${clock(at * 1000).slice(-8)}</span>`)}</div></div>
    ${series.length > 1 && html`<figcaption>${series.map((each) => html`<span class="key"><i class="paint ${each.color}" aria-hidden="true"></i>${each.name}</span>`)}</figcaption>`}</figure>`;
}

/** A line of small bars, for a row of a table. */
export function Sparkline({ values, said }) {
  const most = Math.max(1, ...values);
  return html`<svg class="spark" viewBox=${`0 0 ${values.length * 5} 24`} role="img" aria-label=${said} preserveAspectRatio="none">${values.map(
    (value, place) => {
      const height = value ? Math.max(2, (value / most) * 24) : 0.75;
      return html`<rect x=${place * 5} y=${24 - height} width="4" height=${height} class=${value ? "" : "none"} />`;
    },
  )}</svg>`;
}

const STEPS = [0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 180, 600, 1800, 3600, 14400, 86400, Infinity];

/** How many of the durations (seconds) are in each bin, without empty bins at both ends. */
export function bins(durations) {
  const found = STEPS.slice(0, -1).map((least, place) => ({ least, most: STEPS[place + 1], count: 0 }));
  for (const each of durations) found.findLast((bin) => each >= bin.least).count += 1;
  const first = found.findIndex((bin) => bin.count);
  const last = found.findLastIndex((bin) => bin.count);
  return first < 0 ? [] : found.slice(Math.max(0, first - 1), last + 2);
}
