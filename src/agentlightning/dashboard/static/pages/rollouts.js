// The rollouts of a run: failures first, filtered, searched.
import { html, useState } from "../vendor/htm-preact.js";
import { useJson } from "../live.js";
import { count, duration, number, outsideName, runPath, Select, Status, Tabs, Waiting } from "../parts.js";

const ORDERS = [["failures", "failures first"], ["newest", "newest first"], ["low", "lowest reward first"], ["high", "highest reward first"]];
const PAGE = 100;

export function RolloutsPage({ id, query }) {
  const [typed, setTyped] = useState(query.get("q") || "");
  const { data, error } = useJson(`api/runs/${id}/rollouts?${query}`, id === outsideName ? "" : id);
  const set = (name, value) => {
    const next = new URLSearchParams(query);
    if (value) next.set(name, value); else next.delete(name);
    if (name !== "offset") next.delete("offset");
    location.hash = `${runPath(id, "rollouts")}?${next}`;
  };
  const offset = Number(query.get("offset") || 0);
  return html`<h1>Rollouts <small>${id}</small></h1><${Tabs} run=${id} at="rollouts" />
    <form class="filters" onSubmit=${(event) => { event.preventDefault(); set("q", typed); }}>
      <label>search <input type="search" value=${typed} onInput=${(event) => setTyped(event.target.value)} /></label>
      ${data && Object.entries(data.values).map(([name, values]) => values.length > 1 && values.length < 200 && html`
        <${Select} label=${name} value=${query.get(name) || ""} values=${values} onChange=${(value) => set(name, value)} />`)}
      <label>order <select value=${query.get("order") || "failures"} onChange=${(event) => set("order", event.target.value)}>
        ${ORDERS.map(([name, title]) => html`<option value=${name} selected=${name === query.get("order")}>${title}</option>`)}</select></label>
    </form>
    ${!data || error ? html`<${Waiting} error=${error} />` : html`<p class="soft">${count(data.total)} rollouts
        ${data.total > PAGE && html` · ${offset + 1} to ${Math.min(offset + PAGE, data.total)}
          ${offset > 0 && html` <button class="link" onClick=${() => set("offset", String(Math.max(0, offset - PAGE)))}>earlier</button>`}
          ${offset + PAGE < data.total && html` <button class="link" onClick=${() => set("offset", String(offset + PAGE))}>further</button>`}`}</p>
      <div class="wide"><table><thead><tr><th>rollout</th><th>status</th><th class="n">reward</th><th>input</th><th>output</th><th>why</th>
        <th>stage</th><th>policy</th><th class="n">calls</th><th class="n">time</th></tr></thead>
      <tbody>${data.rows.map((row) => html`<tr key=${row.id}><td><a href=${`#/rollouts/${row.id}`}>${row.id}</a></td>
        <td><${Status} value=${row.status} /></td><td class="n">${number(row.reward)}</td><td class="cut">${row.input}</td>
        <td class="cut">${row.output}</td><td class="cut soft">${[row.tags, row.why].filter(Boolean).join(": ")}</td>
        <td class="id">${row.stage} <span class="soft">${row.split}</span></td><td class="id">${row.policy}</td>
        <td class="n">${row.calls ?? "–"}</td><td class="n">${duration(row.seconds)}</td></tr>`)}</tbody></table></div>`}`;
}
