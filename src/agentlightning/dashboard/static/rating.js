// Who says what about a rollout: the rater's name, kept in this browser, and one to five stars with a reason.
import { html, useState } from "./vendor/htm-preact.js";
import { post } from "./live.js";

export function useRater() {
  const [rater, setRater] = useState(localStorage.getItem("rater") || "");
  return [rater, (name) => { localStorage.setItem("rater", name); setRater(name); }];
}

export function Rater({ rater, setRater }) {
  return html`<label>your name <input value=${rater} onChange=${(event) => setRater(event.target.value.trim())} placeholder="who rates" /></label>`;
}

export function Rating({ rollout }) {
  const [rater, setRater] = useRater();
  const [comment, setComment] = useState("");
  const [said, setSaid] = useState({});
  const rate = async (stars) => {
    try {
      await post("api/feedback", { rollout, stars, rater, comment });
      setSaid({ stars });
    } catch (error) {
      setSaid({ error: error.message });
    }
  };
  return html`<div class="rating"><${Rater} rater=${rater} setRater=${setRater} />
    <label>why <input value=${comment} onInput=${(event) => setComment(event.target.value)} placeholder="optional" /></label>
    <span role="group" aria-label="1 (bad) to 5 (very good)">${[1, 2, 3, 4, 5].map((stars) => html`<button disabled=${!rater} class=${said.stars === stars ? "chosen" : ""}
      onClick=${() => rate(stars)}>${stars}</button>`)}</span>
    <span class="soft">${!rater ? "say who you are first" : said.stars ? `kept: ${said.stars} of 5` : "1 bad, 5 very good"}</span>
    ${said.error && html`<p class="problem" role="alert">${said.error}</p>`}</div>`;
}
