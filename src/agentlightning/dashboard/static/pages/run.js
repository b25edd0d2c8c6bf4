// One run: how far it is, what it costs, its curves, its log.
import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { Chart } from "../chart.js";
import { useJson } from "../live.js";
import { count, duration, Facts, money, number, outsideName, runPath, signed, Status, Tabs, Waiting, When } from "../parts.js";

const SILENT_SECONDS = 120;

export function RunPage({ id }) {
  const { data, error } = useJson(`api/runs/${id}`, id === outsideName ? "" : id);
  const now = useClock(data && data.status === "running");
  if (!data) return html`<${Waiting} error=${error} />`;
  return html`<h1>${data.agent || id} <small>${id === outsideName ? "outside any run" : id}</small></h1>
    <${Tabs} run=${id} at="" />
    ${error && html`<${Waiting} error=${error} />`}
    <${Outcome} run=${data} now=${now} />
    <${Numbers} run=${data} now=${now} />
    <${Curves} run=${data} />
    <${Parts} title="Stages" parts=${data.stages} run=${id} field="stage" />
    <${Parts} title="Splits" parts=${data.splits} run=${id} field="split" />
    <${Log} lines=${data.log} />
    ${Object.keys(data.config).length > 0 && html`<details><summary>Configuration in effect</summary>
      <div class="text">${JSON.stringify(data.config, null, 2)}</div></details>`}`;
}

function useClock(isRunning) {
  const [now, setNow] = useState(Date.now() / 1000);
  useEffect(() => {
    if (!isRunning) return undefined;
    const timer = setInterval(() => setNow(Date.now() / 1000), 5000);
    return () => clearInterval(timer);
  }, [isRunning]);
  return now;
}

function Outcome({ run, now }) {
  const silent = now - run.last_at;
  const result = run.result || {};
  if (run.error) return html`<p class="problem"><${Status} value=${run.status} /> ${run.error}</p>`;
  if (run.status === "running") {
    return html`<p><${Status} value="running" /> ${silent > SILENT_SECONDS && html` but nothing was written for
      ${" "}${duration(silent)}. If it was killed: <code>agentlightning resume</code>`}</p>`;
  }
  if (!run.verdict) return run.status ? html`<p><${Status} value=${run.status} /></p>` : null;
  const { won, same, lost } = run.outcomes;
  return html`<section class="outcome ${run.verdict.replaceAll(" ", "-")}"><p class="verdict">
      <${Status} value=${run.verdict} /> <b>${number(run.before)} → ${number(run.after)}</b>
      ${run.interval && html` <span>${signed(result.difference)} (95 % interval ${signed(run.interval[0])} to
        ${" "}${signed(run.interval[1])}) on ${result.num_test_tasks} tasks the search never saw</span>`}</p>
    ${won + same + lost > 0 && html`<p class="soft">${won} tasks won, ${same} the same, ${lost} lost</p>`}
    ${(result.notes || []).map((note) => html`<p class="soft">${note}</p>`)}</section>`;
}

function Numbers({ run, now }) {
  const cost = run.cost || {};
  const ran = run.cost ? cost.seconds : (run.status === "running" ? now : run.last_at) - run.started_at;
  return html`<${Facts} items=${[
    ["rollouts", count(run.sums.rollouts)], ["in flight", run.status === "running" ? count(run.in_flight) : null],
    ["failed", count(run.sums.failed)], ["mean reward", number(run.sums.mean)],
    ["model calls", count(cost.calls ?? run.sums.calls)], ["tokens", count(run.cost ? cost.input_tokens + cost.output_tokens : run.sums.tokens)],
    ["cost", money(run.cost ? cost.usd : run.sums.usd)], ["time", duration(ran)], ["started", html`<${When} at=${run.started_at} />`],
  ]} />`;
}

function Curves({ run }) {
  const evaluated = run.evaluations;
  let best = null;
  const bests = evaluated.map((one) => {
    if (one.decision === "accepted" || one.policy === "original") best = Math.max(best ?? -Infinity, one.mean);
    return best;
  });
  const dots = (decision) => evaluated.map((one) => one.decision === decision ? one.mean : null);
  const validation = [
    { label: "best accepted", values: bests, colour: "good" },
    { label: "accepted", values: dots("accepted"), colour: "good", dots: true, line: false },
    { label: "not accepted", values: dots("rejected"), colour: "gray", dots: true, line: false },
  ];
  const base = run.baseline;
  return html`<div class="charts">
    ${evaluated.length > 1 && html`<${Chart} title=${`Validation by candidate${base ? `; the band is the original ± 1.96 standard errors on ${base.tasks} tasks` : ""}`}
      xs=${evaluated.map((_, index) => index)} series=${validation} baseline=${base} xLabel="evaluation" />`}
    ${run.rewards.length > 1 && html`<${Chart} title="Mean reward of training rollouts, in the order they began" xs=${run.rewards.map((_, index) => index)}
      series=${[{ label: "mean reward", values: run.rewards.map((bin) => bin.mean), colour: "amber" }]} xLabel=${`${run.rewards[0].rollouts} rollouts each`} />`}
    ${Object.entries(run.series).flatMap(([stage, metrics]) => Object.entries(metrics).map(([name, points]) => new Set(points.map((point) => point[1])).size > 1 && html`
      <${Chart} key=${`${stage}/${name}`} title=${`${stage}: ${name}`} xs=${points.map((point) => point[0])} height=${140}
        series=${[{ label: name, values: points.map((point) => point[1]), colour: "slot-ink" }]} xLabel="log line" />`))}</div>`;
}

function Parts({ title, parts, run, field }) {
  const rows = Object.entries(parts);
  if (rows.length < 2) return null;
  return html`<section><h2>${title}</h2><table><thead><tr><th>${field}</th><th class="n">rollouts</th><th class="n">failed</th>
      <th class="n">judged</th><th class="n">mean reward</th><th class="n">tokens</th><th class="n">cost</th></tr></thead>
    <tbody>${rows.map(([name, part]) => html`<tr><td><a href=${`${runPath(run, "rollouts")}?${field}=${encodeURIComponent(name)}`}>${name || "–"}</a></td>
      <td class="n">${count(part.rollouts)}</td><td class="n">${count(part.failed)}</td><td class="n">${count(part.judged)}</td>
      <td class="n">${number(part.mean)}</td><td class="n">${count(part.tokens)}</td><td class="n">${money(part.usd)}</td></tr>`)}</tbody></table></section>`;
}

function Log({ lines }) {
  if (lines.length === 0) return null;
  return html`<section><h2>Log</h2><ol class="log">${lines.slice().reverse().map((line) => html`<li>
    <${When} at=${line.at} /> <span class="soft">${line.stage}</span> ${line.text}</li>`)}</ol></section>`;
}
