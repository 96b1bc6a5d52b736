import { fileURLToPath } from "node:url";
import { configDefaults, defineConfig } from "vitest/config";

/** Slow by nature: kills, load, processes of their own, and a type check of a copy. `npm run test:slow` runs them. */
export const slowTests = [
  "tests/crash/**/*.test.ts",
  "tests/security/noisy-{database,deliveries}.test.ts",
  "tests/security/{pipelined,silent-database}.test.ts",
  "tests/server/{build,process,shutdown}.test.ts",
  "tests/webhooks/receivers.test.ts",
  "tests/dev/scaffold.test.ts",
];

/** Needs a machine of its own: `npm run test:isolation`. */
export const isolationTests = ["tests/security/noisy-neighbour.test.ts"];

export default defineConfig({
  test: {
    execArgv: ["--import", fileURLToPath(new URL("./dev/fast-imports.mjs", import.meta.url))],
    include: ["tests/**/*.test.ts"],
    exclude: [...configDefaults.exclude, ...slowTests, ...isolationTests],
    globalSetup: ["tests/support/postgres.ts"],
    testTimeout: 60_000,
    hookTimeout: 90_000,
    maxWorkers: 3,
  },
});
