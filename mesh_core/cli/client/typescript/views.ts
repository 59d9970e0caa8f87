import { type Connection, lost, placed, type Placed, type Reading } from "./connection.js";
import { filtering, type OrderBy, type Parameter, type Where } from "./filters.js";
import { keyText, segment } from "./keys.js";
import { MeshProblem } from "./problems.js";
import { Asked, askSeveral } from "./queries.js";
import { type Rows, views } from "./schema.js";
import { parse, rowOf } from "./values.js";

/** The name of a view. */
export type ViewName = keyof Rows & string;
/** The columns of a view. */
export type ColumnsOf<N extends ViewName> = (typeof views)[N]["columns"];
/** The name of a column of a view. */
export type ColumnOf<N extends ViewName> = keyof Rows[N] & keyof ColumnsOf<N> & string;
type KeyColumn<N extends ViewName> = (typeof views)[N]["key"][number] & keyof Rows[N];
type OnlyColumn<N extends ViewName> = (typeof views)[N]["key"] extends readonly [infer K extends keyof Rows[N]]
  ? K
  : never;
/** What names one row: the value of its key, or an object of its parts where there are several. */
export type KeyOf<N extends ViewName> = Rows[N][OnlyColumn<N>] | Readonly<Pick<Rows[N], KeyColumn<N>>>;
/** How rows are counted: `planned` is what Postgres expects, `estimated` is exact up to 10,000. */
export type Counting = "exact" | "planned" | "estimated";

/** Which rows, which columns of them, in which order. */
export interface Wanted<N extends ViewName, C extends ColumnOf<N> = ColumnOf<N>> {
  readonly where?: Where<ColumnsOf<N>>;
  /** By default all columns. */
  readonly select?: readonly C[];
  /** The key comes last by itself. */
  readonly order?: OrderBy<ColumnsOf<N>> | readonly OrderBy<ColumnsOf<N>>[];
  /** Rows in a page; of a stream, in all. */
  readonly limit?: number;
}

/** A page that is wanted. */
export interface WantedPage<N extends ViewName, C extends ColumnOf<N> = ColumnOf<N>> extends Wanted<N, C> {
  /** Where the page begins: `next` or `prev` of another one with the same order. */
  readonly cursor?: string;
  /** Also how many rows there are in all. */
  readonly count?: Counting;
}

/** One row, and what it reflects. */
export interface Answer<R> extends Placed {
  readonly row: R;
}

/** Rows of a page without what it reflects. */
export interface PageRows<R> {
  readonly rows: readonly R[];
  /** The cursor of the page after this one; null if there is none. */
  readonly next: string | null;
  /** The cursor of the page before this one; null if there is none. */
  readonly prev: string | null;
  /** How many rows there are in all, if that was asked. */
  readonly count: number | null;
}

/** A page of rows, and what it reflects. */
export interface Page<R> extends PageRows<R>, Placed {}

/** The rows of one view. */
export class ViewClient<N extends ViewName> {
  private readonly connection: Connection;
  readonly name: N;

  constructor(connection: Connection, name: N) {
    this.connection = connection;
    this.name = name;
  }

  /** One row. Throws MeshProblem, of the kind `row-not-found` where there is none. */
  async get<const C extends ColumnOf<N> = ColumnOf<N>>(
    key: KeyOf<N>,
    how: Reading & { readonly select?: readonly C[] } = {},
  ): Promise<Answer<Pick<Rows[N], C>>> {
    const text = keyText(key, views[this.name].key);
    const encoded = segment(text);
    if (encoded === null) return this.getByQuery(text, how);
    const sent = { path: `/v1/views/${this.name}/${encoded}`, parameters: selecting(how.select) };
    const received = await this.connection.read(sent, how);
    return { row: this.row(parse(received.text)), ...placed(received.headers) };
  }

  /** One row, or null where there is none. */
  async find<const C extends ColumnOf<N> = ColumnOf<N>>(
    key: KeyOf<N>,
    how: Reading & { readonly select?: readonly C[] } = {},
  ): Promise<Answer<Pick<Rows[N], C>> | null> {
    try {
      return await this.get(key, how);
    } catch (error) {
      if (error instanceof MeshProblem && error.kind === "row-not-found") return null;
      throw error;
    }
  }

  /** A page of rows. */
  async list<const C extends ColumnOf<N> = ColumnOf<N>>(
    wanted: WantedPage<N, C> & Reading = {},
  ): Promise<Page<Pick<Rows[N], C>>> {
    const sent = { path: `/v1/views/${this.name}`, parameters: this.parameters(wanted) };
    const { text, headers } = await this.connection.read(sent, wanted);
    const rows = (parse(text) as unknown[]).map((row) => this.row<C>(row));
    return { rows, ...beside(headers), count: counted(headers), ...placed(headers) };
  }

  /** Page after page, from the first one or from `cursor`; with `backward` page before page, from `cursor`. */
  async *pages<const C extends ColumnOf<N> = ColumnOf<N>>(
    wanted: WantedPage<N, C> & Reading & { readonly backward?: boolean } = {},
  ): AsyncGenerator<Page<Pick<Rows[N], C>>, void, undefined> {
    let page = await this.list(wanted);
    for (;;) {
      yield page;
      const cursor = wanted.backward ? page.prev : page.next;
      if (cursor === null) return;
      page = await this.list({ ...wanted, cursor });
    }
  }

  /** All rows, from one snapshot and one request, as they come; ending the loop ends the request. */
  async *stream<const C extends ColumnOf<N> = ColumnOf<N>>(
    wanted: Wanted<N, C> & Reading = {},
  ): AsyncGenerator<Pick<Rows[N], C>, void, undefined> {
    const parameters = this.parameters(wanted);
    const sent = { path: `/v1/views/${this.name}`, parameters, accept: "application/x-ndjson" };
    const response = await this.connection.open(sent, wanted);
    for await (const line of lines(response, wanted.signal)) yield this.row(parse(line));
  }

  /** How many rows meet `where`. */
  async count(
    how: Reading & { readonly where?: Where<ColumnsOf<N>>; readonly count?: Counting } = {},
  ): Promise<number> {
    const { where, count = "exact" } = how;
    const parameters = this.parameters({ ...(where === undefined ? {} : { where }), limit: 1, count });
    const sent = { method: "HEAD", path: `/v1/views/${this.name}`, parameters } as const;
    return counted((await this.connection.read(sent, how)).headers) ?? 0;
  }

  /** One row, to be asked with others by `query`; its result is null where there is none. */
  one<const C extends ColumnOf<N> = ColumnOf<N>>(
    key: KeyOf<N>,
    how: { readonly select?: readonly C[] } = {},
  ): Asked<Pick<Rows[N], C> | null> {
    return this.oneByText(keyText(key, views[this.name].key), how.select);
  }

  /** A page, to be asked with others by `query`. */
  some<const C extends ColumnOf<N> = ColumnOf<N>>(
    wanted: WantedPage<N, C> = {},
  ): Asked<PageRows<Pick<Rows[N], C>>> {
    const parameters: Record<string, string[]> = {};
    for (const [name, value] of this.parameters(wanted)) (parameters[name] ??= []).push(value);
    return new Asked({ view: this.name, parameters }, ({ rows = [], next = null, prev = null, count = null }) => ({
      rows: rows.map((row) => this.row<C>(row)),
      next,
      prev,
      count: count === null ? null : Number(count),
    }));
  }

  private oneByText<C extends ColumnOf<N>>(
    key: string,
    select: readonly C[] | undefined,
  ): Asked<Pick<Rows[N], C> | null> {
    const parameters = Object.fromEntries(selecting(select));
    return new Asked({ view: this.name, key, parameters }, ({ row = null }) => (row === null ? null : this.row<C>(row)));
  }

  /** The row of a key that no URL can hold. */
  private async getByQuery<C extends ColumnOf<N>>(
    key: string,
    how: Reading & { readonly select?: readonly C[] },
  ): Promise<Answer<Pick<Rows[N], C>>> {
    const { results, headers } = await askSeveral(this.connection, [this.oneByText(key, how.select)], how);
    const [row] = results;
    if (row) return { row, ...placed(headers) };
    const detail = `${this.name} has no row with the key '${key}'.`;
    throw new MeshProblem(404, { type: "urn:flexmesh:problem:row-not-found", detail, remedy: "Check the key." }, headers);
  }

  private row<C extends ColumnOf<N>>(parsed: unknown): Pick<Rows[N], C> {
    return rowOf(parsed, views[this.name].columns);
  }

  private parameters<C extends ColumnOf<N>>(wanted: WantedPage<N, C>): Parameter[] {
    const { where, order, limit, cursor, count } = wanted;
    const found = where === undefined ? [] : filtering(where, views[this.name].columns as ColumnsOf<N>);
    found.push(...selecting(wanted.select));
    if (order !== undefined) found.push(["order", typeof order === "string" ? order : order.join(",")]);
    if (limit !== undefined) found.push(["limit", String(limit)]);
    if (cursor !== undefined) found.push(["cursor", cursor]);
    if (count !== undefined) found.push(["count", count]);
    return found;
  }
}

/** The cursors of the pages beside one, by its `Link`. */
export function beside(headers: Headers): { readonly next: string | null; readonly prev: string | null } {
  const found: { next: string | null; prev: string | null } = { next: null, prev: null };
  for (const link of (headers.get("link") ?? "").matchAll(/<([^>]*)>; rel="(next|prev)"/g)) {
    const [, target = "", relation] = link;
    found[relation as "next" | "prev"] = new URLSearchParams(target.slice(target.indexOf("?"))).get("cursor");
  }
  return found;
}

function selecting(select: readonly string[] | undefined): Parameter[] {
  return select === undefined ? [] : [["select", select.join(",")]];
}

function counted(headers: Headers): number | null {
  const [, count] = /\/([0-9]+)$/.exec(headers.get("content-range") ?? "") ?? [];
  return count === undefined ? null : Number(count);
}

async function* lines(
  response: Response,
  signal: AbortSignal | undefined,
): AsyncGenerator<string, void, undefined> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  const decoder = new TextDecoder();
  let begun = "";
  try {
    for (;;) {
      const { done, value } = await lost(reader.read(), signal);
      if (done) return;
      const found = (begun + decoder.decode(value, { stream: true })).split("\n");
      begun = found.pop() ?? "";
      yield* found;
    }
  } finally {
    await reader.cancel().catch(() => undefined); // what was cut is told by the error that ended the loop
  }
}
