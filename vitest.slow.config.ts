import { configDefaults, defineConfig } from "vitest/config";
import fast, { slowTests } from "./vitest.config.ts";

export default defineConfig({
  test: { ...fast.test, include: slowTests, exclude: configDefaults.exclude, maxWorkers: 2 },
});
