// The worker's page: asks the API once a second and shows what it says.
// Keys and values are anybody's text: they reach the document through textContent only.

import { element, exact, number, pieces, plain, some, windowsPieces } from "./values.js";

const ROWS = 12;
const EVERY_MS = 1000;
const PATIENCE_MS = 5000;
// Characters of a value in a row, and in one that is open: a huge one would stop the browser.
const SHORT = 1000;
const LONG = 30000;

const $ = (id) => document.getElementById(id);

// --- data ----------------------------------------------------------------------------------------

async function get(path) {
  const response = await fetch(path, { signal: AbortSignal.timeout(PATIENCE_MS), cache: "no-store" });
  const body = JSON.parse(await response.text(), exact);
  if (!response.ok) throw new Error(body.title ?? response.statusText);
  return body;
}

// --- document ------------------------------------------------------------------------------------

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Make the children of `parent` those of `items`, in their order; a child stays the same element.
function reconcile(parent, items, keyOf, make, update) {
  const known = (parent.known ??= new Map());
  const wanted = new Set(items.map(keyOf));
  for (const [key, child] of known) {
    if (!wanted.has(key)) {
      child.remove();
      known.delete(key);
    }
  }
  let next = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let child = known.get(key);
    if (!child) known.set(key, (child = make(item)));
    update(child, item);
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
  }
}

const cells = (count) => () => {
  const row = element("tr");
  for (let at = 0; at < count; at += 1) row.append(element("td"));
  return row;
};

function fill(row, texts, classes = []) {
  texts.forEach((text, at) => {
    setText(row.cells[at], text);
    row.cells[at].className = classes[at] ?? "";
  });
}

// --- header --------------------------------------------------------------------------------------

const samples = [];

function rate(now) {
  samples.push(now);
  if (samples.length > 6) samples.shift();
  const [first] = samples;
  if (now.events < first.events) samples.splice(0, samples.length - 1);
  const seconds = (now.now_ms - first.now_ms) / 1000;
  return seconds > 0 && now.events >= first.events ? (now.events - first.events) / seconds : null;
}

function showStatus(status, agents, partitions) {
  document.title = `${status.app} · streamapp`;
  setText($("app"), status.app);
  setText($("where"), `${status.worker} · ${status.broker.join(", ")}`);
  setText($("version"), `streamapp ${status.version}`);
  $("phase").dataset.phase = status.phase;
  setText($("phase"), status.phase);
  const perSecond = rate(status);
  const lag = partitions.filter((each) => each.owned).reduce((sum, each) => sum + each.lag, 0);
  const errors = agents.reduce((sum, each) => sum + total(each.errors), 0);
  const owned = partitions.filter((each) => each.owned).length;
  const figures = [
    ["events/s", perSecond === null ? "…" : number(Math.round(perSecond))],
    ["events", number(status.events)],
    ["lag", number(lag)],
    ["errors", number(errors), errors > 0],
    ["partitions here", `${owned} of ${partitions.length}`],
    ["workers", String(status.group?.members.length ?? 0)],
    ["last commit", status.commits ? `${(status.commits.last_seconds * 1000).toFixed(1)} ms` : "…"],
  ];
  reconcile($("figures"), figures, ([name]) => name,
    ([name]) => element("div", {}, element("dt", {}, name), element("dd")),
    (child, [, text, isBad]) => {
      setText(child.lastElementChild, text);
      child.className = isBad ? "bad" : "";
    });
}

function banner(text, isBad = false) {
  $("banner").hidden = !text;
  $("banner").className = isBad ? "bad" : "";
  setText($("banner"), text);
}

function showProblem(status, missing) {
  const old = missing.length ? `Some of this is old: ${missing.join("; ")}` : "";
  if (status.phase === "running") {
    const waits = status.waiting_for.length ? `Agents wait: ${status.waiting_for.join("; ")}` : "";
    banner([status.problem, waits, old].filter(Boolean).join(" · "));
    return;
  }
  const { restore } = status;
  const done = restore && !restore.is_done && restore.total
    ? ` ${number(restore.records)} of ${number(restore.total)} records restored` +
      ` (${Math.floor((100 * restore.records) / restore.total)} %), about ${Math.ceil(restore.seconds_left ?? 0)} s left.`
    : "";
  banner([`The worker is ${status.phase}.${done} ${status.problem}`.trim(), old].filter(Boolean).join(" · "));
}

// --- tables --------------------------------------------------------------------------------------

const visible = new Set();
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting) visible.add(entry.target);
    else visible.delete(entry.target);
  }
}, { rootMargin: "300px" });

// Rows open by a click, or by Enter and Space. One of a table is a stop of Tab; arrows go to the others.
function makeBody() {
  const body = element("tbody");
  const toggle = (row) => {
    row.classList.toggle("open");
    draw(row);
  };
  body.onclick = ({ target }) => toggle(target.closest("tr"));
  body.addEventListener("focusin", ({ target }) => {
    for (const row of body.rows) row.tabIndex = row === target ? 0 : -1;
  });
  body.onkeydown = (event) => {
    const row = event.target;
    const next = { ArrowDown: row.nextElementSibling, ArrowUp: row.previousElementSibling }[event.key];
    if (event.key === "Enter" || event.key === " ") toggle(row);
    else if (next) next.focus();
    else return;
    event.preventDefault();
  };
  return body;
}

function makeCard(about) {
  const api = `/api/v1/tables/${encodeURIComponent(about.name)}`;
  const head = element("header", {},
    element("div", { class: "name" },
      element("h3", {}, about.name),
      element("span", { class: "quiet" },
        element("a", { href: `${api}/rows`, "aria-label": `rows of ${about.name}` }, "rows"), " · ",
        element("a", { href: api, "aria-label": `about ${about.name}` }, "about"))),
    element("p", { class: "quiet" }, about.help),
    element("div", { class: "facts quiet" },
      element("span"), element("span"), element("span", { class: "partitions", role: "img" }), element("span", { class: "order" })));
  const body = element("table", { hidden: "", "aria-label": about.name },
    element("colgroup", {}, element("col", { class: "key" }), element("col"), element("col", { class: "partition" })),
    element("thead", {}, element("tr", {},
      element("th", {}, "Key"), element("th", {}, "Value"), element("th", { class: "n", title: "Partition" }, "Part."))),
    makeBody());
  const card = element("article", { class: "card", "data-table": about.name }, head, body,
    element("p", { class: "none quiet", hidden: "" }, "No rows yet"));
  watcher.observe(card);
  return card;
}

function countOf(about) {
  if (about.rows_at_least === null) return "";
  const rows = about.rows ?? about.rows_at_least;
  return `${about.rows === null ? "over " : ""}${number(rows)} ${rows === 1 ? "row" : "rows"}`;
}

function updateCard(card, about) {
  card.about = about;
  const [count, types, squares] = card.querySelector(".facts").children;
  const owned = new Set(about.owned);
  const isPart = about.partitions !== null && owned.size < about.partitions;
  setText(count, countOf(about) + (isPart ? " here" : ""));
  setText(types, `${about.key_type} → ${about.value_type}`);
  squares.setAttribute("aria-label", `${owned.size} of ${about.partitions ?? 0} partitions are here`);
  const numbers = [...Array(Math.min(about.partitions ?? 0, 64)).keys()];
  reconcile(squares, numbers, (each) => each, () => element("i"), (child, each) => {
    child.className = owned.has(each) ? "own" : "";
    child.title = `partition ${each}: ${owned.has(each) ? "this worker" : "another worker"}`;
  });
}

// A key has a row in each of its windows.
const shownKey = (about, item) => (about.holds_windows && "key" in item.value ? item.value.key : named(item));
const named = (item) => (item.window ? [item.key, new Date(Number(item.window.start_ms)).toJSON()] : item.key);
const collator = new Intl.Collator("en", { numeric: true });

// Names a row for as long as it is shown. Keys of several types may look alike, such as 1 and 1.0.
function identify(items) {
  const counts = new Map();
  for (const item of items) {
    const name = `${item.partition} ${plain(named(item))}`;
    counts.set(name, (counts.get(name) ?? 0) + 1);
    item.id = `${name} ${counts.get(name)}`;
  }
}

function draw(row) {
  const { about, item } = row;
  const most = row.classList.contains("open") ? LONG : SHORT;
  const values = (about.holds_windows ? windowsPieces : pieces)(item.value);
  row.cells[0].replaceChildren(...some(pieces(shownKey(about, item)), most));
  row.cells[1].replaceChildren(...some(values, most));
}

const makeCells = cells(3);

function makeRow() {
  const row = makeCells();
  row.tabIndex = -1;
  return row;
}

function showRows(card, items) {
  const { about } = card;
  const isAll = about.rows !== null && about.owned.length === about.partitions && items.length >= about.rows;
  // All rows are on the page: in the order of their keys they stay where they are.
  if (isAll) items.sort((a, b) => collator.compare(plain(named(a)), plain(named(b))) || a.partition - b.partition);
  setText(card.querySelector(".order"), isAll || !items.length ? "" : "newest first");
  const body = card.querySelector("tbody");
  card.querySelector(".none").hidden = items.length > 0;
  card.querySelector("table").hidden = items.length === 0;
  const focused = body.contains(document.activeElement) ? document.activeElement : null;
  identify(items);
  reconcile(body, items, ({ id }) => id, makeRow, (row, item) => {
    const text = plain(item.value);
    if (row.text === text) return;
    const isNew = row.text === undefined;
    Object.assign(row, { text, about, item });
    draw(row);
    row.cells[0].title = plain(named(item)).slice(0, 2000);
    row.cells[1].title = text.slice(0, 2000);
    row.cells[2].className = "n quiet";
    setText(row.cells[2], String(item.partition));
    if (isNew) return;
    row.classList.add("changed");
    row.onanimationend = () => row.classList.remove("changed");
  });
  const stop = [...body.rows].find((row) => row.tabIndex === 0) ?? body.rows[0];
  if (stop) stop.tabIndex = 0;
  // A row that moves, or goes, loses the focus.
  if (focused && focused !== document.activeElement) (focused.isConnected ? focused : stop)?.focus({ preventScroll: true });
}

// --- agents and partitions -----------------------------------------------------------------------

const total = (counts) => Object.values(counts).reduce((sum, each) => sum + each, 0);
const lastEvents = new Map();

function agentRate(agent) {
  const now = performance.now();
  const before = lastEvents.get(agent.name);
  const seconds = before ? (now - before.now) / 1000 : 0;
  if (!before || seconds > 3 || agent.events < before.events) lastEvents.set(agent.name, { now, events: agent.events });
  return before && seconds > 0.5 ? Math.max(agent.events - before.events, 0) / seconds : null;
}

function showAgents(agents) {
  reconcile($("agents"), agents, (each) => each.name, cells(8), (row, agent) => {
    const errors = total(agent.errors);
    const perSecond = agentRate(agent);
    if (perSecond !== null) row.rate = number(Math.round(perSecond));
    row.cells[0].title = agent.topics.join(", ");
    row.cells[4].title = Object.entries(agent.errors).map(([kind, count]) => `${kind}: ${count}`).join(", ");
    fill(row, [
      agent.name, agent.state, number(agent.events), row.rate ?? "…", number(errors),
      number(agent.retries), number(agent.dead_letters), agent.last_error,
    ], [
      "", agent.state === "failed" ? "bad" : "good", "n", "n", errors ? "n bad" : "n",
      "n", agent.dead_letters ? "n bad" : "n", "text",
    ]);
  });
}

function showPartitions(partitions) {
  reconcile($("partitions"), partitions, (each) => `${each.topic}/${each.partition}`, cells(6), (row, each) => {
    fill(row, [
      each.topic, String(each.partition), each.owned ? (each.paused ? "yes, paused" : "yes") : "no",
      each.committed === null ? "–" : number(each.committed), number(each.end), number(each.lag),
    ], ["", "n", each.owned ? "good" : "quiet", "n", "n", each.lag > 0 ? "n lag" : "n"]);
  });
}

// --- the loop ------------------------------------------------------------------------------------

async function refreshRows(card) {
  const { items } = await get(`/api/v1/tables/${encodeURIComponent(card.about.name)}/newest?limit=${ROWS}`);
  showRows(card, items);
}

// What the last answers said: a part that fails is shown as it was.
let known = { agents: [], partitions: [], tables: [] };
let failures = [];

// Only the status must come: it tells why the rest does not, such as a broker that is away.
async function refresh() {
  const missing = new Set();
  const orTell = (promise) => promise.catch((error) => { missing.add(error.message); });
  const [status, ...parts] = await Promise.all(
    [get("/api/v1/status"), ...Object.keys(known).map((name) => orTell(get(`/api/v1/${name}`)))]);
  known = Object.assign({}, known, ...parts);
  showStatus(status, known.agents, known.partitions);
  showProblem(status, failures);
  showAgents(known.agents);
  showPartitions(known.partitions);
  reconcile($("tables"), known.tables, (each) => each.name, makeCard, updateCard);
  await Promise.all([...visible].map((card) => orTell(refreshRows(card))));
  failures = [...missing];
  showProblem(status, failures);
}

async function run() {
  for (;;) {
    if (!document.hidden) {
      try {
        await refresh();
        document.body.classList.remove("stale");
      } catch (error) {
        document.body.classList.add("stale");
        $("phase").dataset.phase = "gone";
        setText($("phase"), "disconnected");
        samples.length = 0;
        banner(`The worker does not answer (${error.message}). What is below is old; trying again.`, true);
      }
    }
    await new Promise((resolve) => { setTimeout(resolve, EVERY_MS); });
  }
}

run();
