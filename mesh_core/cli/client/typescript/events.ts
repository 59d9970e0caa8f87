import { type Connection, placed, type Placed, type Reading } from "./connection.js";
import { beside } from "./views.js";
import { type Listed, type Paged, paging } from "./workflows.js";

/** Where an event is in the log. */
export interface LoggedEvent {
  readonly time: string;
  readonly type: string;
  readonly service: string;
  readonly entity: string;
  readonly subject: string;
  readonly workflow_id: string;
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
}

/** Which events. */
export interface EventFilter {
  readonly workflow?: string;
  readonly service?: string;
  readonly entity?: string;
  readonly type?: string;
  readonly subject?: string;
}

/** The timeline. */
export class Events {
  private readonly connection: Connection;

  constructor(connection: Connection) {
    this.connection = connection;
  }

  /** Events that belong to a workflow, in the order of their time. */
  async list(
    how: EventFilter & Paged & Reading = {},
  ): Promise<Placed & Listed & { readonly events: readonly LoggedEvent[] }> {
    const parameters = paging(how);
    for (const name of ["workflow", "service", "entity", "type", "subject"] as const) {
      const value = how[name];
      if (value !== undefined) parameters.push([name, value]);
    }
    const { text, headers } = await this.connection.read({ path: "/v1/events", parameters }, how);
    return { events: JSON.parse(text) as LoggedEvent[], ...beside(headers), ...placed(headers) };
  }
}
