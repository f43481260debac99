// The page: follows the gateway's events and draws what has changed. Everything that a caller may
// have said is put in as text, never as markup.

import { Softphone, milliseconds } from "/softphone.js";

const RETRY_MS = 2000;
const LIST_LIMIT = 100;
const LISTS_EVERY_MS = 3000;
const LIVE_ROWS_MAX = 400;
const MINUTE_MS = 60_000;
const MINUTES = 60;
const TURNS = { listening: "Listening", caller: "Caller speaks", thinking: "Thinking", assistant: "Assistant speaks" };
const PARTIES = { caller: "Caller", assistant: "Assistant" };
const THEMES = ["auto", "light", "dark"];
const TOKEN = "console-token";
const THEME = "console-theme";

const byId = (id) => document.getElementById(id);

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// Only what differs is written, so that a screen reader is not told the same thing again.
function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

// Of a list only the items that have changed are made anew: what is open stays open, and focus and
// selection stay where they are.
const shown = new Map();
function setList(id, data, make) {
  const before = shown.get(id) ?? new Map();
  const now = new Map();
  for (const item of data) {
    let key = JSON.stringify(item);
    while (now.has(key)) key += "+";
    now.set(key, before.get(key) ?? make(item));
  }
  shown.set(id, now);
  for (const [key, node] of before) if (!now.has(key)) node.remove();
  const list = byId(id);
  let place = 0;
  for (const node of now.values()) {
    if (list.children[place] !== node) list.insertBefore(node, list.children[place] ?? null);
    place += 1;
  }
}

function duration(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

function moment(ms) {
  const at = new Date(ms);
  const format = { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" };
  return element("time", at.toLocaleString([], format), { datetime: at.toISOString() });
}

// Asking

async function ask(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  const answer = await fetch(path, { ...options, headers });
  if (answer.status === 401) {
    await signIn(token ? "That token is not the right one." : "");
    return ask(path, options);
  }
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer;
}

let signingIn = null;
function signIn(trouble) {
  signingIn ??= new Promise((resolve) => {
    const dialog = byId("sign-in");
    setText(byId("sign-in-trouble"), trouble);
    byId("token").value = "";
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(TOKEN, byId("token").value.trim());
      signingIn = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return signingIn;
}

// Following

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (waiting + value).split("\n\n");
    waiting = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").find((line) => line.startsWith("data: "));
      if (data) yield { whole: block.startsWith("event: whole"), data: JSON.parse(data.slice(6)) };
    }
  }
}

async function follow() {
  for (;;) {
    try {
      const answer = await ask("/api/live");
      for await (const { whole, data } of events(answer.body)) show(data, whole);
    } catch (error) {
      console.warn(error);
    }
    byId("health").dataset.state = "unknown";
    setText(byId("health"), "Reconnecting …");
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

function show(data, whole) {
  showHealth(data.readiness);
  showCalls(data, whole);
  showFigures(data);
  showChart(data.latency);
  setList("children", data.children, childRow);
  showLists(data.version);
}

let obstacle = "the public port cannot be reached";

function showHealth(health) {
  obstacle = health.reasons.join(", ") || "the public port refused this page, or cannot be reached";
  const state = health.ready ? (health.degraded ? "starting" : "ready") : "bad";
  byId("health").dataset.state = state;
  setText(byId("health"), { ready: "Ready", starting: "Degraded", bad: "Cannot take calls" }[state]);
  const notes = [...health.reasons, ...health.warnings];
  setList("notes", notes, (note) => element("li", note));
  byId("notes").hidden = notes.length === 0;
}

// Live calls

const live = new Map();

function showCalls({ calls, gone, levels }, whole) {
  if (whole) for (const call of live.values()) call.row.remove();
  if (whole) live.clear();
  for (const id of gone) {
    live.get(id)?.row.remove();
    live.delete(id);
  }
  for (const call of calls) showCall(call);
  for (const [id, state, caller, assistant] of levels) {
    const cells = live.get(id);
    if (!cells) continue;
    cells.turn.dataset.turn = state;
    setText(cells.turn, TURNS[state]);
    cells.caller.value = caller;
    cells.assistant.value = assistant;
    if (cells.startedMs) setText(cells.time, duration(Date.now() - cells.startedMs));
  }
  const hidden = live.size - LIVE_ROWS_MAX;
  byId("live-more").hidden = hidden <= 0;
  setText(byId("live-more"), hidden > 0 ? `${hidden} more calls are not listed.` : "");
  byId("live-empty").hidden = live.size > 0;
  byId("live-scroll").hidden = live.size === 0;
}

function showCall(call) {
  const cells = live.get(call.call_id) ?? addCall(call.call_id);
  cells.startedMs = call.started_at_ms;
  setText(cells.who, nameOf(call));
  setText(cells.about, [call.language, call.wire, call.responder].filter(Boolean).join(" · "));
  setText(cells.response, call.response_ms === null ? "–" : milliseconds(call.response_ms));
  cells.words.replaceChildren(
    ...said({ role: "caller", text: call.caller_text, heard_text: null }, true),
    ...said({ role: "assistant", text: call.assistant_text, heard_text: call.heard_text }, true),
  );
}

function nameOf({ caller_number: number, call_id: id }) {
  if (number) return number;
  if (id.startsWith("web-")) return "Softphone";
  return id.length > 16 ? `${id.slice(0, 14)}…` : id;
}

function addCall(id) {
  const who = element("span", "", { class: "who" });
  const about = element("small", "");
  const head = element("th", "", { scope: "row", title: id });
  head.append(who, about);
  const turn = element("span", "", { class: "turn" });
  const turnCell = element("td", "");
  turnCell.append(turn);
  const words = element("td", "", { class: "words" });
  const [caller, assistant] = ["Caller", "Assistant"].map((party) =>
    element("meter", "", { min: "-60", max: "0", value: "-60", "aria-label": `${party}'s level`, title: party }));
  const levels = element("td", "", { class: "levels" });
  for (const meter of [caller, assistant]) {
    const line = element("div", "");
    line.append(element("span", meter.title, { "aria-hidden": "true" }), meter);
    levels.append(line);
  }
  const response = element("td", "–", { class: "number" });
  const time = element("td", "", { class: "number" });
  const row = element("tr", "");
  row.append(head, turnCell, words, levels, response, time);
  const cells = { row, who, about, turn, words, caller, assistant, response, time };
  live.set(id, cells);
  if (live.size <= LIVE_ROWS_MAX) byId("live-calls").prepend(row);
  return cells;
}

// What somebody said; of an interrupted answer, what was not heard any more is struck through.
function said({ role, text, heard_text: heard }, named = false) {
  if (!text) return [];
  const line = element("p", "", { dir: "auto", class: role, title: text });
  if (named) line.append(element("b", PARTIES[role]), " ");
  const cut = heard === null ? text.length : commonLength(text, heard);
  line.append(element("span", text.slice(0, cut)));
  if (cut < text.length) {
    const lost = element("s", "", { title: "not heard: interrupted" });
    lost.append(element("span", " [not heard:] ", { class: "unseen" }), text.slice(cut));
    line.append(lost);
  }
  return [line];
}

function commonLength(text, other) {
  let length = 0;
  while (length < other.length && text[length] === other[length]) length += 1;
  return length;
}

function showFigures({ children, hour }) {
  const workers = children.filter((child) => child.kind === "worker");
  const sum = (name) => workers.reduce((total, child) => total + child[name], 0);
  setText(byId("calls"), String(live.size));
  setText(byId("capacity"), `room for ${sum("capacity")}`);
  setText(byId("count-live"), live.size ? String(live.size) : "");
  setText(byId("p50"), hour.count ? milliseconds(hour.p50_ms) : "–");
  setText(byId("p95"), hour.count ? milliseconds(hour.p95_ms) : "–");
  setText(byId("answers"), String(hour.count));
}

// The chart

const CHART = { width: 720, height: 180, left: 52, right: 8, top: 8, bottom: 24 };
const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.textContent = text;
  return made;
}

function scaleFor(most) {
  const steps = [100, 200, 250, 500, 1000, 2000, 2500, 5000, 10_000];
  const step = steps.find((size) => size * 4 >= most) ?? most / 4;
  return { step, top: step * 4 };
}

let chartKey = "";
let chartMinutes = [];
function showChart(minutes) {
  const now = Math.floor(Date.now() / MINUTE_MS);
  const key = JSON.stringify([now, minutes]);
  if (key === chartKey) return;
  chartKey = key;
  chartMinutes = minutes;
  const { width, height, left, right, top, bottom } = CHART;
  const { step, top: most } = scaleFor(Math.max(400, ...minutes.map((minute) => minute.p95_ms)));
  const x = (minute) => left + ((minute.at_ms / MINUTE_MS - now + MINUTES - 1) / (MINUTES - 1)) * (width - left - right);
  const y = (ms) => height - bottom - (ms / most) * (height - top - bottom);
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart" });
  for (let ms = 0; ms <= most; ms += step) {
    drawing.append(
      svg("line", { x1: left, x2: width - right, y1: y(ms), y2: y(ms), class: "grid" }),
      svg("text", { x: left - 8, y: y(ms) + 4, "text-anchor": "end" }, milliseconds(ms)),
    );
  }
  for (const ago of [60, 45, 30, 15, 0]) {
    const at = left + ((60 - ago) / 60) * (width - left - right);
    const anchor = ago === 0 ? "end" : ago === 60 ? "start" : "middle";
    drawing.append(svg("text", { x: at, y: height - 6, "text-anchor": anchor }, ago ? `${ago} min ago` : "now"));
  }
  for (const name of ["p95", "p50"]) {
    const points = minutes.map((minute) => `${x(minute).toFixed(1)},${y(minute[`${name}_ms`]).toFixed(1)}`);
    drawing.append(svg("polyline", { points: points.join(" "), class: `line ${name}` }));
    for (const point of points) {
      const [cx, cy] = point.split(",");
      drawing.append(svg("circle", { cx, cy, r: 2.5, class: `dot ${name}` }));
    }
  }
  byId("chart").replaceChildren(drawing);
  const last = minutes.at(-1);
  byId("chart").setAttribute("aria-label", last ? inWords(minutes) : "No answers in the last hour");
  setText(byId("chart-reading"), last ? reading(last) : "No answers in the last hour.");
}

function inWords(minutes) {
  const { p50_ms: p50, p95_ms: p95 } = minutes.at(-1);
  const medians = minutes.map((minute) => minute.p50_ms);
  const [least, most] = [Math.min(...medians), Math.max(...medians)].map(milliseconds);
  return `Response time. Latest minute: median ${milliseconds(p50)}, 95th percentile ${milliseconds(p95)}. `
    + `Last hour: medians of ${minutes.length} minutes between ${least} and ${most}.`;
}

const reading = ({ at_ms: at, count, p50_ms: p50, p95_ms: p95 }) =>
  `${new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })} — median ${milliseconds(p50)}, `
  + `95th percentile ${milliseconds(p95)}, ${count} ${count === 1 ? "answer" : "answers"}`;

byId("chart").addEventListener("pointermove", (event) => {
  if (!chartMinutes.length) return;
  const box = byId("chart").getBoundingClientRect();
  const share = ((event.clientX - box.left) / box.width) * CHART.width - CHART.left;
  const ago = MINUTES * (1 - share / (CHART.width - CHART.left - CHART.right));
  const at = Date.now() - ago * MINUTE_MS;
  const distance = (minute) => Math.abs(minute.at_ms - at);
  const nearest = chartMinutes.reduce((best, minute) => (distance(minute) < distance(best) ? minute : best));
  setText(byId("chart-reading"), reading(nearest));
});

// Processes

function childRow(child) {
  const state = element("td", "");
  state.append(element("span", child.state, { class: "state", "data-state": child.state }));
  const load = element("td", "", { class: "load" });
  if (child.cpu_percent !== null) {
    const percent = Math.round(child.cpu_percent);
    load.append(
      element("meter", "", { min: "0", max: "100", high: "80", value: String(percent), "aria-label": "Load" }),
      element("span", `${percent} %`),
    );
  }
  const known = (value, digits = 0) => (value === null ? "–" : value.toFixed(digits));
  const running = child.pid > 0;
  const numbers = [
    child.capacity ? `${child.calls} / ${child.capacity}` : "–",
    running ? known(child.tick_ms ?? child.loop_lag_ms, 1) : "–",
    known(child.batch_frames, 1),
    String(child.restarts),
    known(child.rss_mb),
    running ? String(child.pid) : "–",
  ];
  const row = element("tr", "");
  row.append(
    element("th", `${child.kind} ${child.slot}`, { scope: "row" }),
    state,
    load,
    ...numbers.map((value) => element("td", value, { class: "number" })),
  );
  return row;
}

// Messages and past calls: asked for when they have changed and are looked at.

const seen = { calls: null, messages: null };
const asked = { calls: 0, messages: 0 };
let version = null;

function showLists(now) {
  version = now;
  refresh("messages", showMessages);
  if (!byId("view-calls").hidden) refresh("calls", showPastCalls);
}

async function refresh(name, draw) {
  if (seen[name] === version || (seen[name] !== null && Date.now() - asked[name] < LISTS_EVERY_MS)) return;
  seen[name] = version;
  asked[name] = Date.now();
  const empty = byId(`${name}-empty`);
  try {
    const answer = await ask(`/api/${name}?limit=${LIST_LIMIT}`);
    draw((await answer.json())[name]);
  } catch (error) {
    seen[name] = null;
    empty.hidden = false;
    setText(empty, `They cannot be read: ${error.message}`);
  }
}

let messages = [];
function showMessages(found) {
  messages = found;
  drawMessages();
}

function drawMessages() {
  const open = messages.filter((message) => message.done_at_ms === null);
  const listed = byId("show-done").checked ? messages : open;
  setText(byId("count-messages"), open.length ? String(open.length) : "");
  setList("messages", listed, messageItem);
  byId("messages-empty").hidden = listed.length > 0;
  setText(byId("messages-empty"), messages.length ? "Nothing is left to do." : "No messages yet.");
}

function messageItem(message) {
  const done = message.done_at_ms !== null;
  const item = element("li", "", { class: done ? "card done" : "card" });
  const facts = element("dl", "");
  for (const [name, value] of Object.entries(message.fields)) {
    const pair = element("div", "");
    pair.append(element("dt", name.replaceAll("_", " ")), element("dd", value, { dir: "auto" }));
    facts.append(pair);
  }
  const head = element("div", "", { class: "head" });
  const from = element("p", `From ${nameOf(message)} · `, { class: "from" });
  from.append(moment(message.at_ms));
  const button = element("button", done ? "Reopen" : "Mark done", { type: "button" });
  button.onclick = () => mark(message, !done, button);
  head.append(from, button);
  item.append(head, facts);
  return item;
}

async function mark({ call_id, sequence }, done, button) {
  button.disabled = true;
  try {
    await ask("/api/messages/done", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ call_id, sequence, done }),
    });
    seen.messages = null;
    await refresh("messages", showMessages);
    if (document.activeElement === document.body) { // the button went with its message
      (byId("messages").querySelector("button") ?? byId("show-done")).focus();
    }
  } catch (error) {
    button.disabled = false;
    setText(button, `Not done: ${error.message}`);
  }
}

byId("show-done").onchange = drawMessages;
byId("export").onclick = async () => {
  try {
    const answer = await ask("/api/messages.csv");
    const link = element("a", "", { href: URL.createObjectURL(await answer.blob()), download: "messages.csv" });
    link.click();
    URL.revokeObjectURL(link.href);
    setText(byId("export"), "Export CSV");
  } catch (error) {
    setText(byId("export"), `Not exported: ${error.message}`);
  }
};

function showPastCalls(calls) {
  const ended = calls.filter((call) => call.ended_at_ms !== null);
  setList("past-calls", ended, pastCall);
  byId("calls-empty").hidden = ended.length > 0;
}

function pastCall(call) {
  const item = element("li", "", { class: "card" });
  const details = element("details", "");
  const summary = element("summary", "");
  summary.append(
    element("span", nameOf(call), { class: "who", title: call.call_id }),
    element("span", [call.language, call.wire, call.responder].filter(Boolean).join(" · "), { class: "about" }),
    element("span", `${call.turns.length} ${call.turns.length === 1 ? "turn" : "turns"}`),
    element("span", call.end_reason ?? ""),
    element("span", duration(call.duration_ms ?? 0), { class: "number" }),
  );
  if (call.started_at_ms) summary.append(moment(call.started_at_ms));
  const turns = element("ol", "", { class: "captions" });
  for (const { role, text, heard_text, times } of call.turns) {
    const turn = element("li", "", { class: role });
    const waited = times && times.response_ms >= 0 ? ` · after ${milliseconds(times.response_ms)}` : "";
    turn.append(element("span", PARTIES[role] + waited, { class: "who" }));
    turn.append(...said({ role, text, heard_text: role === "assistant" ? heard_text : null }));
    turns.append(turn);
  }
  if (!call.turns.length) turns.append(element("li", "Nothing was said.", { class: "empty" }));
  details.append(summary, turns);
  item.append(details);
  return item;
}

// Views and theme

const views = [...document.querySelectorAll("nav [data-view]")].map((link) => link.dataset.view);

function choose(move) {
  const asked = location.hash.slice(1);
  const chosen = views.includes(asked) ? asked : "live";
  for (const link of document.querySelectorAll("nav [data-view]")) {
    const isChosen = link.dataset.view === chosen;
    byId(`view-${link.dataset.view}`).hidden = !isChosen;
    if (isChosen) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (move) byId("main").focus({ preventScroll: true });
  if (chosen === "calls") refresh("calls", showPastCalls);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem(THEME, theme);
  setText(byId("theme"), `Theme: ${theme}`);
}

byId("theme").onclick = () => {
  const at = THEMES.indexOf(document.documentElement.dataset.theme);
  setTheme(THEMES[(at + 1) % THEMES.length]);
};

async function address() {
  const { scheme, port, token } = await (await ask("/api/softphone")).json();
  return { url: `${scheme}://${location.hostname}:${port}/plain`, token };
}

const theme = localStorage.getItem(THEME);
setTheme(THEMES.includes(theme) ? theme : "auto");
window.addEventListener("hashchange", () => choose(true));
choose(false);
new Softphone({ root: byId("phone"), address, obstacle: () => obstacle });
follow();
