import { type Connection, placed, type Placed, type Reading } from "./connection.js";
import { parse } from "./values.js";

/** A result as it comes. */
export interface Result {
  readonly row?: unknown;
  readonly rows?: readonly unknown[];
  readonly next?: string | null;
  readonly prev?: string | null;
  readonly count?: unknown;
}

/** One of several queries, and how its result is read. Made by `one` and `some` of a view. */
export class Asked<T> {
  readonly query: Readonly<Record<string, unknown>>;
  readonly read: (result: Result) => T;

  constructor(query: Readonly<Record<string, unknown>>, read: (result: Result) => T) {
    this.query = query;
    this.read = read;
  }
}

/** The results of these queries, in their order. */
export type Results<A extends readonly Asked<unknown>[]> = {
  -readonly [I in keyof A]: A[I] extends Asked<infer T> ? T : never;
};

/** Results of one snapshot, and what all of them reflect. */
export interface Several<A extends readonly Asked<unknown>[]> extends Placed {
  readonly results: Results<A>;
}

/** Several queries, answered from one snapshot, with the headers of the answer. */
export async function askSeveral<const A extends readonly Asked<unknown>[]>(
  connection: Connection,
  asked: A,
  reading: Reading,
): Promise<Several<A> & { readonly headers: Headers }> {
  const body = asked.map((each) => each.query);
  const { text, headers } = await connection.read({ method: "POST", path: "/v1/query", body }, reading);
  const { results } = parse(text) as { readonly results: readonly Result[] };
  const read = asked.map((each, index) => each.read(results[index] ?? {}));
  return { results: read as Results<A>, ...placed(headers), headers };
}
