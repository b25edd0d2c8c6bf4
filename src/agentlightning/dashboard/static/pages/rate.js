// Two answers to one task, without prompt or reward: which is better? What is said trains a reward model or DPO.
import { html, useState } from "../vendor/htm-preact.js";
import { post, useJson } from "../live.js";
import { Rater, useRater } from "../rating.js";
import { outsideName, Tabs, Text, Waiting } from "../parts.js";

export function RatePage({ id }) {
  const [rater, setRater] = useRater();
  const { data, error } = useJson(`api/runs/${id}/pair?rater=${encodeURIComponent(rater)}`, id === outsideName ? "" : id);
  return html`<h1>Which is better? <small>${id}</small></h1><${Tabs} run=${id} at="rate" />
    <p><${Rater} rater=${rater} setRater=${setRater} /></p>
    ${!rater ? html`<p class="soft">Say who you are; answers are kept under this name, and nobody is asked twice.</p>`
      : !data || error ? html`<${Waiting} error=${error} />`
      : data.pair.length === 0 ? html`<p>Nothing is left to compare: every task's answers are the same, or you have compared them.</p>`
      : html`<${Pair} key=${data.pair.map((one) => one.id).join()} pair=${data.pair} left=${data.left} rater=${rater} />`}`;
}

function Pair({ pair, left, rater }) {
  const [problem, setProblem] = useState("");
  const [comment, setComment] = useState("");
  const [one, two] = useState(() => Math.random() < 0.5 ? pair : [pair[1], pair[0]])[0];
  const choose = async (better, worse) => {
    try {
      await post("api/feedback", { better: better.id, worse: worse.id, rater, comment });
    } catch (error) {
      setProblem(error.message);
    }
  };
  return html`<p class="soft">${left} tasks left</p>${problem && html`<p class="problem" role="alert">${problem}</p>`}
    <h2>Input</h2><${Text} value=${one.input} />
    ${one.expected !== null && one.expected !== undefined && html`<h2>Expected</h2><${Text} value=${one.expected} />`}
    <label>why <input value=${comment} onInput=${(event) => setComment(event.target.value)} placeholder="optional" /></label>
    <div class="pair">${[[one, two, "A"], [two, one, "B"]].map(([better, worse, name]) => html`<section><h2>${name}</h2>
      <${Text} value=${better.error || better.output} /><button onClick=${() => choose(better, worse)}>${name} is better</button></section>`)}</div>`;
}
