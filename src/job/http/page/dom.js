// Changes to the page in place: what does not change is not touched, so that focus, selection, scroll position and
// what a screen reader has read stay. All text goes in as text.

import { moment } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";

export const byTest = (name, root = document) => root.querySelector(`[data-test="${name}"]`);

export function setText(node, text) {
  const wanted = String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
}

export function setAttribute(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) {
    node.setAttribute(name, String(value));
  }
}

export function setAttributes(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) setAttribute(node, name, value);
}

export const setShown = (node, isShown) => setAttribute(node, "hidden", isShown ? null : "");

export function element(tag, attributes = {}, text = null) {
  const node = document.createElement(tag);
  setAttributes(node, attributes);
  if (text !== null) node.textContent = text;
  return node;
}

export const svgElement = (tag) => document.createElementNS(SVG, tag);

export function setTime(node, ms, now) {
  const { text, iso } = moment(ms, now);
  let time = node.firstElementChild;
  if (!time) {
    time = element("time");
    node.replaceChildren(time);
  }
  setText(time, text);
  setAttributes(time, { datetime: iso || null, title: iso || null });
}

const children = new WeakMap();

// Makes `parent` hold one child for each item, in their order. A child whose item is still there stays the same node,
// and is not moved as long as the order of those that stay is the same.
export function syncKeyed(parent, items, keyOf, create, update) {
  const old = children.get(parent) ?? new Map();
  const now = new Map();
  for (const item of items) {
    let key = keyOf(item);
    while (now.has(key)) key += "+";
    now.set(key, { node: old.get(key)?.node ?? create(item), item });
  }
  for (const [key, { node }] of old) if (!now.has(key)) node.remove();
  let next = parent.firstChild;
  for (const { node, item } of now.values()) {
    if (node === next) next = next.nextSibling;
    else parent.insertBefore(node, next);
    update(node, item);
  }
  children.set(parent, now);
}

const newShape = ({ tag }) => svgElement(tag);

function updateShape(node, { attributes, text }) {
  setAttributes(node, attributes);
  if (text !== undefined) setText(node, text);
}

// A picture as a list of `{key, tag, attributes, text}`.
export const paint = (svg, shapes) => syncKeyed(svg, shapes, (shape) => shape.key, newShape, updateShape);

function newRow(columns) {
  const row = element("tr");
  for (const [name, kind] of columns) {
    const cell = kind.startsWith("head") ? element("th", { scope: "row" }) : element("td");
    cell.dataset.col = name;
    if (kind.endsWith("number")) cell.className = "number";
    if (kind.endsWith("data")) cell.className = "data";
    row.append(cell);
  }
  return row;
}

// Fills a table's body. A column is `[name, kind, fill(cell, item)]`, its kind `text`, `number`, `data`, or one of them
// after `head-`, which is the row's header. What `fill` returns, if anything, is the cell's text.
export function fillTable(table, columns, items, keyOf) {
  const body = table.tBodies[0];
  syncKeyed(body, items, keyOf, () => newRow(columns), (row, item) => {
    setAttribute(row, "data-key", keyOf(item));
    columns.forEach(([, , fill], index) => {
      const text = fill(row.cells[index], item);
      if (text !== undefined) setText(row.cells[index], text);
    });
  });
}

// A table that shows its first rows, and all of them at the press of a button.
export function foldable(table, button, columns, keyOf, first = 10) {
  let items = [];
  let isOpen = false;
  const draw = () => {
    setShown(table, items.length > 0);
    setShown(button, items.length > first);
    setAttribute(button, "aria-expanded", isOpen);
    setText(button, isOpen ? `Show only the newest ${first}` : `Show all ${items.length}`);
    fillTable(table, columns, isOpen ? items : items.slice(0, first), keyOf);
  };
  button.addEventListener("click", () => {
    isOpen = !isOpen;
    draw();
  });
  return (all) => {
    items = all;
    draw();
  };
}
