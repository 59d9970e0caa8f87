import { furthest, isNowhere, type Position, positionOf } from "./positions.js";
import { MeshProblem, MeshUnreachable } from "./problems.js";

/** How to reach the mesh. */
export interface Options {
  /** Where the API is, as `https://mesh.example`; an empty text is the origin of the page. */
  readonly url: string;
  /** The bearer token, or what gives one for each request; without one the request is anonymous. */
  readonly token?: string | (() => string | undefined | Promise<string | undefined>);
  /** Seconds that a read waits for the position that it must reflect, where it does not say; by default 2. */
  readonly wait?: number;
  /** How many answers to keep, to be told from then on only what has changed; by default none. Browsers do it anyway. */
  readonly kept?: number;
  /** What sends requests; by default the global `fetch`. */
  readonly fetch?: (url: string, init: RequestInit) => Promise<Response>;
}

/** What every request takes. */
export interface Calling {
  /** Ends the request; it then fails with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** What every read takes. */
export interface Reading extends Calling {
  /** What the answer must reflect: the position of a write. A session adds those of its own. */
  readonly minPosition?: Position;
  /** Seconds to wait for that. */
  readonly wait?: number;
  /** Seconds that the answer may be behind the log at most; else it is the problem `too-stale`. */
  readonly maxStaleness?: number;
}

/** What an answer reflects. */
export interface Placed {
  /** It reflects exactly what is below this. */
  readonly position: Position;
  /** For how many seconds at most something newer may have been in the log; null where that is not known. */
  readonly age: number | null;
  /** How many events below `minPosition` wait behind a dead letter and are in no row. */
  readonly parked: number;
  /** Topics of `minPosition` that do not feed what was asked. */
  readonly ignored: readonly string[];
}

/** A request, without what all have in common. */
export interface Sent {
  readonly method?: "GET" | "HEAD" | "POST" | "PUT";
  /** Below the API's address, encoded. */
  readonly path: string;
  readonly parameters?: readonly (readonly [string, string])[];
  readonly accept?: string;
  readonly body?: unknown;
}

/** A body as text, and the headers that came with it. */
export interface Received {
  readonly text: string;
  readonly headers: Headers;
}

/** Sends requests, and knows what this client has written. */
export class Connection {
  private readonly options: Options;
  private readonly remembering: boolean;
  private readonly answers = new Map<string, Received>();
  private written: Position = {};

  constructor(options: Options, remembering: boolean) {
    this.options = options;
    this.remembering = remembering;
  }

  /** The same way to the mesh, for a session. */
  session(): Connection {
    return new Connection(this.options, true);
  }

  /** What reads of a session reflect. */
  get position(): Position {
    return this.written;
  }

  /** Have all reads from here on reflect this. */
  remember(position: Position): void {
    if (this.remembering) this.written = furthest(this.written, position);
  }

  /** A read, as text. Throws MeshProblem, MeshUnreachable. */
  async read(sent: Sent, reading: Reading): Promise<Received> {
    const headers = demanded(reading, this.written, this.options.wait ?? 2);
    const name = `${sent.accept ?? ""} ${target(sent)}`;
    const known = sent.method === undefined ? this.answers.get(name) : undefined;
    const tag = known?.headers.get("etag");
    if (tag) headers["If-None-Match"] = tag;
    const response = await this.send(sent, headers, reading.signal);
    if (response.status === 304 && known) {
      this.keep(name, known);
      return { text: known.text, headers: response.headers };
    }
    if (!response.ok) throw await MeshProblem.of(response);
    const received = { text: await lost(response.text(), reading.signal), headers: response.headers };
    if (sent.method === undefined && response.headers.get("etag")) this.keep(name, received);
    return received;
  }

  /** A read whose body is yet to come. Throws MeshProblem, MeshUnreachable. */
  async open(sent: Sent, reading: Reading): Promise<Response> {
    const headers = demanded(reading, this.written, this.options.wait ?? 2);
    const response = await this.send(sent, headers, reading.signal);
    if (!response.ok) throw await MeshProblem.of(response);
    return response;
  }

  /** A write; a session remembers where it is. Throws MeshProblem, MeshUnreachable. */
  async write(sent: Sent, calling: Calling): Promise<Received> {
    const response = await this.send(sent, {}, calling.signal);
    if (!response.ok) throw await MeshProblem.of(response);
    this.remember(positionOf(response.headers.get("mesh-position")));
    return { text: await lost(response.text(), calling.signal), headers: response.headers };
  }

  private async send(
    sent: Sent,
    headers: Record<string, string>,
    signal: AbortSignal | undefined,
  ): Promise<Response> {
    const { token, url } = this.options;
    const bearer = typeof token === "function" ? await token() : token;
    const body = sent.body === undefined ? null : JSON.stringify(sent.body);
    const init: RequestInit = {
      method: sent.method ?? "GET",
      headers: {
        Accept: sent.accept ?? "application/json",
        ...(bearer ? { Authorization: `Bearer ${bearer}` } : {}),
        ...(body === null ? {} : { "Content-Type": "application/json" }),
        ...headers,
      },
      body,
      signal: signal ?? null,
    };
    const fetching = this.options.fetch ?? ((to, how) => globalThis.fetch(to, how));
    return lost(fetching(url.replace(/\/+$/, "") + target(sent), init), signal);
  }

  private keep(name: string, received: Received): void {
    const most = this.options.kept ?? 0;
    this.answers.delete(name); // what was used last comes last
    if (most > 0) this.answers.set(name, received);
    for (const oldest of this.answers.keys()) {
      if (this.answers.size <= most) break;
      this.answers.delete(oldest);
    }
  }
}

/** What the headers of an answer tell. */
export function placed(headers: Headers): Placed {
  const age = headers.get("mesh-age");
  return {
    position: positionOf(headers.get("mesh-position")),
    age: age === null ? null : Number(age),
    parked: Number(headers.get("mesh-parked") ?? 0),
    ignored: (headers.get("mesh-ignored-topics") ?? "").split(", ").filter((topic) => topic !== ""),
  };
}

/** A failure of the connection as MeshUnreachable; the end that the caller asked for stays what it is. */
export async function lost<T>(waiting: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  try {
    return await waiting;
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new MeshUnreachable("The mesh cannot be reached, or the connection to it was lost.", { cause: error });
  }
}

function target(sent: Sent): string {
  const query = new URLSearchParams();
  for (const [name, value] of sent.parameters ?? []) query.append(name, value);
  const text = query.toString();
  return text === "" ? sent.path : `${sent.path}?${text}`;
}

function demanded(reading: Reading, written: Position, wait: number): Record<string, string> {
  const minimum = furthest(written, reading.minPosition ?? {});
  const preferred: string[] = [];
  if (!isNowhere(minimum)) preferred.push(`wait=${reading.wait ?? wait}`);
  if (reading.maxStaleness !== undefined) preferred.push(`max-staleness=${reading.maxStaleness}`);
  return {
    ...(isNowhere(minimum) ? {} : { "Mesh-Min-Position": JSON.stringify(minimum) }),
    ...(preferred.length === 0 ? {} : { Prefer: preferred.join(", ") }),
  };
}
