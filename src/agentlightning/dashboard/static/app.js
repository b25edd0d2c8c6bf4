// The page's frame: which page an address means, and whether the server is there.
import { html, render, useEffect, useState } from "./vendor/htm-preact.js";
import { useConnection } from "./live.js";
import { ComparePage } from "./pages/compare.js";
import { PromptsPage } from "./pages/prompts.js";
import { RatePage } from "./pages/rate.js";
import { RolloutPage } from "./pages/rollout.js";
import { RolloutsPage } from "./pages/rollouts.js";
import { RunPage } from "./pages/run.js";
import { RunsPage } from "./pages/runs.js";
import { SitesPage } from "./pages/sites.js";

const RUN_PAGES = { rollouts: RolloutsPage, prompts: PromptsPage, sites: SitesPage, rate: RatePage };

function placeOf(hash) {
  const [path, query] = hash.replace(/^#\/?/, "").split("?");
  return { parts: path.split("/").filter(Boolean).map(decodeURIComponent), query: new URLSearchParams(query) };
}

function Page({ parts, query }) {
  const [kind, id, tab, detail] = parts;
  if (kind === "compare") return html`<${ComparePage} key=${String(query)} query=${query} />`;
  if (kind === "rollouts" && id) return html`<${RolloutPage} key=${id} id=${id} />`;
  if (kind === "runs" && id && tab === undefined) return html`<${RunPage} key=${id} id=${id} />`;
  if (kind === "runs" && id && tab in RUN_PAGES) {
    return html`<${RUN_PAGES[tab]} key=${`${id}/${tab}`} id=${id} query=${query} detail=${detail} />`;
  }
  if (kind === undefined || (kind === "runs" && !id)) return html`<${RunsPage} />`;
  return html`<p class="problem">There is no such page. <a href="#/">All runs</a></p>`;
}

function App() {
  const [hash, setHash] = useState(location.hash);
  const connected = useConnection();
  useEffect(() => {
    const follow = () => { setHash(location.hash); scrollTo(0, 0); };
    addEventListener("hashchange", follow);
    follow(); // it may have changed before anybody listened
    return () => removeEventListener("hashchange", follow);
  }, []);
  const place = placeOf(hash);
  useEffect(() => { document.title = [...place.parts, "Agent Lightning"].join(" · "); }, [hash]);
  return html`<header class="masthead"><a href="#/"><b>Agent Lightning</b></a>
      <span class=${connected ? "live" : "soft"}>${connected ? "live" : "not connected"}</span></header>
    <main><${Page} ...${place} /></main>`;
}

render(html`<${App} />`, document.body);
