import { Connection, type Options, type Reading } from "./connection.js";
import { Events } from "./events.js";
import type { Position } from "./positions.js";
import { type Asked, askSeveral, type Several } from "./queries.js";
import { views } from "./schema.js";
import { ViewClient, type ViewName } from "./views.js";
import { Workflows } from "./workflows.js";

/** One client for each view, by its name. */
export type ViewClients = { readonly [N in ViewName]: ViewClient<N> };

/** The mesh, as one role sees it. */
export class MeshClient {
  protected readonly connection: Connection;
  readonly views: ViewClients;
  readonly workflows: Workflows;
  readonly events: Events;

  constructor(connection: Connection) {
    this.connection = connection;
    const names = Object.keys(views) as ViewName[];
    this.views = Object.fromEntries(
      names.map((name) => [name, new ViewClient(connection, name)]),
    ) as unknown as ViewClients;
    this.workflows = new Workflows(connection);
    this.events = new Events(connection);
  }

  /** Several queries, answered from one snapshot: `query([mesh.views.a.one(1), mesh.views.b.some({ limit: 3 })])`. */
  async query<const A extends readonly Asked<unknown>[]>(asked: A, reading: Reading = {}): Promise<Several<A>> {
    const { headers: _, ...several } = await askSeveral(this.connection, asked, reading);
    return several;
  }

  /** A client whose reads reflect all that it has written. */
  session(): Session {
    return new Session(this.connection.session());
  }
}

/** A client that remembers the positions of its writes. */
export class Session extends MeshClient {
  /** What its reads reflect; hand it to whoever must see the same. */
  get position(): Position {
    return this.connection.position;
  }

  /** Have its reads reflect this, too. */
  remember(position: Position): void {
    this.connection.remember(position);
  }
}

/** A client of the mesh. It asks nothing yet. */
export function createClient(options: Options): MeshClient {
  return new MeshClient(new Connection(options, false));
}
