import { parseArgs } from "node:util";
import { seedCalls } from "./call-ground.ts";
import { filtersOf, inOneLine, measureList } from "./call-lists.ts";
import { openGround } from "./ground.ts";
import { type Row, table } from "./table.ts";

/** The cost of call lists: `npm run bench:lists -- [--calls 1000000] [--clients 50]`. */
async function main() {
  const { values } = parseArgs({
    options: {
      calls: { type: "string", default: "1000000" },
      clients: { type: "string", default: "50" },
    },
  });
  const stops: (() => Promise<unknown>)[] = [];
  try {
    const { deps, owner } = await openGround(stops);
    const began = performance.now();
    const crowds = await seedCalls(owner, {
      calls: Number(values.calls),
      clients: Number(values.clients),
      statistics: 100,
    });
    console.error(`  seeded in ${Math.round((performance.now() - began) / 1000)} s`);
    const faulty: string[] = [];
    for (const crowd of [crowds[0]!, crowds[Math.floor(crowds.length / 2)]!, crowds.at(-1)!]) {
      const rows: Row[] = [];
      const plans: string[] = [];
      for (const [name, filters] of Object.entries(filtersOf(crowd))) {
        const { first, hundredth, objections } = await measureList(deps.db, crowd, name, filters);
        const cost = (seen: typeof first | null) => [seen?.milliseconds ?? null, seen && `${seen.buffers}`];
        rows.push([name, `${first.rows}`, ...cost(first), ...cost(hundredth)]);
        plans.push(`${name}: ${inOneLine((hundredth ?? first).plan)}`);
        faulty.push(...objections.map((objection) => `${crowd.calls} calls, ${name}: ${objection}`));
      }
      const heads = ["filter", "rows", "first page, ms", "buffers", "hundredth page, ms", "buffers"];
      console.log(table(`A client with ${crowd.calls} calls`, heads, rows));
      console.log(plans.join("\n"), "\n");
    }
    if (faulty.length > 0) {
      console.error(`\n${faulty.join("\n")}`);
      process.exitCode = 1;
    }
  } finally {
    for (const stop of stops.reverse()) await stop().catch((error: unknown) => console.error(error));
  }
}

await main();
