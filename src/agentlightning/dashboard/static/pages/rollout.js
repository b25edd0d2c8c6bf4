// One rollout: its calls as a conversation beside a waterfall, the failing step marked, its rewards, and a place to rate it.
import { html, useState } from "../vendor/htm-preact.js";
import { Rating } from "../rating.js";
import { useJson } from "../live.js";
import { count, duration, Facts, money, number, runPath, Status, Text, textOf, Waiting, When } from "../parts.js";

export function RolloutPage({ id }) {
  const { data, error } = useJson(`api/rollouts/${id}`);
  if (!data) return html`<${Waiting} error=${error} />`;
  const tags = (data.features && data.features.error_tags) || [];
  const usage = data.usage || {};
  return html`<h1>Rollout <small>${id}</small></h1>
    <p><${Status} value=${data.status || "succeeded"} /> ${data.run_id && html`of <a href=${runPath(data.run_id)}>${data.run_id}</a>`}</p>
    <${Facts} items=${[["reward", number(data.reward)], ["agent", data.agent_id], ["stage", data.stage], ["split", data.split], ["task", data.task],
      ["policy", data.run_id && data.policy_id ? html`<a href=${runPath(data.run_id, "prompts", data.policy_id)}>${data.policy_id}</a>` : data.policy_id],
      ["time", duration(data.seconds)], ["tokens", `${count(usage.input_tokens || 0)} in, ${count(usage.output_tokens || 0)} out`],
      ["cost", money(data.usd)], ["began", html`<${When} at=${data.timestamp} />`]]} />
    ${data.error && html`<p class="problem">${data.error}</p>`}
    ${tags.map((tag) => html`<p class="problem">${tag.name}${tag.step !== undefined && tag.step !== null ? html` in step <a href=${`#/rollouts/${id}`}
      onClick=${(event) => { event.preventDefault(); document.getElementById(`step-${tag.step}`).scrollIntoView({ behavior: "smooth" }); }}>${tag.step}</a>` : ""}: ${tag.evidence}</p>`)}
    <h2>Input</h2><${Text} value=${data.input} />
    <h2>Steps</h2><${Steps} steps=${data.steps || []} failing=${new Set(tags.map((tag) => tag.step))} agent=${data.agent_id} />
    <h2>Output</h2><${Text} value=${data.output} />
    ${data.expected !== undefined && data.expected !== null && html`<h2>Expected</h2><${Text} value=${data.expected} />`}
    <${Rewards} rewards=${data.rewards || []} />
    ${data.status !== "in flight" && html`<h2>Your opinion</h2><${Rating} rollout=${id} />`}`;
}

function Rewards({ rewards }) {
  if (rewards.length === 0) return null;
  return html`<h2>Rewards</h2><table><thead><tr><th>name</th><th class="n">value</th><th>from</th><th>why</th></tr></thead>
    <tbody>${rewards.map((one) => html`<tr><td>${one.name || "reward"}${one.is_metric ? " (metric)" : ""}</td><td class="n">${number(one.value)}</td>
      <td>${one.source || "function"}</td><td>${one.reason || ""}</td></tr>`)}</tbody></table>`;
}

function Steps({ steps, failing, agent }) {
  if (steps.length === 0) return html`<p class="soft">none</p>`;
  const start = Math.min(...steps.map((step) => step.started_at));
  const end = Math.max(...steps.map((step) => step.started_at + (step.latency_seconds || 0)));
  const said = {};
  return html`<ol class="steps">${steps.map((step) => {
    const before = said[step.agent] || [];
    if (step.call) said[step.agent] = step.call.messages;
    return html`<${Step} key=${step.id} step=${step} before=${before} isFailing=${failing.has(step.index)}
      left=${(step.started_at - start) / (end - start || 1)} width=${(step.latency_seconds || 0) / (end - start || 1)}
      who=${step.agent === agent ? "" : step.agent} />`;
  })}</ol>`;
}

function Step({ step, before, isFailing, left, width, who }) {
  const reply = step.reply || {};
  const usage = reply.usage || {};
  const title = step.kind === "model" ? (step.call ? step.call.model : "model") : step.name;
  return html`<li id=${`step-${step.index}`} class=${isFailing ? "failing" : ""}>
    <div class="head"><span><b>${step.index}</b> ${step.kind} <b>${title}</b> ${who && html`<span class="soft">by ${who}</span>`}
      ${isFailing && html` <span class="status failed">shows the failure</span>`}</span>
      <span class="soft">${duration(step.latency_seconds)}${usage.input_tokens ? ` · ${count(usage.input_tokens)} → ${count(usage.output_tokens || 0)} tokens` : ""}</span></div>
    <div class="fall"><i style=${{ left: `${100 * left}%`, width: `${Math.max(0.4, 100 * width)}%` }}></i></div>
    ${step.kind === "model" ? html`<${Conversation} call=${step.call} reply=${reply} before=${before} />`
      : html`<${Text} value=${step.arguments} kind="tool" />${!step.error && html`<${Text} value=${step.result} kind="tool result" />`}`}
    ${step.error && html`<p class="problem">${step.error}</p>`}
    ${(step.missed_sites || []).length > 0 && html`<p class="soft">passed unsteered: ${step.missed_sites.join(", ")}</p>`}</li>`;
}

function Conversation({ call, reply, before }) {
  const [isWhole, setWhole] = useState(false);
  const messages = call ? call.messages : [];
  let known = 0;
  while (known < messages.length && known < before.length && JSON.stringify(messages[known]) === JSON.stringify(before[known])) known += 1;
  const shown = isWhole ? messages : messages.slice(known);
  return html`${known > 0 && !isWhole && html`<button class="link" onClick=${() => setWhole(true)}>${known} messages as in the step before</button>`}
    ${shown.map((message) => html`<${Message} message=${message} />`)}
    ${reply.message && html`<${Message} message=${reply.message} isReply=${true} />`}`;
}

function Message({ message, isReply }) {
  const calls = message.tool_calls || [];
  const reasoning = message.reasoning_content || message.reasoning;
  return html`<div class="message ${message.role || ""} ${isReply ? "reply" : ""}"><span class="role">${isReply ? "answer" : message.role}</span>
    ${reasoning && html`<${Text} value=${reasoning} kind="soft" />`}
    ${contentOf(message.content)}
    ${calls.map((call) => html`<${Text} kind="tool" value=${`${(call.function || {}).name}(${textOf((call.function || {}).arguments)})`} />`)}</div>`;
}

function contentOf(content) {
  if (content === null || content === undefined || content === "") return null;
  if (!Array.isArray(content)) return html`<${Text} value=${content} />`;
  return content.map((part) => html`<${Text} value=${part.text ?? `(${part.type || "part"})`} />`);
}
