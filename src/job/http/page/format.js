// How numbers, sizes, durations and times are written.

export const NONE = "–";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

export const count = (value) => (isNumber(value) ? whole.format(value) : NONE);

// A number that names something: as it stands in folders and paths, so without commas.
export const id = (value) => (isNumber(value) ? String(value) : NONE);

export const plural = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;

// Three digits that count; `exact` leaves out those that say nothing, for marks of a scale.
function digits(value, exact) {
  const places = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return exact ? String(Number(value.toFixed(places))) : places ? value.toFixed(places) : whole.format(value);
}

export function bytes(value, exact = false) {
  if (!isNumber(value)) return NONE;
  let unit = 0;
  let left = value;
  while (left >= 1023.5 && unit < UNITS.length - 1) {
    left /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${whole.format(left)} B` : `${digits(left, exact)} ${UNITS[unit]}`;
}

const two = (large, largeUnit, small, smallUnit) =>
  small ? `${whole.format(large)} ${largeUnit} ${small} ${smallUnit}` : `${whole.format(large)} ${largeUnit}`;

function long(seconds) {
  if (seconds < 3600) return two(Math.floor(seconds / 60), "min", seconds % 60, "s");
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1440) return two(Math.floor(minutes / 60), "h", minutes % 60, "min");
  const hours = Math.floor(minutes / 60);
  return two(Math.floor(hours / 24), "d", hours % 24, "h");
}

export function duration(ms, exact = false) {
  if (!isNumber(ms)) return NONE;
  if (ms < 999.5) return `${whole.format(ms)} ms`;
  return ms < 59_950 ? `${digits(ms / 1000, exact)} s` : long(Math.round(ms / 1000));
}

// Whole seconds: what is told anew every second must not flicker in its decimals.
export function age(ms) {
  if (!isNumber(ms)) return NONE;
  const seconds = Math.max(0, Math.floor(ms / 1000));
  return seconds < 60 ? `${seconds} s` : long(seconds);
}

const pad = (value) => String(value).padStart(2, "0");
const day = (date) => `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;

export const clock = (date, seconds = true) =>
  `${pad(date.getHours())}:${pad(date.getMinutes())}${seconds ? `:${pad(date.getSeconds())}` : ""}`;

export const dayAndMonth = (date) => `${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;

// The local time, with its day unless that is today's; and the same for machines.
export function moment(ms, now) {
  const date = new Date(isNumber(ms) ? ms : NaN);
  if (Number.isNaN(date.getTime())) return { text: NONE, iso: "" };
  const isToday = day(date) === day(new Date(now));
  return { text: isToday ? clock(date) : `${day(date)} ${clock(date)}`, iso: date.toISOString() };
}

export const range = (first, last) => (first === last ? `${first}` : `${first}–${last}`);

export function list(values, most = 12) {
  const shown = values.slice(0, most).join(", ");
  return values.length > most ? `${shown} and ${count(values.length - most)} more` : shown;
}
