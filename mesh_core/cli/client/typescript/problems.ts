/** The last part of a problem's `type`, as docs/reference/http.md lists them. */
export type ProblemKind =
  | "body-too-large"
  | "connection-lost"
  | "cursor-expired"
  | "declaration-error"
  | "delivery-failed"
  | "delivery-timeout"
  | "dependency-unavailable"
  | "deploy-not-found"
  | "forbidden"
  | "histories-busy"
  | "history-too-long"
  | "internal-error"
  | "invalid-body"
  | "invalid-cursor"
  | "invalid-key"
  | "invalid-parameter"
  | "invalid-request"
  | "invalid-value"
  | "issuer-unavailable"
  | "log-incomplete"
  | "log-unavailable"
  | "method-not-allowed"
  | "not-acceptable"
  | "not-deployed"
  | "not-found"
  | "not-migrated"
  | "not-reached"
  | "parked"
  | "read-timeout"
  | "read-unavailable"
  | "row-not-found"
  | "too-many-deploys"
  | "too-many-requests"
  | "too-many-rows"
  | "too-stale"
  | "topic-missing"
  | "unauthenticated"
  | "unknown-parameter"
  | "unsupported-media-type"
  | "url-too-long"
  | "view-not-found"
  | "view-not-registered"
  | "contracts-not-registered"
  | "events-refused"
  | "envelope-error"
  | "message-too-large"
  | "too-many-events"
  | "being-published"
  | "ingest-unavailable"
  | "incompatible-contracts"
  | "schema-not-understood"
  | "workflow-not-found";

const TYPE = "urn:flexmesh:problem:";

/** The API says no: a problem document (RFC 9457). `message` is its detail. */
export class MeshProblem extends Error {
  override readonly name = "MeshProblem";
  /** What kind of problem; other text where something between here and the mesh answers. */
  readonly kind: ProblemKind | (string & {});
  readonly status: number;
  readonly title: string;
  /** What to do. */
  readonly remedy: string;
  /** The path that was asked. */
  readonly instance: string;
  /** Seconds after which to try again, if the answer says so. */
  readonly retryAfter: number | null;
  /** What the logs of the mesh call this request. */
  readonly correlationId: string | null;
  /** What a read that was refused had come to, as JSON; a `Mesh-Min-Position` that is not reached has it. */
  readonly position: string | null;

  constructor(status: number, document: Readonly<Record<string, unknown>>, headers: Headers) {
    const text = (name: string, otherwise: string): string => {
      const value = document[name];
      return typeof value === "string" ? value : otherwise;
    };
    super(text("detail", `The answer is ${status}.`));
    const type = text("type", "about:blank");
    this.kind = type.startsWith(TYPE) ? type.slice(TYPE.length) : type;
    this.status = status;
    this.title = text("title", `HTTP ${status}`);
    this.remedy = text("remedy", "");
    this.instance = text("instance", "");
    const after = Number.parseFloat(headers.get("retry-after") ?? "");
    this.retryAfter = Number.isFinite(after) ? after : null;
    this.correlationId = headers.get("x-correlation-id");
    this.position = headers.get("mesh-position");
  }

  /** The problem that an answer is. */
  static async of(response: Response): Promise<MeshProblem> {
    let document: unknown = null;
    try {
      document = JSON.parse(await response.text());
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
    const known = typeof document === "object" && document !== null ? document : {};
    return new MeshProblem(response.status, known as Readonly<Record<string, unknown>>, response.headers);
  }
}

/** The API cannot be reached, or the connection was lost in the midst of an answer; `cause` is the error of `fetch`. */
export class MeshUnreachable extends Error {
  override readonly name = "MeshUnreachable";
}

/** Whether `error` is a problem, perhaps one of these kinds. */
export function isProblem(error: unknown, ...kinds: readonly ProblemKind[]): error is MeshProblem {
  return error instanceof MeshProblem && (kinds.length === 0 || (kinds as readonly string[]).includes(error.kind));
}
