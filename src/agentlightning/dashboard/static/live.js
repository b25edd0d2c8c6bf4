// Data from the server, fetched again when the store has something new about it.
import { useEffect, useState } from "./vendor/htm-preact.js";

const listeners = new Set();
const watchers = new Set();
let source = null;
let isConnected = false;

function connect() {
  source = new EventSource("api/events");
  source.onopen = () => tell(true);
  source.onerror = () => tell(false); // the browser connects again by itself
  source.onmessage = (event) => {
    const runs = JSON.parse(event.data);
    for (const listener of listeners) listener(runs);
  };
}

function tell(connected) {
  if (connected && !isConnected) for (const listener of listeners) listener(null); // what was missed meanwhile
  isConnected = connected;
  for (const watcher of watchers) watcher(connected);
}

function listen(listener) {
  if (source === null) connect();
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Is the server there? */
export function useConnection() {
  const [connected, setConnected] = useState(isConnected);
  useEffect(() => {
    watchers.add(setConnected);
    return () => watchers.delete(setConnected);
  }, []);
  return connected;
}

export async function fetchJson(path, options) {
  const answer = await fetch(path, options);
  if (answer.status === 401) throw new Error(await answer.text());
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error);
  return body;
}

/** Send a JSON body. */
export function post(path, body) {
  return fetchJson(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
}

/** {data, error}; data stays while it is fetched again. `run`: only news of that run matter (none: all). */
export function useJson(path, run) {
  const [state, setState] = useState({ path: null });
  useEffect(() => {
    let isGone = false, isBusy = false, isStale = false;
    async function load() {
      if (isBusy) { isStale = true; return; }
      isBusy = true;
      try {
        const data = await fetchJson(path);
        if (!isGone) setState({ path, data });
      } catch (error) {
        if (!isGone) setState((before) => ({ ...(before.path === path ? before : {}), path, error: error.message }));
      }
      isBusy = false;
      if (isStale && !isGone) { isStale = false; load(); }
    }
    load();
    const stop = listen((runs) => { if (runs === null || run === undefined || runs.includes(run)) load(); });
    return () => { isGone = true; stop(); };
  }, [path, run]);
  return state.path === path ? state : {};
}
