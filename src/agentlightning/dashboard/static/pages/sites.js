// Where instructions enter the agent's calls: each site's agent, template, slots, and how many calls it matches.
import { html } from "../vendor/htm-preact.js";
import { useJson } from "../live.js";
import { count, outsideName, Tabs, Template, Waiting } from "../parts.js";

export function SitesPage({ id }) {
  const { data, error } = useJson(`api/runs/${id}`, id === outsideName ? "" : id);
  if (!data) return html`<${Waiting} error=${error} />`;
  const agents = [...new Set(data.sites.map((site) => site.agent))];
  return html`<h1>Agents and prompt sites <small>${id}</small></h1><${Tabs} run=${id} at="sites" />
    ${data.sites.length === 0 && html`<p>No site was recorded. <code>agentlightning inspect</code> looks for them in an agent.</p>`}
    ${agents.map((agent) => html`<section><h2>${agent}</h2>${data.sites.filter((site) => site.agent === agent).map((site) => html`<${Site} site=${site} />`)}</section>`)}`;
}

function Site({ site }) {
  const coverage = site.coverage === null || site.coverage === undefined ? "not measured" : `${Math.round(100 * site.coverage)} % of calls`;
  return html`<article class="site"><h3>${site.id}</h3>
    <p class="soft">${site.kind}${site.tool ? ` of ${site.tool}` : ""} · matches ${coverage} · learned from ${count(site.num_observed || 0)} calls
      ${site.coverage !== undefined && site.coverage < 0.95 && html` <span class="status failed">below 95 %: not optimised</span>`}</p>
    ${site.template ? html`<${Template} text=${site.template} />` : html`<p class="soft">no instructions yet; a system message may be put in</p>`}
    ${(site.slots || []).map((slot) => html`<p class="soft"><span class="slot">${slot.name}</span> ${slot.type || "text"}${slot.examples && slot.examples.length ? `, such as ${slot.examples.slice(0, 3).join(" · ").slice(0, 200)}` : ""}</p>`)}</article>`;
}
