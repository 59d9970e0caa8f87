/** Per topic and partition the next offset: `{"sales.events": {"0": 42}}`. Pass it on as it is. */
export type Position = Readonly<Record<string, Readonly<Record<string, number>>>>;

/** A position from the text of a header. */
export function positionOf(text: string | null): Position {
  return text === null || text === "" ? {} : (JSON.parse(text) as Position);
}

/** What reflects both: per partition the greater offset. */
export function furthest(first: Position, second: Position): Position {
  const found: Record<string, Record<string, number>> = {};
  for (const position of [first, second]) {
    for (const [topic, offsets] of Object.entries(position)) {
      const there = (found[topic] ??= {});
      for (const [partition, offset] of Object.entries(offsets)) {
        there[partition] = Math.max(there[partition] ?? 0, offset);
      }
    }
  }
  return found;
}

/** Whether a position names no partition. */
export function isNowhere(position: Position): boolean {
  return Object.keys(position).length === 0;
}
