import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

/** The architecture tests read the code and the router. They need no database. */
export default defineConfig({
  test: {
    execArgv: ["--import", fileURLToPath(new URL("./dev/fast-imports.mjs", import.meta.url))],
    include: ["tests/architecture/*.test.ts"],
    testTimeout: 60_000,
    // One process imports the application once for all files.
    isolate: false,
    maxWorkers: 1,
  },
});
