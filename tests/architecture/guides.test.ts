import { existsSync, globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { root } from "./sources.ts";

const guides = globSync("{*.md,docs/**/*.md,{server,edge,routers,jobs,db,dev,tests}/**/README.md}", { cwd: root });

test.each(guides)("every file that %s names exists", (guide) => {
  const text = readFileSync(join(root, guide), "utf8");
  const named = text.matchAll(
    /`((?:server|edge|routers|jobs|db|dev|tests|docs)\/[\w./-]+\.(?:ts|mjs|md|sql|json|txt|py))`/g,
  );
  const missing = [...named].map(([, path]) => path!).filter((path) => !existsSync(join(root, path)));
  expect([...new Set(missing)]).toEqual([]);
});
