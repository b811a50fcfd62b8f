// Asks for the job's report over and over: every second while somebody looks, less often while nobody answers.

const PERIOD = 1000;
const LONGEST = 5000;
const PATIENCE = 5000;

async function ask() {
  const response = await fetch("api/job", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  if (!response.ok) throw new Error(`it answered ${response.status}`);
  return response.json();
}

function whyOf(error) {
  if (error.name === "TimeoutError") return `no answer within ${PATIENCE / 1000} s`;
  if (error instanceof SyntaxError) return "its answer is not JSON";
  return error instanceof TypeError ? "no connection" : error.message;
}

// `onJob(job)` gets each report, `onTrouble({since, why})` each failure; returns what asks at once.
export function startPolling(onJob, onTrouble) {
  let timer = null;
  let isAsking = false;
  let pause = PERIOD;
  let since = null;

  const wait = (ms) => {
    clearTimeout(timer);
    timer = document.hidden ? null : setTimeout(poll, ms);
  };

  async function poll() {
    if (isAsking) return;
    isAsking = true;
    const began = Date.now();
    let job = null;
    try {
      job = await ask();
    } catch (error) {
      since ??= began;
      onTrouble({ since, why: whyOf(error) });
    }
    isAsking = false;
    pause = job ? PERIOD : Math.min(LONGEST, pause * 1.5);
    wait(Math.max(0, pause - (job ? Date.now() - began : 0)));
    if (!job) return;
    since = null;
    onJob(job);
  }

  document.addEventListener("visibilitychange", () => wait(0));
  poll();
  return poll;
}
