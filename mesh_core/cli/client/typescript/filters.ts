import { type Columns, type Json, type Kind, type Operands, spelled } from "./values.js";

interface Equal<T> {
  readonly eq?: T;
  /** Not equal; a row without a value is not among those. */
  readonly neq?: T;
  /** Not equal, a row without a value among those. */
  readonly isdistinct?: T;
}

interface Ordered<T> extends Equal<T> {
  readonly gt?: T;
  readonly gte?: T;
  readonly lt?: T;
  readonly lte?: T;
  readonly in?: readonly T[];
}

interface Is<T = never> {
  readonly is?: null | "not_null" | T;
}

interface Like {
  /** `*` is any text, `_` any character, a backslash takes the next one as it is. */
  readonly like?: string;
  /** As `like`, whether letters are large or small. */
  readonly ilike?: string;
}

/** What can be asked of a column that holds this; several are all met. */
export type Comparison<K extends Kind> = K extends "json"
  ? Equal<Json> & Is & { readonly cs?: Json }
  : K extends "text"
    ? Ordered<string> & Is & Like
    : K extends "bool"
      ? Ordered<boolean> & Is<boolean | "unknown">
      : Ordered<Operands[K]> & Is;

type JsonColumn<C extends Columns> = { [N in keyof C & string]: C[N] extends "json" ? N : never }[keyof C & string];

/**
 * Which rows: those that meet all that is said. A column takes comparisons; so does a place in a JSON column, as
 * `"tags->>colour"`, which is text, or `"tags->colour"`, which is JSON.
 */
export type Where<C extends Columns> = {
  readonly [N in keyof C & string]?: Comparison<C[N]>;
} & {
  readonly [P in `${JsonColumn<C>}->${string}`]?: Comparison<"text"> | Comparison<"json">;
} & {
  /** One of these is met. */
  readonly $or?: readonly Where<C>[];
  /** All of these are met. */
  readonly $and?: readonly Where<C>[];
  /** This is not met. */
  readonly $not?: Where<C>;
};

type Sorted<C extends Columns> = Exclude<keyof C & string, JsonColumn<C>> | `${JsonColumn<C>}->>${string}`;

/** A column to order by, as `total`, `total.desc`, `total.desc.nullslast`. */
export type OrderBy<C extends Columns> =
  | Sorted<C>
  | `${Sorted<C>}.${"asc" | "desc"}`
  | `${Sorted<C>}.${"asc" | "desc"}.${"nullsfirst" | "nullslast"}`;

/** A parameter of a request: its name and its value. */
export type Parameter = readonly [name: string, value: string];

type Tree = { readonly $or?: readonly Tree[]; readonly $and?: readonly Tree[]; readonly $not?: Tree } & {
  readonly [name: string]: unknown;
};

// Columns of these names are compared within and=(…).
const RESERVED = new Set(["select", "order", "limit", "cursor", "count", "and", "or"]);

/** Filters as the parameters of a request. Throws TypeError at a filter that says nothing. */
export function filtering<C extends Columns>(where: Where<C>, columns: C): Parameter[] {
  const found: Parameter[] = [];
  for (const [name, value] of entries(where as Tree)) {
    if (name === "$and") {
      for (const each of value as readonly Where<C>[]) found.push(...filtering(each, columns));
    } else if (name === "$or") {
      found.push(["or", group(value as readonly Tree[], columns)]);
    } else if (name === "$not") {
      found.push(["not.and", group([value as Tree], columns)]);
    } else {
      for (const [operator, operand] of entries(value as Tree)) {
        const within = RESERVED.has(name);
        const text = comparison(kindOf(name, columns), operator, operand, within);
        found.push(within ? ["and", `(${name}.${text})`] : [name, text]);
      }
    }
  }
  return found;
}

function group(parts: readonly Tree[], columns: Columns): string {
  if (parts.length === 0) throw new TypeError("An $or of nothing: leave it out.");
  return `(${parts.map((part) => within(part, columns)).join(",")})`;
}

/** One condition as it stands in parentheses. */
function within(where: Tree, columns: Columns): string {
  const found: string[] = [];
  for (const [name, value] of entries(where)) {
    if (name === "$and") found.push(`and${group(value as readonly Tree[], columns)}`);
    else if (name === "$or") found.push(`or${group(value as readonly Tree[], columns)}`);
    else if (name === "$not") found.push(`not.and${group([value as Tree], columns)}`);
    else {
      for (const [operator, operand] of entries(value as Tree)) {
        found.push(`${name}.${comparison(kindOf(name, columns), operator, operand, true)}`);
      }
    }
  }
  const [only] = found;
  if (only === undefined) throw new TypeError("A condition within $or or $not says nothing: leave it out.");
  return found.length === 1 ? only : `and(${found.join(",")})`;
}

function comparison(kind: Kind, operator: string, operand: unknown, quoting: boolean): string {
  if (operator === "in") return `in.(${(operand as readonly unknown[]).map(quoted).join(",")})`;
  if (operator === "is") return `is.${String(operand)}`;
  if (kind === "json") return `${operator}.${JSON.stringify(operand)}`;
  return `${operator}.${quoting ? quoted(operand) : spelled(operand)}`;
}

function quoted(value: unknown): string {
  const text = spelled(value);
  return typeof value === "string" || value instanceof Date ? `"${text.replace(/["\\]/g, "\\$&")}"` : text;
}

function kindOf(name: string, columns: Columns): Kind {
  const place = name.lastIndexOf("->");
  if (place < 0) return columns[name] ?? "text";
  return name.startsWith("->>", place) ? "text" : "json";
}

/** What is said; undefined says nothing, and would be a filter less than is meant. */
function entries(tree: Tree): [string, unknown][] {
  const found = Object.entries(tree);
  for (const [name, value] of found) {
    if (value === undefined) throw new TypeError(`The filter ${name} is undefined: leave it out, or give it a value.`);
  }
  return found;
}
