import { type Decimal, numbers, type Whole } from "./schema.js";

/** Any JSON. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** What a column holds. */
export type Kind = "int" | "text" | "numeric" | "float" | "bool" | "timestamptz" | "date" | "uuid" | "json";

/** The columns of a view and what they hold. */
export type Columns = Readonly<Record<string, Kind>>;

/** What columns may be compared with, by what they hold. */
export interface Operands {
  int: Whole | number | bigint;
  text: string;
  /** A text has all digits. */
  numeric: Decimal | number | bigint | string;
  float: number;
  bool: boolean;
  /** A text is RFC 3339 with its zone. */
  timestamptz: Date | string;
  /** As `2026-01-31`. */
  date: string;
  uuid: string;
  json: Json;
}

// No text that the API serves has this character, so a number that is marked by it cannot be mistaken for a text.
const MARK = "\u0000";
const TOKEN = /"(?:[^"\\]|\\.)*"|-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/g;
const { decimals, integers }: { readonly decimals: string; readonly integers: string } = numbers;
const MARKED = decimals !== "number" || integers !== "number";

/** The JSON of an answer; where numbers must stay exact they are marked texts until `rowOf` or `plain` reads them. */
export function parse(text: string): unknown {
  if (!MARKED) return JSON.parse(text);
  return JSON.parse(text.replace(TOKEN, (token) => (token.startsWith('"') ? token : `"\\u0000${token}"`)));
}

/** A row of these columns, out of what `parse` gave. */
export function rowOf<R>(parsed: unknown, columns: Columns): R {
  const row = parsed as Record<string, unknown>;
  for (const name of Object.keys(row)) {
    const kind = columns[name];
    const value = row[name];
    if (kind === "int") row[name] = whole(value, name);
    else if (MARKED) row[name] = kind === "numeric" && isMarked(value) ? decimal(value) : plain(value);
  }
  return row as R;
}

/** JSON of no view, out of what `parse` gave: its numbers are numbers. */
export function plain(value: unknown): unknown {
  if (!MARKED) return value;
  if (isMarked(value)) return Number(value.slice(1));
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, plain(inner)]));
}

/** A value as the query language spells it, where nothing follows it. */
export function spelled(value: unknown): string {
  return value instanceof Date ? value.toISOString() : String(value);
}

function isMarked(value: unknown): value is string {
  return typeof value === "string" && value.startsWith(MARK);
}

function decimal(marked: string): unknown {
  return decimals === "string" ? marked.slice(1) : Number(marked.slice(1));
}

function whole(value: unknown, name: string): unknown {
  if (value === null) return null;
  if (integers === "bigint") return BigInt(isMarked(value) ? value.slice(1) : (value as number));
  const number = isMarked(value) ? Number(value.slice(1)) : (value as number);
  if (Number.isSafeInteger(number)) return number;
  throw new RangeError(`${name} has more digits than a number can keep: make the client with --integers bigint.`);
}
