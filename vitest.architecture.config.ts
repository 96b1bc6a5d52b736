import { defineConfig } from "vitest/config";

/** The rules of the house: they read code and the router, and need no database. */
export default defineConfig({
  test: {
    include: ["tests/architecture/*.test.ts"],
    testTimeout: 60_000,
    maxWorkers: 2,
  },
});
