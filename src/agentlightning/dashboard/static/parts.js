// The small pieces that pages are made of: numbers, times, texts, changed lines, filters.
import { html, useState } from "./vendor/htm-preact.js";

export const outsideName = "outside"; // what belongs to no run

export function number(value, digits = 2) {
  return value === null || value === undefined ? "–" : Number(value).toFixed(digits);
}

export function count(value) {
  return value === null || value === undefined ? "–" : Number(value).toLocaleString("en");
}

export function signed(value, digits = 2) {
  return `${value >= 0 ? "+" : "−"}${Math.abs(value).toFixed(digits)}`;
}

export function money(value) {
  return value === null || value === undefined ? "price unknown" : `$${value.toFixed(value < 1 ? 4 : 2)}`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 90) return `${seconds.toFixed(1)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(1)} h` : `${Math.round(seconds / 86400)} days`;
}

export function When({ at }) {
  if (!at) return "–";
  const date = new Date(at * 1000);
  return html`<time datetime=${date.toISOString()} title=${date.toISOString()}>
    ${date.toLocaleString("sv").slice(0, 16)}</time>`;
}

/** A value as text: strings as they are, anything else as JSON. */
export function textOf(value) {
  return value === null || value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

const CUT = 3000;

/** Text in full width; what is very long is folded. */
export function Text({ value, kind = "" }) {
  const [isWhole, setWhole] = useState(false);
  const text = textOf(value);
  const isCut = text.length > CUT && !isWhole;
  return html`<div class="text ${kind}">${isCut ? `${text.slice(0, CUT)}…` : text}
    ${isCut && html`<button class="link" onClick=${() => setWhole(true)}>all ${count(text.length)} characters</button>`}</div>`;
}

/** Text of an instruction, its slots marked. */
export function Template({ text }) {
  return html`<div class="text">${text.split(/(⟦[^⟧]*⟧)/).map((part, index) =>
    index % 2 ? html`<span class="slot">${part.slice(1, -1)}</span>` : part)}</div>`;
}

/** Lines with their sign, as a difference. */
export function Lines({ lines }) {
  return html`<div class="text">${lines.map(([sign, line]) => sign === "+" ? html`<ins>${line}</ins>`
    : sign === "-" ? html`<del>${line}</del>` : html`<span class="line">${line || " "}</span>`)}</div>`;
}

export function Status({ value }) {
  return html`<span class="status ${value.replaceAll(" ", "-")}">${value || "–"}</span>`;
}

export function Facts({ items }) {
  const shown = items.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return html`<dl class="facts">${shown.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

/** What stands on a page whose data is not there (yet): an error, or nothing. */
export function Waiting({ error }) {
  return error ? html`<p class="problem" role="alert">${error}</p>` : html`<p class="soft">loading …</p>`;
}

export function runPath(run, ...rest) {
  return ["#", "runs", run || outsideName, ...rest.map(encodeURIComponent)].join("/");
}

export function Tabs({ run, at }) {
  const names = [["", "Overview"], ["rollouts", "Rollouts"], ["prompts", "Prompts"], ["sites", "Sites"], ["rate", "Rate"]];
  return html`<nav class="tabs">${names.map(([name, title]) => html`<a href=${runPath(run, ...(name ? [name] : []))}
    aria-current=${name === at ? "page" : undefined}>${title}</a>`)}</nav>`;
}

export function Select({ label, value, values, onChange }) {
  return html`<label>${label} <select value=${value} onChange=${(event) => onChange(event.target.value)}>
    <option value="">all</option>
    ${values.map((one) => html`<option value=${one} selected=${one === value}>${one || "–"}</option>`)}</select></label>`;
}
