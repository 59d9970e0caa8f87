import { spelled } from "./values.js";

/** The text of a key: one part as it is, several percent-encoded and joined by commas, as events carry it. */
export function keyText(key: unknown, names: readonly string[]): string {
  const [only] = names;
  if (names.length === 1 && only !== undefined) return spelled(isParts(key) ? part(key, only) : key);
  if (!isParts(key)) throw new TypeError(`The key is {${names.join(", ")}}.`);
  return names.map((name) => percent(spelled(part(key, name)))).join(",");
}

/** A text as a segment of a path; null where no URL can hold it, for it would be taken as a place. */
export function segment(text: string): string | null {
  return text === "" || text === "." || text === ".." ? null : percent(text);
}

// encodeURIComponent leaves some that are reserved.
function percent(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (each) => `%${each.charCodeAt(0).toString(16).toUpperCase()}`);
}

function isParts(key: unknown): key is Readonly<Record<string, unknown>> {
  return typeof key === "object" && key !== null && !(key instanceof Date);
}

function part(key: Readonly<Record<string, unknown>>, name: string): unknown {
  if (key[name] === undefined || key[name] === null) throw new TypeError(`The key has no ${name}.`);
  return key[name];
}
