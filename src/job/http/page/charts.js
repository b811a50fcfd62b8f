// The charts: pure functions from data and a width to shapes, and the figure that shows them.

import { paint, setAttribute, setText } from "./dom.js";
import { bytes, clock, dayAndMonth, duration } from "./format.js";

const LEFT = 62;
const RIGHT = 10;
const TOP = 10;
const BOTTOM = 22;
const HEIGHT = 170;
const FLOOR = HEIGHT - BOTTOM;

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const ROUND = [1, 2, 5, 10, 20, 50, 100, 200, 500];
const BYTE_STEPS = [0, 1, 2, 3, 4, 5, 6].flatMap((unit) => ROUND.map((step) => step * 1024 ** unit));
const DURATION_STEPS = [
  ...ROUND,
  ...[1, 2, 5, 10, 15, 30].map((s) => s * SECOND),
  ...[1, 2, 5, 10, 15, 30].map((m) => m * MINUTE),
  ...[1, 2, 6, 12, 24, 48, 240, 2400].map((h) => h * HOUR),
];
const TIME_STEPS = [
  ...[1, 2, 5, 10, 15, 30].map((s) => s * SECOND),
  ...[1, 2, 5, 10, 15, 30].map((m) => m * MINUTE),
  ...[1, 2, 3, 6, 12].map((h) => h * HOUR),
  ...[1, 2, 7, 14, 30, 90, 365].map((d) => d * DAY),
];

export const BYTES = { steps: BYTE_STEPS, says: (value) => bytes(value, true) };
export const DURATION = { steps: DURATION_STEPS, says: (value) => duration(value, true) };

const stepFor = (steps, span, most) => steps.find((step) => span / step <= most) ?? span;

const shape = (key, tag, attributes, text) => ({ key, tag, attributes, text });
const fixed = (value) => Number(value.toFixed(2));

// The scale of values, from 0 to a mark at or above the largest.
function valueScale(largest, { steps, says }) {
  const step = stepFor(steps, Math.max(largest, steps[0]), 4);
  const top = Math.max(1, Math.ceil(largest / step)) * step;
  const y = (value) => fixed(FLOOR - (Math.min(value, top) / top) * (FLOOR - TOP));
  const marks = Array.from({ length: Math.round(top / step) + 1 }, (_, index) => index * step);
  return { y, top, marks: marks.map((value) => ({ at: y(value), text: says(value) })) };
}

function valueGrid(scale, width) {
  return scale.marks.flatMap(({ at, text }, index) => [
    shape(`grid ${index}`, "line", { class: index ? "grid" : "axis", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }),
    shape(`mark ${index}`, "text", { class: "mark", x: LEFT - 8, y: at + 4, "text-anchor": "end" }, text),
  ]);
}

function barShapes(bar, x, wide, scale) {
  let below = 0;
  const shapes = bar.parts.filter(({ value }) => value > 0).flatMap(({ name, value }) => {
    const bottom = scale.y(below);
    below += value;
    // What is there must be seen, be it ever so small.
    const height = fixed(Math.max(bottom - scale.y(below), 1.5));
    return [shape(`${bar.key} ${name}`, "rect", { class: `bar ${name}`, x, width: wide, y: fixed(bottom - height), height })];
  });
  if (below > scale.top) {
    const [middle, half] = [x + wide / 2, Math.max(3, wide / 2)];
    const points = `${middle - half},${TOP} ${middle + half},${TOP} ${middle},${TOP - 7}`;
    shapes.push(shape(`${bar.key} more`, "polygon", { class: `beyond ${bar.parts[0].name}`, points }));
  }
  if (!shapes.length && bar.isAborted) {
    const [middle, y] = [x + wide / 2, FLOOR - 5];
    const d = `M${middle - 3} ${y - 3}l6 6m0 -6l-6 6`;
    shapes.push(shape(`${bar.key} cross`, "path", { class: "cross", d }));
  }
  return shapes;
}

// Bars from old to new, each `{key, label, parts: [{name, value}], isAborted, isOdd, says}`: the newest for which
// there is room.
export function barLayout({ bars, unit, name }, width) {
  const room = width - LEFT - RIGHT;
  const shown = bars.slice(-Math.max(1, Math.floor(room / 7)));
  const total = (bar) => bar.parts.reduce((sum, { value }) => sum + (value ?? 0), 0);
  // An odd one, like one that ran into its timeout, must not make all others flat.
  const usual = shown.filter((bar) => !bar.isOdd);
  const scale = valueScale(Math.max(...(usual.length ? usual : shown).map(total)), unit);
  const pitch = Math.min(28, room / shown.length);
  const wide = fixed(Math.max(1, pitch - Math.min(4, pitch * 0.3)));
  const every = Math.max(1, Math.ceil((8 * String(shown.at(-1).label).length + 14) / pitch));
  const shapes = valueGrid(scale, width);
  const points = shown.map((bar, index) => {
    const x = fixed(width - RIGHT - (shown.length - index) * pitch);
    shapes.push(...barShapes(bar, x, wide, scale));
    if ((shown.length - 1 - index) % every === 0) {
      shapes.push(shape(`${bar.key} label`, "text", { class: "mark", x: x + wide / 2, y: HEIGHT - 6, "text-anchor": "middle" }, bar.label));
    }
    return { key: bar.key, x: x + wide / 2, says: bar.says };
  });
  return { shapes, points, label: `${name} of ${shown.length} checkpoints. The newest: ${shown.at(-1).says}. All are in the table below.` };
}

// Marks at round local times.
function timeMarks(from, to, width, x) {
  const step = stepFor(TIME_STEPS, Math.max(to - from, 1), Math.max(1, Math.floor(width / 110)));
  const shift = new Date(to).getTimezoneOffset() * MINUTE;
  const says = (date) => (step >= DAY ? dayAndMonth(date) : clock(date, step < MINUTE));
  const marks = [];
  for (let at = Math.ceil((from - shift) / step) * step + shift; at <= to; at += step) {
    marks.push({ at: x(at), text: says(new Date(at)) });
  }
  return marks.filter((mark) => mark.at < width - RIGHT - 16);
}

// Sizes over time, each point `{at, value, says}`, oldest first. A size holds until the next is known.
export function areaLayout({ points: given, unit, name }, width) {
  const [from, to] = [given[0].at, given.at(-1).at];
  const scale = valueScale(Math.max(...given.map(({ value }) => value)), unit);
  const x = (at) => fixed(LEFT + ((at - from) / Math.max(to - from, 1)) * (width - LEFT - RIGHT));
  const corners = given.map(({ at, value }, index) => `${index ? `H${x(at)}V` : `M${x(at)} `}${scale.y(value)}`).join("");
  const shapes = [
    ...valueGrid(scale, width),
    shape("area", "path", { class: "area", d: `${corners}V${FLOOR}H${LEFT}Z` }),
    shape("line", "path", { class: "line", d: corners }),
    shape("last", "circle", { class: "dot", cx: x(to), cy: scale.y(given.at(-1).value), r: 3 }),
    ...timeMarks(from, to, width, x).flatMap(({ at, text }, index) => [
      shape(`tick ${index}`, "line", { class: "axis", x1: at, x2: at, y1: FLOOR, y2: FLOOR + 4 }),
      shape(`time ${index}`, "text", { class: "mark", x: at, y: HEIGHT - 4, "text-anchor": "middle" }, text),
    ]),
  ];
  const points = given.map(({ at, says }) => ({ key: String(at), x: x(at), says }));
  return { shapes, points, label: `${name}. First: ${given[0].says}. Last: ${given.at(-1).says}. All are in the table below.` };
}

// A picture of who owns which of `size` key groups, each part `{worker, first, last}`.
export function ownershipLayout({ parts, size, name }, width) {
  const x = (group) => fixed((group / size) * width);
  const shapes = parts.flatMap(({ worker, first, last }) => {
    const [left, right] = [x(first), x(last + 1)];
    const wide = Math.max(1, right - left - 2);
    const texts = [`worker ${worker}`, `${worker}`].filter((text) => text.length * 7.5 + 8 <= wide);
    return [
      shape(`part ${worker}`, "rect", { class: `owner owner-${worker % 6}`, x: left, width: fixed(wide), y: 0, height: 26, rx: 3 }),
      ...texts.slice(0, 1).map((text) =>
        shape(`name ${worker}`, "text", { class: "owner-name", x: fixed(left + wide / 2), y: 17, "text-anchor": "middle" }, text)),
    ];
  });
  const middle = parts.map(({ worker, first, last }) => ({
    key: String(worker), x: (x(first) + x(last + 1)) / 2, says: `worker ${worker}: key groups ${first} to ${last}`,
  }));
  const told = middle.slice(0, 8).map(({ says }) => says).join(", ");
  return { shapes, points: middle, label: `${name}, ${size} key groups. ${told}${middle.length > 8 ? ", and so on" : ""}. All are in the table below.` };
}

// Steps one after the other, each `{name, ms, says}`.
export function stepsLayout({ steps, label }, width) {
  const total = Math.max(1, steps.reduce((sum, { ms }) => sum + ms, 0));
  let before = 0;
  const points = [];
  const shapes = steps.flatMap(({ name, ms, says }, index) => {
    const [left, right] = [(before / total) * width, ((before + ms) / total) * width];
    before += ms;
    points.push({ key: name, x: (left + right) / 2, says });
    // What took any time must be seen.
    const wide = Math.max(1.5, right - left - 2);
    const box = shape(name, "rect", { class: `owner owner-${index}`, x: fixed(left), width: fixed(wide), y: 0, height: 26, rx: 3 });
    const text = shape(`${name} name`, "text", { class: "owner-name", x: fixed((left + right) / 2), y: 17, "text-anchor": "middle" }, name);
    return name.length * 7.5 + 8 <= wide ? [box, text] : [box];
  });
  return { shapes, points, label };
}

const nearest = (points, x) =>
  points.reduce((best, point) => (Math.abs(point.x - x) < Math.abs(best.x - x) ? point : best), points[0]);

// Binds a figure with an `svg` and a `.readout` to a layout; returns what shows new data.
export function chart(figure, layout, { height = HEIGHT, resting = (points) => points.at(-1).says } = {}) {
  const svg = figure.querySelector("svg");
  const readout = figure.querySelector(".readout");
  let data = null;
  let pointed = null;
  let points = [];
  const tell = () => {
    const point = points.find(({ key }) => key === pointed);
    setText(readout, point ? point.says : resting(points));
  };
  const draw = () => {
    const width = Math.floor(svg.parentElement.clientWidth);
    if (!data || width < 120) return;
    const drawn = layout(data, width);
    const point = drawn.points.find(({ key }) => key === pointed);
    const guide = point && height === HEIGHT
      ? [shape("guide", "line", { class: "guide", x1: fixed(point.x), x2: fixed(point.x), y1: TOP, y2: FLOOR })] : [];
    points = drawn.points;
    setAttribute(svg, "viewBox", `0 0 ${width} ${height}`);
    setAttribute(svg, "width", width);
    setAttribute(svg, "height", height);
    setAttribute(svg, "aria-label", drawn.label);
    paint(svg, [...drawn.shapes, ...guide]);
    tell();
  };
  const point = (key) => {
    if (key === pointed) return;
    pointed = key;
    draw();
  };
  svg.addEventListener("pointermove", (event) => {
    if (points.length) point(nearest(points, event.clientX - svg.getBoundingClientRect().left).key);
  });
  svg.addEventListener("pointerleave", () => point(null));
  new ResizeObserver(draw).observe(figure);
  return (fresh) => {
    data = fresh;
    draw();
  };
}
