// The web page of icecore's job manager: draws what `api/job` reports.

import { startActions, updateActions } from "./page/actions.js";
import { checkpointsPart } from "./page/checkpoints.js";
import { byTest, setAttribute } from "./page/dom.js";
import { changes, showBanner, showHead } from "./page/head.js";
import { eventsPart, growthPart, recoveryPart, showOptions } from "./page/history.js";
import { startPolling } from "./page/poll.js";
import { showWorkers } from "./page/workers.js";

const QUIET = 500;

let newest = null;
let isReachable = false;
let waiting = [];

// Several sentences within a moment are one announcement: a second text would replace the first unread.
function announce(text) {
  if (!waiting.length) {
    setTimeout(() => {
      byTest("live").textContent = waiting.join(" ");
      waiting = [];
    }, QUIET);
  }
  waiting.push(text);
}

const PARTS = [
  (job) => showHead(job, false),
  checkpointsPart(),
  showWorkers,
  growthPart(),
  recoveryPart(),
  eventsPart(),
  showOptions,
];

// A report that one part cannot draw must not keep the others from theirs.
function drawParts(job) {
  for (const part of PARTS) {
    try {
      part(job);
    } catch (error) {
      console.error(error);
    }
  }
}

// A box whose content is cut off is scrolled by keys: then it can be focused, else it would only be in the way.
function letScroll() {
  for (const box of document.querySelectorAll(".scroll, .tall")) {
    const isCut = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    if (box !== document.activeElement) setAttribute(box, "tabindex", isCut ? 0 : null);
  }
}

function onJob(job) {
  changes(newest, job).forEach(announce);
  if (newest && !isReachable) announce("The manager is reachable again.");
  newest = job;
  isReachable = true;
  showBanner(null);
  updateActions(job, true);
  drawParts(job);
  letScroll();
  setAttribute(document.body, "data-ready", "");
}

function onTrouble({ since, why }) {
  showBanner({ since, why, job: newest });
  if (isReachable || !newest) announce(`The manager is not reachable: ${why}.`);
  isReachable = false;
  updateActions(newest, false);
  if (newest) showHead(newest, true);
}

startActions({ announce, afterwards: startPolling(onJob, onTrouble) });
