import { readdirSync, readFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { describe, expect, test } from "vitest";

const root = resolve(import.meta.dirname, "../..");
const skipped = new Set(["node_modules", ".git", "dist", ".turbo"]);

/** Every file of the repository: a later package may put its lock file, image or workflow anywhere. */
function filesUnder(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return skipped.has(entry.name) ? [] : filesUnder(path);
    return entry.isFile() ? [path] : [];
  });
}

const files = filesUnder(root);
const named = (pattern: RegExp) => files.filter((path) => pattern.test(path.slice(root.length)));
const locks = named(/\/package-lock\.json$/);
const images = named(/\/(Dockerfile[^/]*|[^/]+\.Dockerfile)$/);
const workflows = named(/^\/\.github\/.*\.ya?ml$/);

type LockEntry = { link?: boolean; inBundle?: boolean; integrity?: string; resolved?: string };

/** Entries of a lock file that npm would install without an integrity check. */
function unlocked(text: string): string[] {
  const { packages } = JSON.parse(text) as { packages: Record<string, LockEntry> };
  const installed = Object.entries(packages).filter(
    ([path, entry]) => path.includes("node_modules/") && !entry.link && !entry.inBundle,
  );
  return installed.filter(([, { integrity }]) => !/^sha512-[\w+/]{86}==$/.test(integrity ?? "")).map(([path]) => path);
}

/** Images of a Dockerfile that are named by a tag only. A stage of the same file is not an image. */
function unpinnedImages(text: string): string[] {
  const stages = Array.from(text.matchAll(/^FROM\s.*\sAS\s+(\S+)\s*$/gim), ([, name]) => name!.toLowerCase());
  const from = Array.from(text.matchAll(/^FROM\s+(?:--\S+\s+)*(\S+)/gim), ([, image]) => image!);
  const copied = Array.from(text.matchAll(/--from=(\S+)/gi), ([, image]) => image!);
  const isStage = (name: string) => stages.includes(name.toLowerCase()) || /^\d+$/.test(name) || name === "scratch";
  return [...from, ...copied].filter((image) => !isStage(image) && !/@sha256:[0-9a-f]{64}$/.test(image));
}

/** Actions of a workflow that are not named by a commit, and images that are not named by a digest. */
function unpinnedActions(text: string): string[] {
  const values = (key: string) =>
    Array.from(
      text.matchAll(new RegExp(`^[\\s-]*["']?${key}["']?:[ \\t]*["']?([^\\s"'#]+)`, "gm")),
      ([, value]) => value!,
    );
  const isPinnedAction = (uses: string) =>
    uses.startsWith("./") || /@[0-9a-f]{40}$/.test(uses) || /^docker:\/\/.*@sha256:[0-9a-f]{64}$/.test(uses);
  return [
    ...values("uses").filter((uses) => !isPinnedAction(uses)),
    ...[...values("container"), ...values("image")].filter((image) => !/@sha256:[0-9a-f]{64}$/.test(image)),
  ];
}

describe("builds use pinned inputs", () => {
  test("every entry of every lock file has an integrity hash, and none names a registry", () => {
    expect(locks.length).toBeGreaterThan(0);
    for (const path of locks) {
      const text = readFileSync(path, "utf8");
      expect(unlocked(text), path).toEqual([]);
      expect([...text.matchAll(/"resolved"/g)], path).toEqual([]);
    }
  });

  test("every image of a Dockerfile is named by its digest, and all stages use the same Node", () => {
    expect(images.length).toBeGreaterThan(0);
    for (const path of images) expect(unpinnedImages(readFileSync(path, "utf8")), basename(path)).toEqual([]);
    const nodes = images.flatMap((path) =>
      Array.from(readFileSync(path, "utf8").matchAll(/^FROM\s+(node\S+)/gm), ([, image]) => image!),
    );
    expect(new Set(nodes).size).toBe(1);
  });

  test("every action of a workflow is named by a commit, and its container by a digest", () => {
    expect(workflows.length).toBeGreaterThan(0);
    for (const path of workflows) expect(unpinnedActions(readFileSync(path, "utf8")), basename(path)).toEqual([]);
  });

  test("these checks find what is not pinned", () => {
    const lock = { packages: { "": {}, "node_modules/a": { version: "1.0.0" }, "node_modules/b": { link: true } } };
    expect(unlocked(JSON.stringify(lock))).toEqual(["node_modules/a"]);
    const digest = `sha256:${"a".repeat(64)}`;
    const dockerfile = `FROM node:24 AS build\nFROM --platform=linux/amd64 node@${digest}\nCOPY --from=build a b\nCOPY --from=nginx:1 a b\n`;
    expect(unpinnedImages(dockerfile)).toEqual(["node:24", "nginx:1"]);
    const workflow = `    container: node:20\n    steps:\n      - uses: a/b@v4\n      - uses: a/b@${"c".repeat(40)} # v4\n      - uses: ./here\n        image: "x@${digest}"\n`;
    expect(unpinnedActions(workflow)).toEqual(["a/b@v4", "node:20"]);
  });
});
