// The form that starts a job, made from the JSON Schema of the task's arguments: schema to fields,
// fields to values; what cannot be shown as a field is JSON.
import { curl, newKey, post } from "./api.js";
import { brief, visible } from "./format.js";
import { html, link, useMemo, useRef, useState } from "./lib.js";
import { Copy, JobLink, Text, Trouble } from "./ui.js";

/** A schema with its reference followed, and what stands beside the reference kept. */
export function resolve(schema, root) {
  let found = schema ?? {};
  for (let depth = 0; found.$ref && depth < 10; depth += 1) {
    const name = found.$ref.split("/").pop();
    const { $ref, ...beside } = found;
    found = { ...(root.$defs?.[name] ?? {}), ...beside };
  }
  return found;
}

/** `null` taken out of a union: whether it was there, and what is left. */
function withoutNull(schema, root) {
  const all = (schema.anyOf ?? schema.oneOf ?? []).map((each) => resolve(each, root));
  if (Array.isArray(schema.type)) {
    const left = schema.type.filter((each) => each !== "null");
    return [left.length < schema.type.length, left.length === 1 ? { ...schema, type: left[0] } : { ...schema, type: undefined }];
  }
  if (!all.length) {
    if (!schema.enum?.includes(null)) return [false, schema];
    return [true, { ...schema, enum: schema.enum.filter((each) => each !== null) }];
  }
  const left = all.filter((each) => each.type !== "null");
  const { anyOf, oneOf, ...beside } = schema;
  return [left.length < all.length, left.length === 1 ? { ...left[0], ...beside } : { ...beside, type: undefined }];
}

const DATES = { "date-time": "text", date: "date", time: "text" };

/** The kind of field: `choice`, `yes`, `number`, `text` or `json`. */
function kindOf(schema) {
  if (schema.enum || schema.const !== undefined) return "choice";
  if (schema.type === "boolean") return "yes";
  if (schema.type === "integer" || schema.type === "number") return "number";
  return schema.type === "string" ? "text" : "json";
}

/** The fields of a task's arguments, in order: `{name, kind, schema, required, nullable, initial}`. */
export function fieldsOf(root) {
  const top = resolve(root, root);
  const required = new Set(top.required ?? []);
  return Object.entries(top.properties ?? {}).map(([name, raw]) => {
    const [nullable, schema] = withoutNull(resolve(raw, root), root);
    const kind = kindOf(schema);
    const choices = schema.enum ?? (schema.const === undefined ? undefined : [schema.const]);
    return { name, kind, schema, choices, nullable, required: required.has(name), initial: initial(kind, schema, required.has(name)) };
  });
}

function initial(kind, schema, required) {
  if (schema.default === undefined || schema.default === null) return kind === "yes" ? (required ? "false" : "") : "";
  return kind === "text" ? String(schema.default) : JSON.stringify(schema.default);
}

/** The type of the browser's own field, which checks and helps on its own. */
export function inputType(field) {
  if (field.schema.writeOnly || field.schema.format === "password") return "password";
  return DATES[field.schema.format] ?? "text";
}

/** Bounds in words: `1 to 12`, `at most 200 characters`. */
export function bounds({ schema, required }) {
  const said = [];
  const least = schema.minimum ?? schema.exclusiveMinimum;
  const most = schema.maximum ?? schema.exclusiveMaximum;
  if (least !== undefined && most !== undefined) said.push(`${least} to ${most}`);
  else if (least !== undefined) said.push(schema.minimum === undefined ? `above ${least}` : `at least ${least}`);
  else if (most !== undefined) said.push(schema.maximum === undefined ? `below ${most}` : `at most ${most}`);
  if (schema.multipleOf) said.push(`a multiple of ${schema.multipleOf}`);
  if (schema.minLength > 1) said.push(`at least ${schema.minLength} characters`);
  if (schema.maxLength) said.push(`at most ${schema.maxLength} characters`);
  if (schema.minItems) said.push(`at least ${schema.minItems} items`);
  if (schema.pattern) said.push(`like ${schema.pattern}`);
  if (schema.format) said.push(schema.format);
  if (!required) said.push("may be left empty");
  return said.join(", ");
}

/** What was typed as a value; `undefined` leaves the argument out.
 *
 * @throws SyntaxError with what is wrong.
 */
export function valueOf(field, typed) {
  const { kind, schema, required, choices } = field;
  if (typed === "" && !required) return undefined;
  if (kind === "text") {
    if (typed.length < (schema.minLength ?? 0)) throw new SyntaxError(typed ? `at least ${schema.minLength} characters` : "is needed");
    return typed;
  }
  if (typed === "") throw new SyntaxError("is needed");
  if (kind === "number") return numberOf(schema, typed);
  if (kind === "choice") return choices.find((each) => JSON.stringify(each) === typed);
  if (kind === "yes") return typed === "true";
  try {
    return JSON.parse(typed);
  } catch (error) {
    throw new SyntaxError(`is not JSON: ${error.message}`);
  }
}

function numberOf(schema, typed) {
  const value = Number(typed);
  if (!Number.isFinite(value)) throw new SyntaxError("is not a number");
  if (schema.type === "integer" && !Number.isInteger(value)) throw new SyntaxError("is not a whole number");
  if (value < schema.minimum) throw new SyntaxError(`is at least ${schema.minimum}`);
  if (value > schema.maximum) throw new SyntaxError(`is at most ${schema.maximum}`);
  return value;
}

function Input({ field, id, value, onInput, wrong }) {
  const { kind, required, choices } = field;
  const shared = { id, value, onInput: (event) => onInput(event.target.value), "aria-describedby": `${id}-about`, "aria-invalid": wrong ? "true" : undefined, "aria-required": required };
  if (kind === "choice" || kind === "yes") {
    const offered = kind === "yes" ? [true, false] : choices;
    const words = (each) => (kind === "yes" ? (each ? "yes" : "no") : visible(each));
    return html`<select ...${shared} onChange=${shared.onInput}>${(!required || value === "") && html`<option value="">${required ? "choose" : "leave out"}</option>`}
      ${offered.map((each) => html`<option value=${JSON.stringify(each)}>${words(each)}</option>`)}</select>`;
  }
  if (kind === "json") return html`<textarea ...${shared} rows="3" class="mono" spellcheck=${false} placeholder=${field.schema.type === "array" ? "[ … ]" : "JSON"}></textarea>`;
  const mode = kind === "number" ? (field.schema.type === "integer" && !(field.schema.minimum < 0) ? "numeric" : "decimal") : undefined;
  return html`<input ...${shared} type=${inputType(field)} inputmode=${mode} autocomplete="off" spellcheck=${false} />`;
}

function Field({ field, value, onInput, wrong }) {
  const id = `argument-${field.name}`;
  const about = field.schema.description;
  return html`<div class="field ${wrong ? "wrong" : ""}"><label for=${id}><${Text} of=${field.name} />${field.required && html` <span class="note">needed</span>`}</label>
    <${Input} field=${field} id=${id} value=${value} onInput=${onInput} wrong=${wrong} />
    <p id=${`${id}-about`} class="note">${wrong && html`<strong class="bad"><${Text} of=${wrong} />. </strong>`}${about && html`<${Text} of=${about} />. `}<${Text} of=${bounds(field)} /></p></div>`;
}

function collect(fields, typed) {
  const args = {};
  const wrong = {};
  for (const field of fields) {
    try {
      const value = valueOf(field, typed[field.name]);
      if (value !== undefined) args[field.name] = value;
    } catch (error) {
      wrong[field.name] = error.message;
    }
  }
  return { args, wrong };
}

function readJson(text) {
  try {
    const args = JSON.parse(text);
    if (Object(args) !== args || Array.isArray(args)) throw new SyntaxError("it is no object");
    return { args, wrong: {} };
  } catch (error) {
    return { args: {}, wrong: { json: error.message } };
  }
}

/** What the server says of the arguments, by their names. */
function refused(problem) {
  const found = {};
  for (const { pointer, detail } of problem.errors) {
    const [, name] = String(pointer ?? "").split("/");
    if (name) found[name.replaceAll("~1", "/").replaceAll("~0", "~")] = String(detail);
  }
  return found;
}

function Options({ options, set }) {
  const field = (name, title, hint, mode) => html`<label class="field">${title}<input type="text" inputmode=${mode} value=${options[name]} onInput=${(event) => set({ ...options, [name]: event.target.value })} placeholder=${hint} autocomplete="off" /></label>`;
  return html`<details><summary>When and how</summary><div class="options">
    ${field("delay", "Start after (seconds)", "at once", "decimal")}${field("expires", "Give up when not begun after (seconds)", "never", "decimal")}
    ${field("priority", "Priority", "0", "numeric")}${field("key", "Idempotency-Key", "made by this page", "text")}</div></details>`;
}

const OPTIONS = { delay: "", expires: "", priority: "", key: "" };

function pathOf(task, options) {
  const query = new URLSearchParams();
  for (const name of ["delay", "expires", "priority"]) if (options[name]) query.set(name, options[name]);
  const text = query.toString();
  return `/start/${encodeURIComponent(task.name)}${text ? `?${text}` : ""}`;
}

/** @param params `args` may hold arguments as JSON, so that a filled form can be sent as a link. */
export function StartForm({ task, params }) {
  const fields = useMemo(() => fieldsOf(task.arguments), [task.name]);
  const given = useMemo(() => readJson(params.get("args") ?? "{}").args, [task.name]);
  const [typed, setTyped] = useState(() => Object.fromEntries(fields.map((field) => [field.name, startOf(field, given)])));
  const [json, setJson] = useState(null);
  const [options, setOptions] = useState(OPTIONS);
  const [wrong, setWrong] = useState({});
  const [problem, setProblem] = useState(null);
  const [started, setStarted] = useState(null);
  const busy = useRef(false);
  const key = useRef(newKey());
  const form = useRef(null);
  const read = () => (json === null ? collect(fields, typed) : readJson(json));
  const submit = async (event) => {
    event.preventDefault();
    const { args, wrong: found } = read();
    setWrong(found);
    setProblem(null);
    if (Object.keys(found).length) {
      requestAnimationFrame(() => form.current?.querySelector("[aria-invalid]")?.focus());
      return;
    }
    if (busy.current) return; // A second click while the first is on its way.
    busy.current = true;
    try {
      const job = await post(pathOf(task, options), args, { "Idempotency-Key": options.key || key.current });
      key.current = newKey();
      setStarted(job); // A note in the corner would say it twice, and lie over this.
    } catch (error) {
      setWrong(refused(error));
      setProblem(error);
      if (error.status) key.current = newKey(); // No answer: the same key makes a retry harmless.
    } finally {
      busy.current = false;
    }
  };
  const swap = () => {
    if (json === null) setJson(JSON.stringify(collect(fields, typed).args, null, 2));
    else {
      const { args } = readJson(json);
      setTyped(Object.fromEntries(fields.map((field) => [field.name, startOf(field, args)])));
      setJson(null);
    }
    setWrong({});
  };
  return html`<form ref=${form} onSubmit=${submit} noValidate>
    ${json === null
      ? fields.length ? fields.map((field) => html`<${Field} key=${field.name} field=${field} value=${typed[field.name]} wrong=${wrong[field.name]} onInput=${(value) => setTyped((old) => ({ ...old, [field.name]: value }))} />`) : html`<p class="note">It takes no arguments.</p>`
      : html`<label class="field ${wrong.json ? "wrong" : ""}">All arguments as JSON<textarea class="mono" rows="8" spellcheck=${false} aria-invalid=${wrong.json ? "true" : undefined} value=${json} onInput=${(event) => setJson(event.target.value)}></textarea></label>
        ${wrong.json && html`<p class="bad">${wrong.json}</p>`}`}
    <${Options} options=${options} set=${setOptions} />
    <${Trouble} problem=${problem} />
    <div class="buttons"><button class="primary">Start</button>
      ${fields.length > 0 && html`<button type="button" onClick=${swap}>${json === null ? "As JSON" : "As a form"}</button>`}
      <${Copy} text=${() => curl(pathOf(task, options), { method: "POST", body: read().args })}>Copy as curl<//></div>
    ${started && html`<p class="started" role="status">Started: <${JobLink} id=${started.id}>watch it as <${Text} of=${brief(started.id)} /><//> or see <a href=${link("jobs", "", { filter: `task:${task.name}` })}>all jobs of this task</a>.</p>`}</form>`;
}

/** What a field shows first: what the link gave, else its default. */
function startOf(field, given) {
  if (!Object.hasOwn(given, field.name)) return field.initial;
  const value = given[field.name];
  if (value === null) return "";
  return field.kind === "text" ? String(value) : JSON.stringify(value);
}
