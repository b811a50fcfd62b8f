// The workers, and which key groups each owns.

import { chart, ownershipLayout } from "./charts.js";
import { byTest, element, fillTable, setAttribute, setShown, setText, svgElement, syncKeyed } from "./dom.js";
import { NONE, count, duration, id, plural, range } from "./format.js";

const SAMPLES = 6;
const samples = new Map();

function sample(job) {
  const key = (worker) => `${job.generation}/${worker.worker}`;
  const live = new Set(job.workers.map(key));
  for (const old of [...samples.keys()]) if (!live.has(old)) samples.delete(old);
  for (const worker of job.workers) {
    const seen = samples.get(key(worker)) ?? [];
    // Steps come with heartbeats, which may be rarer than polls.
    const heard = job.now_unix_ms - (worker.silent_ms ?? 0);
    if (worker.steps !== seen.at(-1)?.steps) seen.push({ at: heard, steps: worker.steps });
    samples.set(key(worker), seen.slice(-SAMPLES));
  }
}

// Steps a second over the last heartbeats; `null` until there are two.
function rate(job, worker) {
  const seen = samples.get(`${job.generation}/${worker.worker}`) ?? [];
  const [first, last] = [seen[0], seen.at(-1)];
  const span = last ? last.at - first.at : 0;
  return span > 0 ? Math.max(0, (last.steps - first.steps) * 1000 / span) : null;
}

function stateOf(worker, job) {
  if (!worker.registered) return ["missing", "not registered"];
  if (job.state === "restoring" && job.missing_workers.includes(worker.worker)) return ["missing", "restores"];
  return worker.drained ? ["drained", "no more input"] : ["working", "runs"];
}

function fillState(cell, { worker, job }) {
  if (!cell.firstChild) cell.append(element("span", { class: "tag" }));
  const [status, text] = stateOf(worker, job);
  setText(cell.firstChild, text);
  setAttribute(cell.firstChild, "data-status", status);
}

function fillHeard(cell, { worker, job }) {
  const { heartbeat_interval_ms: interval, heartbeat_timeout_ms: timeout } = job.options;
  const isLate = worker.silent_ms !== null && worker.silent_ms > 1.5 * interval;
  setAttribute(cell, "data-warn", isLate ? "" : null);
  const silent = duration(worker.silent_ms);
  setText(cell, worker.silent_ms === null ? NONE : isLate ? `silent for ${silent} of ${duration(timeout, true)}` : `${silent} ago`);
}

const WORKERS = [
  ["worker", "head-number", (_, { worker }) => id(worker.worker)],
  ["name", "data", (_, { worker }) => worker.name || NONE],
  ["state", "text", fillState],
  ["steps", "number", (_, { worker }) => count(worker.steps)],
  ["rate", "number", (_, { worker, job }) => count(rate(job, worker))],
  ["heard", "number", fillHeard],
];

const GROUPS = [
  ["operator", "head-data", (_, part) => part.operator],
  ["worker", "number", (_, part) => id(part.worker)],
  ["groups", "number", (_, part) => range(part.first, part.last)],
  ["how-many", "number", (_, part) => count(part.last - part.first + 1)],
];

function partsOf(operator) {
  return operator.key_groups.flatMap((groups, worker) => {
    if (!Array.isArray(groups) || groups[1] < groups[0]) return [];
    return [{ operator: operator.operator, worker, first: groups[0], last: groups[1] }];
  });
}

const charts = new WeakMap();

function newOperator() {
  const figure = element("figure");
  const caption = element("figcaption");
  caption.append(element("span", { class: "data strong" }), element("span", { class: "legend" }));
  const svg = svgElement("svg");
  svg.setAttribute("role", "img");
  const ends = element("p", { class: "ends" });
  ends.append(element("span"), element("span", { class: "readout" }), element("span"));
  figure.append(caption, svg, ends);
  charts.set(figure, chart(figure, ownershipLayout, { height: 26, resting: () => "" }));
  return figure;
}

function updateOperator(figure, operator) {
  const [name, size] = figure.querySelector("figcaption").children;
  const [first, , last] = figure.querySelector(".ends").children;
  setAttribute(figure, "data-operator", operator.operator);
  setText(name, operator.operator);
  setText(size, plural(operator.max_parallelism, "key group"));
  setText(first, "0");
  setText(last, String(operator.max_parallelism - 1));
  charts.get(figure)({ parts: partsOf(operator), size: operator.max_parallelism, name: operator.operator });
}

function showGroups(job) {
  const has = job.operators.length > 0;
  const details = byTest("key-groups-details");
  setShown(byTest("key-groups-empty"), !has);
  setText(byTest("key-groups-empty"), "No operator with keyed state is known yet.");
  setShown(byTest("key-groups"), has);
  setShown(details, has);
  syncKeyed(byTest("key-groups"), job.operators, (operator) => operator.operator, newOperator, updateOperator);
  fillTable(byTest("key-groups-table"), GROUPS, job.operators.flatMap(partsOf), (part) => `${part.operator}/${part.worker}`);
}

export function showWorkers(job) {
  sample(job);
  const table = byTest("workers-table");
  setShown(byTest("workers-empty"), job.workers.length === 0);
  setText(byTest("workers-empty"), job.workers.length ? "" : "No workers are at it.");
  setShown(table, job.workers.length > 0);
  setShown(table.parentElement, job.workers.length > 0);
  fillTable(table, WORKERS, job.workers.map((worker) => ({ worker, job })), ({ worker }) => String(worker.worker));
  showGroups(job);
}
