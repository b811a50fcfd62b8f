// The top of the page: which job, how it is, and who manages it.

import { byTest, element, setAttribute, setShown, setText, setTime } from "./dom.js";
import { age, count, id, list, moment, plural } from "./format.js";

const OVER = new Set(["finished", "cancelled", "failed"]);

export const isOver = (job) => OVER.has(job.state);

function sentence(job) {
  switch (job.state) {
    case "starting":
      return job.missing_workers.length
        ? `Waits for ${job.missing_workers.length === 1 ? "worker" : "workers"} ${list(job.missing_workers)} to register.`
        : "All workers have registered.";
    case "restoring":
      return `${job.missing_workers.length === 1 ? "Worker" : "Workers"} ${list(job.missing_workers)} ${job.missing_workers.length === 1 ? "restores its" : "restore their"} state.`;
    case "running":
      return job.stopping ? "Stops in good order: its last checkpoint comes first." : "All workers run.";
    case "restarting":
      return job.restarts_in_ms === null ? "Starts its workers again." : `Starts its workers again in ${age(job.restarts_in_ms + 999)}.`;
    case "finished":
      return "Its input is done, or it was stopped in good order. All that it put out is committed.";
    case "cancelled":
      return "It was cancelled.";
    case "failed":
      return "It failed and is not started again.";
    default:
      return "";
  }
}

function failureOf(job) {
  if (job.state === "failed") return ["Reason", job.reason ?? job.last_failure];
  return ["Last failure", ["starting", "restoring", "restarting"].includes(job.state) ? job.last_failure : null];
}

function showState(job, isOld) {
  const state = byTest("state");
  const isStopping = job.stopping && !isOver(job);
  setText(state, `${isOld && !isOver(job) ? "was " : ""}${job.state}${isStopping ? ", stopping" : ""}`);
  setAttribute(state, "data-state", job.state);
  setAttribute(state, "data-old", isOld ? "" : null);
  setText(byTest("sentence"), sentence(job));
  const [title, failure] = failureOf(job);
  setShown(byTest("last-failure"), failure !== null);
  setText(byTest("last-failure"), failure === null ? "" : `${title}: ${failure}`);
}

function showSince(job) {
  const since = byTest("since");
  if (!since.firstChild) since.append(element("span"), element("span", { class: "faint" }));
  setTime(since.firstChild, job.manager.started_at_unix_ms, job.now_unix_ms);
  setText(since.lastChild, ` ${age(job.now_unix_ms - job.manager.started_at_unix_ms)}`);
}

function showRestored(job) {
  const from = job.restored_from;
  const node = byTest("restored-from");
  if (!node.firstChild) node.append(element("span"), element("span", { class: "faint mono" }));
  const number = from && typeof from.checkpoint === "number" ? `checkpoint ${from.checkpoint}` : "";
  setText(node.firstChild, from ? number : "nothing: it began empty");
  setText(node.lastChild, from ? ` ${from.path}` : "");
}

export function showHead(job, isOld) {
  setText(byTest("job"), job.job);
  setText(byTest("version"), job.version);
  setText(byTest("store"), job.store);
  setText(byTest("manager"), job.manager.holder);
  setText(byTest("epoch"), job.manager.epoch);
  setText(byTest("generation"), id(job.generation));
  setText(byTest("parallelism"), count(job.parallelism));
  setText(byTest("workers-address"), job.manager.workers_address);
  showState(job, isOld);
  showSince(job);
  showRestored(job);
  setText(document.querySelector("title"), `${job.job}: ${isOld ? "not reachable" : job.state} – icecore`);
}

export function showBanner(trouble) {
  const banner = byTest("banner");
  setShown(banner, trouble !== null);
  if (trouble === null) return;
  setText(banner, troubleText(trouble));
}

function troubleText({ since, why, job }) {
  const at = `Not reachable since ${moment(since, Date.now()).text} (${why})`;
  if (!job) return `${at}; nothing is known yet.`;
  return isOver(job) ? `${at}; the job was over: ${job.state}.` : `${at}; what is shown is old.`;
}

// What somebody who only hears the page should be told between two polls.
export function changes(before, now) {
  if (!before) return [`Job ${now.job}: ${now.state}.`];
  const told = [];
  if (before.state !== now.state) told.push(`The job is ${now.state}. ${sentence(now)}`);
  if (before.generation !== now.generation) told.push(`Generation ${now.generation}, ${plural(now.parallelism, "worker")}.`);
  if (!before.stopping && now.stopping && !isOver(now)) told.push("The job is being stopped.");
  if (now.failures > before.failures && now.last_failure) told.push(`Failure: ${now.last_failure}`);
  return told;
}
