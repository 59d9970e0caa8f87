export { createClient, MeshClient, Session, type ViewClients } from "./client.js";
export type { Calling, Options, Placed, Reading } from "./connection.js";
export type { EventFilter, Events, LoggedEvent } from "./events.js";
export type { Comparison, OrderBy, Where } from "./filters.js";
export type { Position } from "./positions.js";
export { isProblem, MeshProblem, MeshUnreachable, type ProblemKind } from "./problems.js";
export type { Asked, Several } from "./queries.js";
export * from "./schema.js";
export type { Json, Kind } from "./values.js";
export type {
  Answer,
  ColumnOf,
  Counting,
  KeyOf,
  Page,
  PageRows,
  ViewClient,
  ViewName,
  Wanted,
  WantedPage,
} from "./views.js";
export type { Entry, FoundWorkflow, Listed, Paged, RegisteredEntry, Workflow, Workflows } from "./workflows.js";
