// What a value looks like. Keys and values are anybody's text: they become text nodes, never markup.

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// A number that JavaScript cannot hold is kept as a BigInt, so that an id is shown as it is.
export const exact = (_, value, context) =>
  typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? "")
    ? BigInt(context.source)
    : value;

export const number = (value) => value.toLocaleString("en");

export const plain = (value) =>
  JSON.stringify(value, (_, each) => (typeof each === "bigint" ? JSON.rawJSON?.(each) ?? `${each}` : each));

function shortNumber(value) {
  const text = String(value);
  return /\.\d{5,}$/.test(text) ? `${text.slice(0, text.indexOf(".") + 4)}…` : text;
}

const span = (kind, text) => element("span", { class: kind }, text);

// --- windows -------------------------------------------------------------------------------------

const MOST_MS = 8.64e15; // the last time that a Date holds
const isTime = (value) => Number.isInteger(value) && Math.abs(value) <= MOST_MS;

// Event times in milliseconds that a Date can show.
const isWindow = (value) => isTime(value.start) && isTime(value.end);

const day = (at) => at.toJSON().split("T")[0];
const clock = (at) => at.toJSON().split("T")[1].slice(0, -1).replace(/\.000$/, "");

function range({ start, end }) {
  const [from, to] = [new Date(start), new Date(end)];
  const first = day(from) === day(new Date()) ? "" : `${day(from)} `;
  const second = day(to) === day(from) ? "" : `${day(to)} `;
  return `${first}${clock(from)} - ${second}${clock(to)}Z`;
}

function* windowPieces({ start, end, key, kind, is_final: isFinal, ...results }) {
  const state = kind ?? (isFinal === undefined ? "" : isFinal ? "final" : "open");
  yield span("window", `${range({ start, end })} ${state} `);
  yield* pieces(results);
}

// A row of a table that holds windows: one of them, or the sessions of a key.
export function* windowsPieces(value) {
  const windows = value.sessions ?? [value];
  for (const [at, each] of windows.entries()) {
    if (at) yield ", ";
    yield* isWindow(each) ? windowPieces(each) : pieces(each);
  }
}

// A value as compact JSON in coloured pieces.
export function* pieces(value) {
  if (Array.isArray(value)) {
    yield "[";
    for (const [at, each] of value.entries()) {
      if (at) yield ", ";
      yield* pieces(each);
    }
    yield "]";
  } else if (typeof value === "object" && value !== null) {
    yield "{";
    for (const [at, [name, each]] of Object.entries(value).entries()) {
      if (at) yield ", ";
      yield span("name-of", `${name}: `);
      yield* pieces(each);
    }
    yield "}";
  } else if (typeof value === "string") yield span("string", JSON.stringify(value));
  else if (typeof value === "number" || typeof value === "bigint") yield span("number", shortNumber(value));
  else yield span("literal", String(value));
}

// The first pieces of a value, up to a number of characters.
export function* some(all, most) {
  let left = most;
  for (const piece of all) {
    const text = typeof piece === "string" ? piece : piece.textContent;
    if (text.length > left) {
      yield span(piece.className ?? "", text.slice(0, left));
      yield span("quiet", "… (cut)");
      return;
    }
    left -= text.length;
    yield piece;
  }
}
