// Runs side by side: what came of each, and the settings in which they differ.
import { html } from "../vendor/htm-preact.js";
import { useJson } from "../live.js";
import { count, money, number, runPath, signed, Waiting } from "../parts.js";

const ROWS = [
  ["agent", (run) => run.agent], ["status", (run) => run.status], ["verdict", (run) => run.verdict],
  ["before", (run) => number(run.before)], ["after", (run) => number(run.after)],
  ["95 % interval", (run) => run.interval ? `${signed(run.interval[0])} to ${signed(run.interval[1])}` : ""],
  ["held-out tasks", (run) => run.result.num_test_tasks], ["rollouts", (run) => count(run.sums.rollouts)],
  ["mean reward", (run) => number(run.sums.mean)], ["model calls", (run) => count(run.cost ? run.cost.calls : run.sums.calls)],
  ["cost", (run) => money(run.cost ? run.cost.usd : run.sums.usd)],
];

export function ComparePage({ query }) {
  const ids = (query.get("runs") || "").split(",").filter(Boolean);
  const loaded = ids.map((id) => useJson(`api/runs/${id}`, id)); // always the same number: the page has a key of its own
  const failed = loaded.find((one) => one.error);
  if (ids.length === 0 || failed) return html`<${Waiting} error=${failed ? failed.error : "Tick the runs to compare on the first page."} />`;
  if (loaded.some((one) => !one.data)) return html`<${Waiting} />`;
  const runs = loaded.map((one) => one.data);
  return html`<h1>${runs.length} runs side by side</h1><div class="wide"><table><thead><tr><th></th>${runs.map((run) => html`<th><a href=${runPath(run.id)}>${run.id}</a></th>`)}</tr></thead>
    <tbody>${ROWS.map(([name, value]) => html`<tr><th>${name}</th>${runs.map((run) => html`<td>${value(run) ?? ""}</td>`)}</tr>`)}
      ${differences(runs).map(([name, values]) => html`<tr><th><code>${name}</code></th>${values.map((value) => html`<td>${value}</td>`)}</tr>`)}</tbody></table></div>`;
}

function differences(runs) {
  const flat = runs.map((run) => flattened(run.config));
  const names = [...new Set(flat.flatMap((one) => [...one.keys()]))].sort();
  return names.map((name) => [name, flat.map((one) => one.get(name) ?? "")]).filter(([, values]) => new Set(values).size > 1);
}

function flattened(value, name = "", found = new Map()) {
  if (value !== null && typeof value === "object" && !Array.isArray(value)) {
    for (const [key, inner] of Object.entries(value)) flattened(inner, name ? `${name}.${key}` : key, found);
  } else found.set(name, JSON.stringify(value));
  return found;
}
