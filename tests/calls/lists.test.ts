import { desc, type SQL, sql } from "drizzle-orm";
import { beforeAll, describe, expect, test } from "vitest";
import type { Tx } from "../../db/client.ts";
import { calls } from "../../db/schema/calls.ts";
import { type Crowd, seedCalls } from "../load/call-ground.ts";
import { explained, filtersOf, measureList, shameful, slackBuffers } from "../load/call-lists.ts";
import { startTestApp } from "../support/app.ts";

const h = await startTestApp();
let crowd: Crowd;

beforeAll(async () => {
  [crowd] = (await seedCalls(h.owner, { calls: 20_000, clients: 10 })) as [Crowd];
}, 120_000);

const names = Object.keys(
  filtersOf({ clientId: "", calls: 0, agentId: "", number: "", since: new Date(), until: new Date() }),
);

describe("every filter of the list of calls", () => {
  test.each(names)(
    "%s: the hundredth page costs what the first does, and nothing is read or sorted whole",
    async (name) => {
      const measured = await measureList(h.deps.db, crowd, name, filtersOf(crowd)[name]!);
      expect(measured.objections).toEqual([]);
      if (name !== "search, rare") expect(measured.first.rows).toBeGreaterThan(0);
    },
  );

  test("the check detects a full sort, a full scan and a page whose cost grows", async () => {
    const by = (order: SQL) => (tx: Tx) => tx.select().from(calls).orderBy(order).limit(21);
    const sorted = await explained(h.deps.db, crowd.clientId, by(sql`summary, id`));
    expect(shameful(sorted.plan).join()).toMatch(/sorts \d+ rows/);
    const node = { "Actual Rows": 1, "Actual Loops": 1, "Shared Hit Blocks": 0, "Shared Read Blocks": 0 };
    const scan = { ...node, "Node Type": "Seq Scan", "Relation Name": "calls" };
    expect(shameful({ ...node, "Node Type": "Limit", Plans: [scan] })).toEqual(["reads the whole of calls"]);
    const far = (tx: Tx) => tx.select().from(calls).orderBy(desc(calls.id)).offset(1980).limit(21);
    const near = await measureList(h.deps.db, crowd, "none", {});
    expect((await explained(h.deps.db, crowd.clientId, far)).buffers).toBeGreaterThan(
      2 * near.first.buffers + slackBuffers,
    );
  });
});
