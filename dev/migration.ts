import { execFileSync } from "node:child_process";
import { globSync } from "node:fs";
import { resolve } from "node:path";

const root = resolve(import.meta.dirname, "..");
const migrations = () => globSync("db/migrations/*.sql", { cwd: root });

/** `npm run db:migration -- --name add-tags`: writes a migration from the difference to db/schema. */
const before = new Set(migrations());
const args = ["node_modules/drizzle-kit/bin.cjs", "generate", ...process.argv.slice(2)];
execFileSync(process.execPath, args, { cwd: root, stdio: "inherit" });
const created = migrations().filter((file) => !before.has(file));
if (created.length > 0) {
  console.log(
    [
      "",
      `Read ${created.join(", ")} before you commit it.`,
      "  1. A tenant table needs tenantPolicy() in db/schema, and its rights in db/grants.sql.",
      "  2. A column of a list that clients may change needs its `grant update (column)` in db/grants.sql.",
      "  3. A partitioned table needs `partition by range` by hand: drizzle-kit does not write it.",
      "  4. A new index on a large table locks it: see docs/operations.md.",
      "  5. tests/security/catalogue.test.ts lists every policy and right: add the new table there.",
    ].join("\n"),
  );
}
