import { type Calling, type Connection, placed, type Placed, type Reading } from "./connection.js";
import { segment } from "./keys.js";
import { type Position, positionOf } from "./positions.js";
import { type Rows, views } from "./schema.js";
import { type Columns, type Json, parse, plain, rowOf } from "./values.js";
import { beside } from "./views.js";

/** What one service has in a workflow. */
export interface Entry {
  readonly service: string;
  readonly entity: string;
  /** The text of its key: of several parts each percent-encoded, joined by commas. */
  readonly key: string;
}

/** An entry as a workflow tells it. */
export interface RegisteredEntry extends Entry {
  readonly registered_at: string | null;
  /** Topics that registered it. */
  readonly origins: readonly string[];
  /** With `expand`: the entity's row. */
  readonly row?: Readonly<Record<string, Json>> | null;
  /** With `expand`: rows of the views that are rooted in it, by name. */
  readonly views?: { readonly [N in keyof Rows]?: Rows[N] | null };
}

/** A workflow with its entries in all services. */
export interface Workflow {
  readonly workflow_id: string;
  readonly name: string | null;
  readonly attributes: Readonly<Record<string, Json>> | null;
  readonly created_at: string | null;
  readonly created_by: string | null;
  readonly entries: readonly RegisteredEntry[];
  /** Whether there are more entries than are told. */
  readonly truncated: boolean;
}

/** A workflow that an entry belongs to. */
export interface FoundWorkflow {
  readonly workflow_id: string;
  readonly name: string | null;
  readonly created_at: string | null;
  readonly registered_at: string | null;
}

/** Where a page of a list begins, and how long it is. */
export interface Paged {
  readonly limit?: number;
  readonly cursor?: string;
}

/** Workflows: UUIDs that tie together what services have. */
export class Workflows {
  private readonly connection: Connection;

  constructor(connection: Connection) {
    this.connection = connection;
  }

  /** Make a workflow. It can be used at once, and read once `position` is reached. */
  async create(
    how: Calling & { readonly name?: string; readonly attributes?: Readonly<Record<string, Json>> } = {},
  ): Promise<{ readonly workflow_id: string; readonly position: Position }> {
    const { name, attributes } = how;
    const body = { ...(name === undefined ? {} : { name }), ...(attributes === undefined ? {} : { attributes }) };
    const { text, headers } = await this.connection.write({ method: "POST", path: "/v1/workflows", body }, how);
    const { workflow_id } = JSON.parse(text) as { readonly workflow_id: string };
    return { workflow_id, position: positionOf(headers.get("mesh-position")) };
  }

  /** Register an entry by hand, for what no event tells. Doing it twice is doing it once. */
  async register(workflowId: string, entry: Entry, how: Calling = {}): Promise<{ readonly position: Position }> {
    const parts = [entry.service, entry.entity, entry.key].map(inPath).join("/");
    const path = `/v1/workflows/${inPath(workflowId)}/entries/${parts}`;
    const { headers } = await this.connection.write({ method: "PUT", path }, how);
    return { position: positionOf(headers.get("mesh-position")) };
  }

  /** A workflow with its entries. Throws MeshProblem, of the kind `workflow-not-found` where there is none. */
  async get(
    workflowId: string,
    how: Reading & { readonly expand?: boolean } = {},
  ): Promise<Placed & { readonly workflow: Workflow }> {
    const parameters = how.expand ? ([["expand", "rows"]] as const) : [];
    const sent = { path: `/v1/workflows/${inPath(workflowId)}`, parameters };
    const { text, headers } = await this.connection.read(sent, how);
    return { workflow: workflowOf(parse(text)), ...placed(headers) };
  }

  /** The workflows that an entry belongs to. */
  async of(
    entry: Entry,
    how: Reading & Paged = {},
  ): Promise<Placed & Listed & { readonly workflows: readonly FoundWorkflow[] }> {
    const parameters = [...Object.entries({ ...entry }), ...paging(how)];
    const { text, headers } = await this.connection.read({ path: "/v1/workflows", parameters }, how);
    return { workflows: JSON.parse(text) as FoundWorkflow[], ...beside(headers), ...placed(headers) };
  }
}

/** The cursors of the pages beside one. */
export interface Listed {
  readonly next: string | null;
  readonly prev: string | null;
}

/** How a list is paged, as parameters. */
export function paging(how: Paged): [string, string][] {
  const found: [string, string][] = [];
  if (how.limit !== undefined) found.push(["limit", String(how.limit)]);
  if (how.cursor !== undefined) found.push(["cursor", how.cursor]);
  return found;
}

function workflowOf(parsed: unknown): Workflow {
  const { entries, ...head } = parsed as { readonly entries: readonly Record<string, unknown>[] };
  const read = entries.map(({ views: rows, ...entry }) => ({
    ...(plain(entry) as object),
    ...(rows === undefined ? {} : { views: rowsOf(rows as Record<string, unknown>) }),
  }));
  return { ...(plain(head) as object), entries: read } as unknown as Workflow;
}

/** Rows by view; a view that this client was not made with is read as JSON. */
function rowsOf(rows: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const known: Readonly<Record<string, { readonly columns: Columns }>> = views;
  const read = (name: string, row: unknown): unknown => {
    const columns = known[name]?.columns;
    return row === null || columns === undefined ? plain(row) : rowOf(row, columns);
  };
  return Object.fromEntries(Object.entries(rows).map(([name, row]) => [name, read(name, row)]));
}

function inPath(text: string): string {
  const encoded = segment(text);
  if (encoded === null) throw new TypeError(`'${text}' cannot be part of a URL.`);
  return encoded;
}
