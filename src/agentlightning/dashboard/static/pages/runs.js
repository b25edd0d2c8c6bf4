// All runs of the store, newest first; tick some to set them side by side.
import { html, useState } from "../vendor/htm-preact.js";
import { useJson } from "../live.js";
import { count, money, number, outsideName, runPath, Status, Waiting, When } from "../parts.js";

export function RunsPage() {
  const { data, error } = useJson("api/runs");
  const [chosen, setChosen] = useState([]);
  if (!data) return html`<${Waiting} error=${error} />`;
  const toggle = (id) => setChosen(chosen.includes(id) ? chosen.filter((one) => one !== id) : [...chosen, id]);
  return html`<h1>Runs</h1><p class="soft">in ${data.store}</p>
    ${data.runs.length === 0 && html`<p>No run yet. Start one with <code>agentlightning train</code> or <code>Trainer.train</code>;
      it appears here by itself.</p>`}
    ${chosen.length > 1 && html`<p><a class="button" href=${`#/compare?runs=${chosen.join(",")}`}>Compare ${chosen.length} runs</a></p>`}
    ${data.runs.length > 0 && html`<div class="wide"><table><thead><tr><th></th><th>run</th><th>agent</th><th>started</th>
      <th>status</th><th>verdict</th><th class="n">before</th><th class="n">after</th><th class="n">rollouts</th>
      <th class="n">mean reward</th><th class="n">cost</th></tr></thead>
      <tbody>${data.runs.map((run) => html`<tr key=${run.id}>
        <td><input type="checkbox" aria-label=${`compare ${run.id}`} checked=${chosen.includes(run.id)}
          onChange=${() => toggle(run.id)} /></td>
        <td><a href=${runPath(run.id)}>${run.id}</a></td><td>${run.agent}</td><td><${When} at=${run.started_at} /></td>
        <td><${Status} value=${run.status} /></td><td><${Status} value=${run.verdict || ""} /></td>
        <td class="n">${number(run.before)}</td><td class="n">${number(run.after)}</td>
        <td class="n">${count(run.sums.rollouts)}</td><td class="n">${number(run.sums.mean)}</td>
        <td class="n">${money(run.cost ? run.cost.usd : run.sums.usd)}</td></tr>`)}</tbody></table></div>`}
    ${data.outside && html`<p><a href=${runPath(outsideName)}>${count(data.outside.rollouts)} rollouts outside any run</a>
      (live, imported), ${count(data.outside.judged)} judged, mean reward ${number(data.outside.mean)}.</p>`}`;
}
