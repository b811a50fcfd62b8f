// What can be asked of the manager: buttons, their dialogs, and what became of it.

import { byTest, element, setAttribute, setShown, setText, syncKeyed } from "./dom.js";
import { age, count, duration, id, plural } from "./format.js";
import { isOver } from "./head.js";

const UNKNOWN = {
  error: "no answer, so whether it was done is not known",
  advice: "look at the job's state and its checkpoints before you try again",
};

const savepointDone = (answer) => `Savepoint ${id(answer.checkpoint)} is complete: ${answer.folder}`;
const checkpointDone = (answer) => `Checkpoint ${id(answer.checkpoint)} is complete: ${answer.folder}`;

// `path` and `body` of the request, and its words: under way, done, and failed.
const ACTIONS = {
  checkpoint: {
    path: "api/checkpoint", body: () => ({ kind: "incremental" }),
    doing: () => "Taking a checkpoint", done: checkpointDone, failed: "No checkpoint was taken",
  },
  full: {
    path: "api/checkpoint", body: () => ({ kind: "full" }),
    doing: () => "Taking a full checkpoint", done: checkpointDone, failed: "No full checkpoint was taken",
  },
  savepoint: {
    path: "api/savepoint", body: (form) => ({ path: form.path.value.trim() }),
    doing: (body) => `Taking a savepoint at ${body.path}`, done: savepointDone, failed: "No savepoint was taken",
  },
  rescale: {
    path: "api/rescale", body: (form) => ({ workers: Number(form.workers.value) }),
    doing: (body) => `Taking a checkpoint, then going on with ${plural(body.workers, "worker")}`,
    done: (answer, body) => `Checkpoint ${id(answer.checkpoint)} is complete; the job goes on from it with ${plural(body.workers, "worker")}`,
    failed: "The job was not rescaled",
  },
  stop: {
    path: "api/stop", body: (form) => ({ savepoint: form.wanted.checked ? form.path.value.trim() : null }),
    doing: (body) => (body.savepoint === null ? "Stopping" : `Stopping with a savepoint at ${body.savepoint}`),
    done: () => "The manager has taken the order to stop", failed: "The job was not stopped",
  },
  cancel: {
    path: "api/cancel", body: (form) => ({ checkpoints: form.checkpoints.value }),
    doing: (body) => (body.checkpoints === "drop" ? "Cancelling, and deleting the checkpoints" : "Cancelling"),
    done: () => "The manager has taken the order to cancel", failed: "The job was not cancelled",
  },
};

// Actions by name that are under way or have ended: {phase, since, took, text}.
const runs = new Map();
let job = null;
let announce = () => {};
let afterwards = () => {};
let ticking = null;

const button = (name) => byTest(`action-${name}`);
const dialog = (name) => document.querySelector(`[data-dialog="${name}"]`);
const isWaiting = (name) => runs.get(name)?.phase === "waiting";

async function ask(path, body) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json", "x-icecore": "1" },
      body: JSON.stringify(body),
    });
  } catch {
    return { isDone: false, answer: UNKNOWN };
  }
  const answer = await response.json().catch(() => null);
  if (response.ok) return { isDone: answer !== null, answer: answer ?? UNKNOWN };
  return { isDone: false, answer: { error: answer?.error ?? `the manager answered ${response.status}`, advice: answer?.advice ?? null } };
}

async function perform(name, body) {
  const action = ACTIONS[name];
  const since = performance.now();
  // Anew, so that the newest is the first of the list.
  runs.delete(name);
  const run = { name, phase: "waiting", since, text: action.doing(body) };
  runs.set(name, run);
  announce(`${run.text}…`);
  tick();
  const { isDone, answer } = await ask(action.path, body);
  run.phase = isDone ? "done" : "failed";
  run.took = performance.now() - since;
  const failed = [answer.error, answer.advice].filter(Boolean).join("; ");
  run.text = isDone ? action.done(answer, body) : `${action.failed}: ${failed}`;
  announce(run.text);
  tick();
  if (isDone) dialog(name)?.close();
  afterwards();
}

function phrase(run) {
  if (run.phase === "waiting") return `${run.text}… ${age(performance.now() - run.since)}`;
  return run.phase === "done" ? `${run.text}, after ${duration(run.took)}.` : run.text;
}

function newResult({ name }) {
  const node = element("li", { "data-test": `result-${name}` });
  const words = element("p", { class: "data" });
  const dismiss = element("button", { type: "button", class: "quiet", "aria-label": "Dismiss this result" }, "Dismiss");
  dismiss.addEventListener("click", () => {
    runs.delete(name);
    button(name).focus();
    draw();
  });
  node.append(words, dismiss);
  return node;
}

function updateResult(node, run) {
  const [words, dismiss] = node.children;
  setAttribute(node, "data-phase", run.phase);
  setText(words, phrase(run));
  setShown(dismiss, run.phase !== "waiting");
}

function drawStatus(name) {
  const box = dialog(name);
  const run = runs.get(name);
  if (!box?.open) return;
  const status = byTest(`status-${name}`, box);
  const shown = box.refusal ? { phase: "failed", text: box.refusal } : run && run.since >= box.openedAt ? run : null;
  setAttribute(status, "data-phase", shown?.phase ?? null);
  setText(status, shown ? phrase(shown) : "");
  setAttribute(byTest(`submit-${name}`, box), "aria-disabled", isWaiting(name) ? "true" : null);
}

// Why nothing at all can be asked for, or `null`.
function obstacle(isReachable) {
  if (!job) return "Nothing can be asked for before the manager has answered.";
  if (isOver(job)) return `The job is over (${job.state}): nothing more can be asked of it.`;
  return isReachable ? null : "The manager is not reachable: nothing can be asked of it now.";
}

let reason = obstacle(false);

function refusal(name) {
  if (reason) return reason;
  if (isWaiting(name)) return `${runs.get(name).text}: wait for its end.`;
  return job.stopping && name !== "cancel" ? "The job is being stopped: it can only be cancelled." : null;
}

// Not `disabled`: that would drop the focus, and nobody who tabs along would learn the reason.
function drawButtons() {
  for (const name of Object.keys(ACTIONS)) {
    const why = refusal(name);
    setAttribute(button(name), "aria-disabled", why ? "true" : null);
    setAttribute(button(name), "aria-describedby", why && !isWaiting(name) ? "action-reason" : null);
    setAttribute(button(name), "title", why);
  }
  const shared = reason ?? (job?.stopping ? refusal("stop") : null);
  setShown(byTest("action-reason"), shared !== null);
  setText(byTest("action-reason"), shared ?? "");
}

function draw() {
  drawButtons();
  syncKeyed(byTest("action-results"), [...runs.values()].reverse(), ({ name, since }) => `${name} ${since}`, newResult, updateResult);
  Object.keys(ACTIONS).forEach(drawStatus);
}

// Seconds are counted only while somebody waits.
function tick() {
  draw();
  const waits = [...runs.values()].some(({ phase }) => phase === "waiting");
  if (waits && ticking === null) ticking = setInterval(tick, 250);
  if (!waits && ticking !== null) {
    clearInterval(ticking);
    ticking = null;
  }
}

function refuse(box, name, text, field) {
  box.refusal = text;
  drawStatus(name);
  if (!text) return;
  announce(text);
  field?.focus();
}

const PREPARE = {
  rescale(form) {
    const least = Math.min(...job.operators.map((operator) => operator.max_parallelism));
    form.workers.value = job.parallelism;
    setAttribute(form.workers, "max", Number.isFinite(least) ? least : null);
    const most = Number.isFinite(least) ? `, at most ${count(least)}: no operator may have fewer key groups than workers` : "";
    setText(byTest("rescale-hint"), `Now ${count(job.parallelism)}${most}.`);
    form.workers.select();
  },
  stop: (form) => showPath(form),
  cancel(form) {
    setText(byTest("cancel-job"), job.job);
    showTyped(form);
  },
};

function showPath(form) {
  setShown(form.path.parentElement, form.wanted.checked);
  form.path.required = form.wanted.checked;
}

function showTyped(form) {
  const drops = form.checkpoints.value === "drop";
  setShown(form.querySelector(".typed"), drops);
  setText(byTest("submit-cancel"), drops ? "Cancel job and delete checkpoints" : "Cancel job");
}

function open(name) {
  const box = dialog(name);
  const form = box.querySelector("form");
  form.reset();
  box.refusal = null;
  box.openedAt = performance.now();
  box.showModal();
  PREPARE[name]?.(form);
  drawStatus(name);
}

// What is wrong with what was filled in, and where; `null` if nothing is.
const CHECKS = {
  rescale: (form) => (Number(form.workers.value) === job.parallelism
    ? [`It has ${plural(job.parallelism, "worker")} already.`, form.workers] : null),
  cancel: (form) => (form.checkpoints.value === "drop" && form.typed.value !== job.job
    ? ["That is not the job's name: nothing was done.", form.typed] : null),
};

function submit(name, form) {
  const box = dialog(name);
  if (isWaiting(name)) return;
  const [wrong, field] = reason ? [reason, null] : CHECKS[name]?.(form) ?? [null, null];
  refuse(box, name, wrong, field);
  if (!wrong) perform(name, ACTIONS[name].body(form));
}

function press(name) {
  const why = refusal(name);
  if (why) announce(why);
  else if (dialog(name)) open(name);
  else perform(name, ACTIONS[name].body());
}

function bindDialog(name, box) {
  const form = box.querySelector("form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(name, form);
  });
  form.addEventListener("input", () => {
    if (box.refusal) refuse(box, name, null);
    if (name === "stop") showPath(form);
    if (name === "cancel") showTyped(form);
  });
  box.querySelector(".back").addEventListener("click", () => box.close());
  // The browser gives the focus back to where it was; if that is gone meanwhile, to the button.
  box.addEventListener("close", () => {
    if (document.activeElement === document.body) button(name).focus();
  });
}

export function startActions(hooks) {
  ({ announce, afterwards } = hooks);
  for (const name of Object.keys(ACTIONS)) {
    button(name).addEventListener("click", () => press(name));
    if (dialog(name)) bindDialog(name, dialog(name));
  }
  draw();
}

export function updateActions(newest, isReachable) {
  job = newest;
  reason = obstacle(isReachable);
  draw();
}
