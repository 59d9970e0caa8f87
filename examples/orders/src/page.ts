import { createClient, isProblem, type Rows, type WantedPage } from "./mesh/index.js";

const url = new URLSearchParams(location.search).get("api") ?? "http://127.0.0.1:8000";
// A session: what it has written is in all that it reads from then on.
const mesh = createClient({ url, wait: 10 }).session();
const COLUMNS = ["order_id", "customer_name", "ship_country", "placed_at", "shipped_at", "total"] as const;
type Order = Pick<Rows["order_overview"], (typeof COLUMNS)[number]>;
type Wanted = WantedPage<"order_overview", (typeof COLUMNS)[number]>;

const filters = element("filters", HTMLFormElement);
const starting = element("starting", HTMLFormElement);
const pages = { next: element("next", HTMLButtonElement), prev: element("prev", HTMLButtonElement) };
const dollars = new Intl.NumberFormat("en", { style: "currency", currency: "USD" });
const day = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeZone: "UTC" });
let asking = new AbortController();
let chosen = 0;

/** What the form asks for, as the types of the view allow it. */
function wanted(): Wanted {
  const form = new FormData(filters);
  const customer = String(form.get("customer")).trim();
  const country = String(form.get("country"));
  const total = String(form.get("total"));
  return {
    select: COLUMNS,
    where: {
      ...(customer === "" ? {} : { customer_name: { ilike: `*${customer}*` } }),
      ...(country === "" ? {} : { ship_country: { eq: country } }),
      ...(total === "" ? {} : { total: { gte: Number(total) } }),
      ...(form.has("open") ? { shipped_at: { is: null } } : {}),
    },
    order: String(form.get("order")) as "placed_at.desc" | "total.desc" | "customer_name.asc",
    limit: 10,
    count: "exact",
  };
}

/** Show a page of them; whatever was asked for before and has not come yet is not waited for. */
async function show(cursor?: string): Promise<void> {
  asking.abort();
  asking = new AbortController();
  await reporting(async () => {
    const page = await mesh.views.order_overview.list({
      ...wanted(),
      ...(cursor === undefined ? {} : { cursor }),
      signal: asking.signal,
    });
    element("rows", HTMLElement).replaceChildren(...page.rows.map(line));
    element("caption", HTMLElement).textContent = `${page.count ?? 0} orders`;
    for (const way of ["next", "prev"] as const) {
      const to = page[way];
      pages[way].disabled = to === null;
      pages[way].onclick = () => void (to !== null && show(to));
    }
  });
}

function line(order: Order): HTMLTableRowElement {
  const row = document.createElement("tr");
  const start = document.createElement("button");
  start.type = "button";
  start.textContent = "Start workflow";
  start.setAttribute("aria-label", `Start a workflow with order ${order.order_id}`);
  start.onclick = () => choose(order);
  row.append(
    cell(String(order.order_id)),
    cell(order.customer_name ?? ""),
    cell(order.ship_country ?? ""),
    cell(day.format(new Date(order.placed_at))),
    cell(order.shipped_at === null ? "" : day.format(new Date(order.shipped_at))),
    cell(order.total === null ? "" : dollars.format(order.total), "number"),
    cell(start),
  );
  return row;
}

function choose(order: Order): void {
  chosen = order.order_id;
  starting.hidden = false;
  element("starting-title", HTMLElement).textContent = `Start a workflow with order ${order.order_id}`;
  element("started", HTMLElement).textContent = "";
  element("row", HTMLElement).replaceChildren();
  starting.querySelector("input")?.focus();
}

/** Publish two events, and read the row that they make: at once, for a session reads its own writes. */
async function start(): Promise<void> {
  const name = String(new FormData(starting).get("name"));
  const entry = { service: "sales", entity: "order", key: String(chosen) };
  const told = element("started", HTMLElement);
  told.textContent = "Publishing …";
  const done = await reporting(async () => {
    const { workflow_id } = await mesh.workflows.create({ name });
    await mesh.workflows.register(workflow_id, entry);
    const { row, position } = await mesh.views.workflow_overview.get(workflow_id);
    const shown = { ...row, position: JSON.stringify(position["mesh.events"] ?? {}) };
    element("row", HTMLElement).replaceChildren(
      ...Object.entries(shown).flatMap(([title, value]) => [term("dt", title), term("dd", String(value ?? "–"))]),
    );
    told.textContent = "This is its row, joined:";
  });
  if (!done) told.textContent = "";
}

/** Do it; a problem is shown with its remedy, and the end that we asked for is none. */
async function reporting(doing: () => Promise<void>): Promise<boolean> {
  const problem = element("problem", HTMLElement);
  try {
    await doing();
    problem.hidden = true;
    return true;
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") return false;
    problem.textContent = isProblem(error) ? `${error.message} ${error.remedy}` : `${String(error)} Is the demo running?`;
    problem.hidden = false;
    return false;
  }
}

function cell(content: string | Node, style = ""): HTMLTableCellElement {
  const made = document.createElement("td");
  made.className = style;
  made.append(content);
  return made;
}

function term(kind: "dt" | "dd", text: string): HTMLElement {
  const made = document.createElement(kind);
  made.textContent = text;
  return made;
}

function element<T extends HTMLElement>(id: string, kind: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new TypeError(`#${id} is not there.`);
  return found;
}

filters.oninput = () => void show();
filters.onsubmit = (event) => event.preventDefault();
starting.onsubmit = (event) => {
  event.preventDefault();
  void start();
};
void show();
