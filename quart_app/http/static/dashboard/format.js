// Values as people read them. Nothing may live here that touches the page.
export const STATUSES = ["scheduled", "queued", "running", "succeeded", "failed", "canceled"];
const OVER = new Set(["succeeded", "failed", "canceled"]);

/** Whether nothing more will happen to a job. */
export const isOver = (job) => OVER.has(job.status);

// Controls, marks without a shape (zero-width, directions, tags) and private ones: a text could use
// them to look like another text.
const HIDDEN = /(?![\t\n])[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu;
// More accents on one letter than any script has: they would be drawn over the lines above.
const HEAP = /(\p{M}{4})\p{M}+/gu;

/** A text of somebody else with what cannot be seen made visible, as \x1b or \u202e. */
export function visible(text) {
  const seen = String(text).replace(HIDDEN, (mark) => {
    const code = mark.codePointAt(0);
    const digits = code.toString(16);
    if (code < 256) return `\\x${digits.padStart(2, "0")}`;
    return code > 0xffff ? `\\u{${digits}}` : `\\u${digits.padStart(4, "0")}`;
  });
  return seen.replace(HEAP, "$1…");
}

/** The beginning of a long text, and an ellipsis. */
export const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

const rounded = (value, digits) => String(Number(value.toFixed(digits)));

/** Seconds in words: `340 ms`, `4.2 s`, `3 m 20 s`, `2 h 5 m`, `3 d 4 h`. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "–";
  if (seconds < 0) return `-${duration(-seconds)}`;
  if (seconds < 0.0005) return "0 ms";
  if (seconds < 0.01) return `${rounded(seconds * 1000, 1)} ms`;
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.95) return `${rounded(seconds, 1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const pair = (big, unit, small, rest) => (small ? `${big} ${unit} ${small} ${rest}` : `${big} ${unit}`);
  if (whole < 3600) return pair(Math.floor(whole / 60), "m", whole % 60, "s");
  const minutes = Math.round(whole / 60);
  if (minutes < 1440) return pair(Math.floor(minutes / 60), "h", minutes % 60, "m");
  const hours = Math.round(minutes / 60);
  return pair(Math.floor(hours / 24), "d", hours % 24, "h");
}

/** Seconds of the epoch. */
export const seconds = (moment) => (moment ? Date.parse(moment) / 1000 : null);

// The server's clock may differ from ours: ages are counted by the server's where it is known.
let skew = 0;

/** Take over the server's clock. */
export function setServerNow(moment) {
  skew = seconds(moment) - Date.now() / 1000;
}

/** Now, in seconds of the epoch, by the server's clock. */
export const serverNow = () => Date.now() / 1000 + skew;

/** `12 s ago`, `in 3 m 20 s`, `now`. */
export function ago(moment, now) {
  const age = now - seconds(moment);
  if (Math.abs(age) < 1) return "now";
  const whole = Math.abs(age) < 60 ? Math.round(Math.abs(age)) : Math.abs(age);
  return age > 0 ? `${duration(whole)} ago` : `in ${duration(whole)}`;
}

const two = (value) => String(value).padStart(2, "0");

/** Local time of day; with the date where it is not today. */
export function clock(moment, millis = false) {
  if (!moment) return "–";
  const at = new Date(moment);
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  const full = millis ? `${time}.${String(at.getMilliseconds()).padStart(3, "0")}` : time;
  const today = new Date(serverNow() * 1000).toDateString() === at.toDateString();
  return today ? full : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${full}`;
}

/** Seconds for which a job has run, or runs. */
export function ran(job, now) {
  if (!job.started) return null;
  const end = job.finished ? seconds(job.finished) : now;
  return Math.max(0, end - seconds(job.started));
}

/** Whole numbers with thin spaces: 1 234 567. */
export const count = (value) =>
  value === null || value === undefined ? "–" : String(value).replace(/\B(?=(\d{3})+$)/g, "\u202f");

/** `1 job`, `3 jobs`. */
export const many = (value, word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;

/** A value as it may be read in one line: `month=3 user="ann"`. */
export function line(args, most = 120) {
  const parts = Object.entries(args ?? {}).map(
    ([name, value]) => `${name}=${short(JSON.stringify(value) ?? "", 60)}`,
  );
  return short(parts.join(" "), most);
}

/** JSON for reading. */
export const pretty = (value) => JSON.stringify(value, null, 2) ?? "";

/** The last part of an opaque id that is enough to tell rows apart. */
export const brief = (id) => (id.length > 12 ? id.slice(-10) : id);
