// How the instructions came about: versions as a tree, and what one changes, line by line and task by task.
import { html, useState } from "../vendor/htm-preact.js";
import { useJson } from "../live.js";
import { Lines, number, outsideName, runPath, signed, Status, Tabs, Template, Waiting } from "../parts.js";

export function PromptsPage({ id, detail }) {
  const { data, error } = useJson(`api/runs/${id}/prompts`, id === outsideName ? "" : id);
  if (!data) return html`<${Waiting} error=${error} />`;
  const handedBack = data.find((version) => version.is_handed_back);
  const chosen = detail || (handedBack || data[0]).id;
  return html`<h1>Prompts <small>${id}</small></h1><${Tabs} run=${id} at="prompts" />
    <div class="columns"><${Tree} versions=${data} run=${id} chosen=${chosen} />
      <${Version} key=${chosen} run=${id} version=${data.find((one) => one.id === chosen)} id=${chosen} /></div>`;
}

function Tree({ versions, run, chosen }) {
  const children = Map.groupBy ? Map.groupBy(versions, (version) => version.parent) : grouped(versions);
  const known = new Set(versions.map((version) => version.id));
  // A line of accepted versions stays on one level; what was tried and left stands indented below what it was tried on.
  const branch = (version) => {
    const grown = children.get(version.id) || [];
    const accepted = grown.filter((one) => one.decision === "accepted");
    const next = accepted.length === 1 ? accepted[0] : null;
    const beside = grown.filter((one) => one !== next);
    return html`<li key=${version.id}><${Node} version=${version} run=${run} isChosen=${version.id === chosen} />
      ${beside.length > 0 && html`<ul>${beside.map(branch)}</ul>`}</li>${next && branch(next)}`;
  };
  return html`<nav class="tree" aria-label="versions"><ul>${versions.filter((one) => !known.has(one.parent)).map(branch)}</ul></nav>`;
}

function grouped(versions) {
  const found = new Map();
  for (const version of versions) found.set(version.parent, [...(found.get(version.parent) || []), version]);
  return found;
}

function Node({ version, run, isChosen }) {
  const mark = { accepted: "●", rejected: "○", refused: "×" }[version.decision] || "●";
  return html`<a class="node ${version.decision}" href=${runPath(run, "prompts", version.id)} aria-current=${isChosen ? "true" : undefined}
    title=${version.idea || version.reason}><span>${mark} ${version.id === "original" ? "original" : version.id.slice(2, 9)}</span>
    <span class="n">${number(version.mean)}</span>${version.is_handed_back && html` <span class="status improved">handed back</span>`}</a>`;
}

function Version({ run, id, version }) {
  const [against, setAgainst] = useState("");
  const { data, error } = useJson(`api/runs/${run}/prompts/${encodeURIComponent(id)}?against=${against}`, run);
  if (!data) return html`<${Waiting} error=${error} />`;
  const changed = data.sites.filter((site) => site.lines.some(([sign]) => sign !== " "));
  const won = data.tasks.filter((task) => task.after > task.before).length;
  const lost = data.tasks.filter((task) => task.after < task.before).length;
  return html`<section class="version"><h2>${id}</h2>
    ${version && version.parent && version.parent !== "original" && html`<p>${[["", "what this version changed"], ["original", "against the original"]].map(([name, title]) => html`
      <button class=${against === name ? "chosen" : ""} onClick=${() => setAgainst(name)}>${title}</button> `)}</p>`}
    ${version && version.decision && html`<p><${Status} value=${version.decision} /> ${version.reason}</p>`}
    ${version && version.idea && html`<p>${version.idea}</p>`}
    ${data.tasks.length > 0 && id !== data.against && html`<p class="soft">against ${data.against} on ${data.tasks.length} validation tasks:
      ${" "}${won} won, ${lost} lost, mean change ${signed(data.tasks.reduce((sum, task) => sum + task.after - task.before, 0) / data.tasks.length)}</p>`}
    ${changed.map((site) => html`<h3>${site.site}</h3><${Lines} lines=${site.lines} />`)}
    ${changed.length === 0 && id !== "original" && html`<p class="soft">Its instructions are those of ${data.against}.</p>`}
    ${Object.entries(data.demos).map(([agent, demos]) => html`<h3>worked examples of ${agent}</h3>${demos.map((demo) => html`<div class="text">${demo.input}\n→ ${demo.output}</div>`)}`)}
    ${Object.entries(data.weights).map(([agent, version]) => html`<p>weights of ${agent}: <code>${version}</code></p>`)}
    <details><summary>Whole texts</summary>${data.sites.map((site) => html`<h3>${site.site}</h3><${Template} text=${site.text} />`)}</details>
    ${data.tasks.some((task) => task.after !== task.before) && html`<details><summary>Tasks won and lost</summary><table>
      <thead><tr><th>task</th><th class="n">before</th><th class="n">after</th></tr></thead><tbody>${data.tasks.filter((task) => task.after !== task.before).map((task) => html`
        <tr><td><a href=${`${runPath(run, "rollouts")}?task=${task.task}`}>${task.task}</a></td><td class="n">${number(task.before)}</td><td class="n">${number(task.after)}</td></tr>`)}</tbody></table></details>`}</section>`;
}
