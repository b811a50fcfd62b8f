// The part about checkpoints.

import { BYTES, DURATION, barLayout, chart } from "./charts.js";
import { byTest, element, foldable, setAttribute, setShown, setText, setTime } from "./dom.js";
import { NONE, age, bytes, count, duration, id, list, plural } from "./format.js";
import { isOver } from "./head.js";

const isComplete = (checkpoint) => checkpoint.status !== "aborted";
const keyOf = (checkpoint) => `${checkpoint.epoch}/${checkpoint.checkpoint}/${checkpoint.triggered_at_unix_ms}`;
const endOf = (checkpoint) => checkpoint.triggered_at_unix_ms + (checkpoint.duration_ms ?? 0);

// The times in the table are told against the newest report.
let now = 0;

function fillStatus(cell, checkpoint) {
  if (!cell.firstChild) cell.append(element("span", { class: "tag" }), element("span", { class: "reason data" }));
  const kept = checkpoint.status === "complete" && checkpoint.is_retained;
  setText(cell.firstChild, kept ? "complete, kept" : checkpoint.status);
  setAttribute(cell.firstChild, "data-status", checkpoint.status);
  setText(cell.lastChild, checkpoint.reason ?? "");
}

function fillStored(cell, checkpoint) {
  setText(cell, bytes(checkpoint.stored_bytes));
  const objects = checkpoint.stored_objects;
  setAttribute(cell, "title", typeof objects === "number" ? plural(objects, "object") : null);
}

function fillFolder(cell, checkpoint) {
  setText(cell, checkpoint.folder);
  setAttribute(cell, "title", `tenure ${checkpoint.epoch}`);
}

const COLUMNS = [
  ["checkpoint", "head-number", (_, c) => id(c.checkpoint)],
  ["kind", "text", (_, c) => c.kind],
  ["status", "text", fillStatus],
  ["triggered", "text", (cell, c) => setTime(cell, c.triggered_at_unix_ms, now)],
  ["duration", "number", (_, c) => duration(c.duration_ms)],
  ["sync", "number", (_, c) => duration(c.sync_ms)],
  ["async", "number", (_, c) => duration(c.async_ms)],
  ["files", "number", (_, c) => count(c.files)],
  ["uploaded-files", "number", (_, c) => count(c.uploaded_files)],
  ["uploaded", "number", (_, c) => bytes(c.uploaded_bytes)],
  ["shared", "number", (_, c) => bytes(c.shared_bytes)],
  ["stored", "number", fillStored],
  ["generation", "number", (_, c) => id(c.generation)],
  ["folder", "data", fillFolder],
];

function showNewest(job) {
  const newest = job.checkpoints.find((c) => isComplete(c) && c.kind !== "savepoint");
  setText(byTest("newest-complete"), newest ? id(newest.checkpoint) : "none");
  setText(byTest("newest-age"), newest ? `${age(now - endOf(newest))} ago` : "");
}

function showCounts(job) {
  const aborted = job.checkpoints.filter((c) => !isComplete(c));
  const kept = job.checkpoints.filter((c) => isComplete(c) && c.is_retained).length;
  setText(byTest("count-complete"), count(job.completed));
  setText(byTest("count-kept"), `since the manager began; ${count(kept)} kept`);
  setText(byTest("count-aborted"), count(job.aborted));
  setAttribute(byTest("count-aborted"), "data-warn", job.aborted ? "" : null);
  setText(byTest("last-aborted"), aborted.length ? `the last ${age(now - endOf(aborted[0]))} ago` : "");
}

function showInFlight(job) {
  const flying = job.in_flight;
  const first = Math.min(...flying.map((c) => c.triggered_at_unix_ms));
  const kinds = [...new Set(flying.map((c) => c.kind))];
  setText(byTest("in-flight"), flying.length ? list(flying.map((c) => id(c.checkpoint)), 4) : "none");
  setText(byTest("in-flight-age"), flying.length ? `${list(kinds)}, for ${age(now - first)}` : "");
}

// When the next periodic checkpoint is due, by the coordinator's rule: an interval after whatever was triggered last, and
// a pause after what ended last, since this manager began. The first is due at once.
function nextDue(job) {
  const { interval_ms: interval, min_pause_ms: pause } = job.options;
  const ended = job.checkpoints.filter((c) => c.triggered_at_unix_ms >= job.manager.started_at_unix_ms);
  const triggered = [...job.in_flight, ...ended].map((c) => c.triggered_at_unix_ms + interval);
  return Math.max(0, ...triggered, ...ended.map((c) => endOf(c) + pause));
}

function nextText(job) {
  if (isOver(job) || job.stopping || job.options.interval_ms === null) return "none";
  if (job.state !== "running") return NONE;
  // Savepoints do not count.
  if (job.in_flight.filter((c) => c.kind !== "savepoint").length >= job.options.max_concurrent) return "waits";
  const due = nextDue(job);
  return due <= now ? "due now" : `in ${age(due - now + 999)}`;
}

function ruleText(job) {
  if (isOver(job)) return "the job is over";
  if (job.stopping) return "but the last";
  const every = job.options.interval_ms;
  return every === null ? "by hand only" : `every ${duration(every, true)}`;
}

function emptyText(job) {
  if (isOver(job)) return "No checkpoint was taken.";
  if (job.in_flight.length) return "No checkpoint yet: the first is on its way.";
  if (job.options.interval_ms === null) return "No checkpoint yet: they are taken by hand only.";
  if (job.state !== "running") return "No checkpoint yet: the first is due when all workers run.";
  return job.stopping ? "No checkpoint yet." : `No checkpoint yet: the first is due ${nextText(job).replace("due ", "")}.`;
}

const head = (c) => `${id(c.checkpoint)}, ${c.kind}${isComplete(c) ? "" : ", aborted"}`;

// What an aborted one did is often not known.
const says = (c, value, told) => (isComplete(c) || value !== null ? `${head(c)}: ${told}` : head(c));

function durationBar(c) {
  const part = { name: isComplete(c) ? "complete" : "aborted", value: c.duration_ms };
  const told = says(c, c.duration_ms, duration(c.duration_ms));
  const isAborted = !isComplete(c);
  return { key: keyOf(c), label: id(c.checkpoint), isAborted, isOdd: isAborted, parts: [part], says: told };
}

const bytesBar = (withShared) => (c) => ({
  key: keyOf(c),
  label: id(c.checkpoint),
  isAborted: !isComplete(c),
  // What a full one sends is no measure for what incremental ones do.
  isOdd: !isComplete(c) || (!withShared && c.kind !== "incremental"),
  parts: [{ name: "uploaded", value: c.uploaded_bytes }, ...(withShared ? [{ name: "shared", value: c.shared_bytes }] : [])],
  says: says(c, c.uploaded_bytes, `${bytes(c.uploaded_bytes)} uploaded, ${bytes(c.shared_bytes)} shared`),
});

export function checkpointsPart() {
  const table = byTest("checkpoints-table");
  const fill = foldable(table, byTest("checkpoints-more"), COLUMNS, keyOf);
  const durations = chart(byTest("duration-chart"), barLayout);
  const sizes = chart(byTest("bytes-chart"), barLayout);
  const shared = byTest("bytes-shared");
  let oldestFirst = [];
  const drawSizes = () => sizes({ bars: oldestFirst.map(bytesBar(shared.checked)), unit: BYTES, name: "Bytes" });
  shared.addEventListener("change", drawSizes);
  return (job) => {
    now = job.now_unix_ms;
    oldestFirst = job.checkpoints.toReversed();
    const has = oldestFirst.length > 0;
    setShown(byTest("checkpoints-empty"), !has);
    setText(byTest("checkpoints-empty"), has ? "" : emptyText(job));
    showNewest(job);
    showCounts(job);
    showInFlight(job);
    setText(byTest("next-due"), nextText(job));
    setText(byTest("next-rule"), ruleText(job));
    setShown(byTest("duration-chart"), has);
    setShown(byTest("bytes-chart"), has);
    setShown(table.parentElement, has);
    if (has) {
      durations({ bars: oldestFirst.map(durationBar), unit: DURATION, name: "Durations" });
      drawSizes();
    }
    fill(job.checkpoints);
  };
}
