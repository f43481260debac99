// Refreshes the page every two seconds while somebody looks at it. Everything that a caller may
// have said is put in as text, never as markup.
"use strict";

const REFRESH_MS = 2000;
const TIMEOUT_MS = 5000;
const MESSAGES_SHOWN = 20;

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

// Replaces a list only when its data has changed: focus and selection stay where they are.
const shown = new Map();
function setList(id, data, make) {
  const key = JSON.stringify(data);
  if (shown.get(id) === key) return;
  shown.set(id, key);
  byId(id).replaceChildren(...data.map(make));
}

async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!answer.ok && path !== "/readyz") throw new Error((await answer.text()).trim());
  return answer.json();
}

function showHealth(health) {
  byId("health").dataset.state = health.ready ? "ready" : "bad";
  setText(byId("health"), health.ready ? "Ready for calls" : "Cannot take calls");
  showNotes([...health.reasons, ...health.warnings]);
}

function showNotes(notes) {
  setList("notes", notes, (note) => element("li", note));
  byId("notes").hidden = notes.length === 0;
}

function showChildren(children) {
  const sum = (name, kind) => children
    .filter((child) => !kind || child.kind === kind)
    .reduce((total, child) => total + child[name], 0);
  setText(byId("calls"), String(sum("calls", "worker")));
  setText(byId("capacity"), String(sum("capacity", "worker")));
  const ready = children.filter((child) => child.state === "ready").length;
  setText(byId("ready"), `${ready} of ${children.length}`);
  setText(byId("restarts"), String(sum("restarts")));
  setList("children", children, childRow);
}

function childRow(child) {
  const state = element("td", "");
  state.append(element("span", child.state, { class: "state", "data-state": child.state }));
  const numbers = [
    child.capacity ? `${child.calls} of ${child.capacity}` : "–",
    child.loop_lag_ms.toFixed(1),
    child.heartbeat_age_ms.toFixed(0),
    child.restarts,
    child.rss_mb === null ? "–" : child.rss_mb.toFixed(0),
    child.pid || "–",
  ];
  const row = document.createElement("tr");
  row.append(
    element("th", `${child.kind} ${child.slot}`, { scope: "row" }),
    state,
    ...numbers.map((value) => element("td", String(value), { class: "number" })),
  );
  return row;
}

function messageItem(message) {
  const at = new Date(message.at_ms);
  const item = document.createElement("li");
  const facts = document.createElement("dl");
  const pairs = Object.entries(message.fields);
  if (message.caller_number) pairs.unshift(["calling from", message.caller_number]);
  for (const [name, value] of pairs) {
    facts.append(element("dt", name.replaceAll("_", " ")), element("dd", value, { dir: "auto" }));
  }
  item.append(element("time", at.toLocaleString(), { datetime: at.toISOString() }), facts);
  return item;
}

async function refresh() {
  try {
    const [health, workers] = await Promise.all([ask("/readyz"), ask("/api/workers")]);
    showHealth(health);
    showChildren(workers.children);
    setText(byId("refreshed"), `Refreshed ${new Date().toLocaleTimeString()}`);
  } catch {
    byId("health").dataset.state = "unknown";
    setText(byId("health"), "The console does not answer");
    return;
  }
  try {
    const { messages } = await ask(`/api/messages?limit=${MESSAGES_SHOWN}`);
    setList("messages", messages, messageItem);
    setText(byId("messages-empty"), "No messages yet.");
    byId("messages-empty").hidden = messages.length > 0;
  } catch (error) {
    byId("messages-empty").hidden = false;
    setText(byId("messages-empty"), `Messages cannot be read: ${error.message}`);
  }
}

async function run() {
  if (!document.hidden) await refresh();
  setTimeout(run, REFRESH_MS);
}

run();
