// What a frontend does with the generated client, on real Node against a real mesh; it throws at what is not as it says.
import assert from "node:assert/strict";
import { createClient, isProblem, MeshUnreachable } from "./mesh/index.js";

const [, , url = "", token = ""] = process.argv;
const mesh = createClient({ url, kept: 10 });
const { order_overview: orders, workflow_overview: workflows } = mesh.views;

// One row, its columns and their types.
const { row, position, age } = await orders.get(10248);
assert.equal(row.customer_name, "Vins et alcools Chevalier");
assert.equal(row.total, 440);
assert.ok(Object.keys(position).length > 0);
assert.ok(age === null || age >= 0);
const { row: small } = await orders.get(10248, { select: ["order_id", "total"] });
assert.deepEqual(small, { order_id: 10248, total: 440 });
// @ts-expect-error: it is not among those selected
assert.equal(small.customer_name, undefined);
assert.equal(await orders.find(1), null);

// Filters, orders, pages forth and back.
const large = { where: { total: { gt: 10_000 }, customer_name: { ilike: "*a*" } }, order: "total.desc" } as const;
const all = (await orders.list({ ...large, limit: 100, count: "exact" })).rows;
assert.ok(all.length > 3);
for (const each of all) assert.ok((each.total ?? 0) > 10_000 && each.customer_name?.toLowerCase().includes("a"));
const ids: number[] = [];
let last = "";
for await (const page of orders.pages({ ...large, limit: 2, select: ["order_id"] })) {
  ids.push(...page.rows.map((each) => each.order_id));
  last = page.prev ?? last;
}
assert.deepEqual(ids, all.map((each) => each.order_id));
const before = await orders.list({ ...large, limit: 2, select: ["order_id"], cursor: last });
assert.deepEqual(before.rows.map((each) => each.order_id), ids.slice(-2 - (ids.length % 2 || 2)).slice(0, 2));
assert.equal(await orders.count({ where: large.where }), all.length);
const either = await orders.list({ where: { $or: [{ order_id: { eq: 10248 } }, { order_id: { in: [10249, 10250] } }] } });
assert.equal(either.rows.length, 3);

// All rows as they come.
let streamed = 0;
for await (const each of orders.stream({ where: { shipped_at: { is: null } }, select: ["order_id", "shipped_at"] })) {
  assert.equal(each.shipped_at, null);
  streamed += 1;
}
assert.equal(streamed, await orders.count({ where: { shipped_at: { is: null } } }));

// Several queries of one snapshot.
const { results } = await mesh.query([orders.one(10248), mesh.views.customer_overview.some({ limit: 1 }), orders.one(1)]);
assert.equal(results[0]?.total, 440);
assert.equal(results[1].rows.length, 1);
assert.equal(results[2], null);

// A session reads its own writes.
const session = mesh.session();
const { workflow_id } = await session.workflows.create({ name: "journey" });
await session.workflows.register(workflow_id, { service: "sales", entity: "order", key: "10248" });
const joined = await session.views.workflow_overview.get(workflow_id, { wait: 10 });
assert.equal(joined.row.order_id, 10248);
assert.equal(joined.row.total, 440);
const { workflow } = await session.workflows.get(workflow_id, { expand: true, wait: 10 });
assert.equal(workflow.entries[0]?.views?.order_overview?.customer_name, row.customer_name);
assert.ok((await workflows.list({ where: { name: { eq: "journey" } } })).rows.length >= 1);

// Problems have kinds, and a remedy.
// @ts-expect-error: there is no such column
await assert.rejects(orders.list({ where: { nothing: { eq: 1 } } }), (error) => isProblem(error, "unknown-parameter"));
await assert.rejects(orders.get(1), (error) => isProblem(error, "row-not-found") && error.remedy !== "");
await assert.rejects(createClient({ url, token: "x" }).views.order_overview.get(1), (error) => isProblem(error, "unauthenticated"));
await assert.rejects(createClient({ url: "http://127.0.0.1:1" }).views.order_overview.get(1), MeshUnreachable);

// A token decides what there is.
const own = createClient({ url, token: async () => token });
const mine = await own.views.order_overview.list({ limit: 1000 });
assert.ok(mine.rows.length > 0 && mine.rows.every((each) => each.customer_id === "QUICK"));
await assert.rejects(own.views.product_sales.list(), (error) => isProblem(error, "view-not-found"));
console.log("done");
