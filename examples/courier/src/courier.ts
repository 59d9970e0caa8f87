// A courier tells the mesh that a shipment left, waits until that is joined to its order, and reads the row.
// It needs nothing but HTTP: no Kafka client, no SDK.
//
// While `make demo` runs, in this example's folder:
//
//   npm install && npm run build
//   MESH_TOKEN=$(../../mesh token --role courier) npm start -- 11008
//
// MESH_URL is where the API is, http://127.0.0.1:8000 unless it says otherwise.
import { randomUUID } from "node:crypto";

const url = process.env["MESH_URL"] ?? "http://127.0.0.1:8000";
const token = process.env["MESH_TOKEN"] ?? "";

type Row = { order_id: number; customer_name: string | null; shipped_at: string | null };
type Problem = { title: string; detail: string; remedy: string };

async function ask(path: string, init: RequestInit & { headers: Record<string, string> }): Promise<Response> {
  const headers = { ...(token ? { Authorization: `Bearer ${token}` } : {}), ...init.headers };
  // No answer, or a 503: the same event again. Its id sees to it that it is published once.
  for (let tries = 1; ; tries += 1) {
    const answer = await fetch(`${url}${path}`, { ...init, headers }).catch((error: unknown) => {
      if (tries === 5) throw error;
      return null;
    });
    if (answer !== null && (answer.status !== 503 || tries === 5)) return answer;
    await new Promise((resolve) => setTimeout(resolve, 200 * 2 ** tries));
  }
}

async function facts<T>(answer: Response): Promise<T> {
  if (answer.ok) return (await answer.json()) as T;
  const { title, detail, remedy } = (await answer.json()) as Problem;
  throw new Error(`${answer.status} ${title} ${detail} ${remedy}`);
}

/** Publish that the shipment of an order left; the position that a read must reach to reflect it. */
export async function sent(order: number, at: Date): Promise<string> {
  const event = {
    specversion: "1.0",
    id: randomUUID(),
    source: "/courier",
    type: "logistics.shipment.sent.v1",
    subject: String(order),
    time: at.toISOString(),
    data: { order_id: order, at: at.toISOString() },
  };
  const answer = await ask("/v1/events", {
    method: "POST",
    headers: { "Content-Type": "application/cloudevents+json" },
    body: JSON.stringify(event),
  });
  await facts(answer);
  return answer.headers.get("Mesh-Position") ?? "{}";
}

/** The joined row of an order, at a position or after it. */
export async function read(order: number, position: string): Promise<Row> {
  const path = `/v1/views/order_overview/${order}?select=order_id,customer_name,shipped_at`;
  return facts<Row>(await ask(path, { headers: { "Mesh-Min-Position": position, Prefer: "wait=20" } }));
}

const order = Number(process.argv[2] ?? "11008");
const at = new Date();
const position = await sent(order, at);
const row = await read(order, position);
console.log(`order ${row.order_id} of ${row.customer_name} left at ${row.shipped_at}, at position ${position}`);
if (row.shipped_at === null || Date.parse(row.shipped_at) !== at.getTime()) throw new Error("the row is not of this write");
