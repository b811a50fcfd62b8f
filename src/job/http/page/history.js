// Shared files and their growth, what happened to the job, and its options.

import { BYTES, areaLayout, chart, stepsLayout } from "./charts.js";
import { byTest, element, fillTable, foldable, setAttribute, setShown, setText, setTime, syncKeyed } from "./dom.js";
import { bytes, count, duration, id, moment, plural } from "./format.js";

let now = 0;

const GROWTH = [
  ["when", "head-text", (cell, point) => setTime(cell, point.at_unix_ms, now)],
  ["stored", "number", (_, point) => bytes(point.stored_bytes)],
  ["objects", "number", (_, point) => count(point.stored_objects)],
];

function fillKind(cell, event) {
  if (!cell.firstChild) cell.append(element("span", { class: "tag" }));
  setText(cell.firstChild, event.kind);
  setAttribute(cell.firstChild, "data-status", event.kind);
}

const EVENTS = [
  ["when", "head-text", (cell, event) => setTime(cell, event.at_unix_ms, now)],
  ["kind", "text", fillKind],
  ["generation", "number", (_, event) => id(event.generation)],
  ["text", "data", (_, event) => event.text],
];

function showShared({ shared }) {
  setText(byTest("shared-stored"), bytes(shared.stored_bytes));
  setText(byTest("shared-objects"), plural(shared.objects, "object"));
  setText(byTest("shared-referenced"), bytes(shared.referenced_bytes));
  setText(byTest("shared-ratio"), shared.dedupe_ratio === null ? "" : `${shared.dedupe_ratio.toFixed(1)} × what is stored`);
  setText(byTest("shared-in-flight"), count(shared.in_flight));
  setText(byTest("shared-condemned"), shared.condemned ? `${count(shared.condemned)} being deleted` : "none being deleted");
  setText(byTest("shared-failed"), count(shared.failed_deletes));
  setAttribute(byTest("shared-failed"), "data-warn", shared.failed_deletes ? "" : null);
}

export function growthPart() {
  const figure = byTest("growth-chart");
  const details = byTest("growth-details");
  const draw = chart(figure, areaLayout);
  let growth = [];
  // Up to 500 rows, that nobody sees while they are folded.
  const fill = () => {
    if (!details.open) return;
    fillTable(byTest("growth-table"), GROWTH, growth.toReversed(), (point) => String(point.at_unix_ms));
  };
  const says = (point) =>
    `${moment(point.at_unix_ms, now).text}: ${bytes(point.stored_bytes)} in ${plural(point.stored_objects, "object")}`;
  details.addEventListener("toggle", fill);
  return (job) => {
    now = job.now_unix_ms;
    growth = job.growth;
    showShared(job);
    const has = growth.length > 0;
    setShown(figure, has);
    setShown(details, has);
    setShown(byTest("growth-empty"), !has);
    const points = growth.map((point) => ({ at: point.at_unix_ms, value: point.stored_bytes, says: says(point) }));
    if (has) draw({ points, unit: BYTES, name: "Stored bytes over time" });
    fill();
  };
}

export function eventsPart() {
  const table = byTest("events");
  const keyOf = (event) => `${event.at_unix_ms}/${event.kind}/${event.generation}`;
  const fill = foldable(table, byTest("events-more"), EVENTS, keyOf);
  return (job) => {
    now = job.now_unix_ms;
    setText(byTest("counts"), `Since this manager began: ${plural(job.failures, "failure")}, ${plural(job.restarts, "restart")}.`);
    setShown(byTest("events-empty"), job.events.length === 0);
    setShown(table.parentElement, job.events.length > 0);
    fill(job.events);
  };
}

const STEPS = [["pause", "pause"], ["start", "start"], ["restore", "restore"], ["first record", "resume"]];

function filesOf(recovery) {
  const part = (files, size, what) => (files ? [`${plural(files, "file")} ${what}, ${bytes(size)}`] : []);
  const parts = [
    ...part(recovery.fetched_files, recovery.fetched_bytes, "fetched"),
    ...part(recovery.linked_files, recovery.linked_bytes, "linked"),
  ];
  return parts.join("; ") || "nothing to fetch";
}

// How the newest workers came to run.
export function recoveryPart() {
  const figure = byTest("recovery");
  const draw = chart(figure, stepsLayout, { height: 26, resting: () => "" });
  return ({ recovery }) => {
    const steps = STEPS.flatMap(([name, field]) => {
      const ms = recovery[`${field}_ms`];
      setText(byTest(`recovery-${field}`), duration(ms));
      return ms === null ? [] : [{ name, ms, says: `${name}: ${duration(ms)}` }];
    });
    setText(byTest("recovery-files"), filesOf(recovery));
    setText(byTest("recovery-total"), recovery.total_ms === null ? "" : `${duration(recovery.total_ms)} in all`);
    setShown(figure, steps.length > 0);
    setShown(byTest("recovery-steps"), steps.length > 0);
    if (steps.length) draw({ steps, label: `How the workers came to run. ${steps.map(({ says }) => says).join(", ")}.` });
  };
}

const exact = (ms) => duration(ms, true);

const OPTIONS = [
  ["Checkpoint interval", (o) => (o.interval_ms === null ? "by hand only" : exact(o.interval_ms))],
  ["Pause between checkpoints", (o) => (o.min_pause_ms ? `at least ${exact(o.min_pause_ms)}` : "none")],
  ["Checkpoint timeout", (o) => exact(o.timeout_ms)],
  ["Checkpoints at once", (o) => `at most ${count(o.max_concurrent)}`],
  ["Failures in a row tolerated", (o) => count(o.tolerable_failures)],
  ["Heartbeat interval", (o) => exact(o.heartbeat_interval_ms)],
  ["Heartbeat timeout", (o) => exact(o.heartbeat_timeout_ms)],
  ["Restart strategy", (o) => o.restart],
  ["Retention", (o) => o.retention],
];

function newOption([name]) {
  const node = element("div");
  node.append(element("dt", {}, name), element("dd"));
  return node;
}

export function showOptions({ options }) {
  syncKeyed(byTest("options-list"), OPTIONS, ([name]) => name, newOption, (node, [, says]) => setText(node.lastChild, says(options)));
}
