import { dirname } from "node:path";
import { type Import, importsOf, sourceFiles } from "./sources.ts";

export const imports: Import[] = sourceFiles.flatMap(importsOf);

/** A module of `routers` is its folder, with all subfolders. Elsewhere a folder is itself. */
export function folderOf(file: string): string {
  const [layer, folder, ...rest] = file.split("/");
  if (layer === "routers" && rest.length > 0) return `routers/${folder}`;
  return dirname(file);
}

/** Cycles between folders, each as the path of its arrows with one import of each. */
export function folderCycles(arrows: readonly Import[] = imports): string[] {
  const next = new Map<string, Map<string, string>>();
  for (const { file, target } of arrows) {
    const [from, to] = [folderOf(file), folderOf(target)];
    if (from === to) continue;
    const targets = next.get(from) ?? new Map<string, string>();
    if (!targets.has(to)) targets.set(to, `${file} -> ${target}`);
    next.set(from, targets);
  }
  const found: string[] = [];
  const done = new Set<string>();
  const visit = (folder: string, path: string[]) => {
    const start = path.indexOf(folder);
    if (start >= 0) {
      const circle = [...path.slice(start), folder];
      found.push(
        circle
          .slice(1)
          .map((to, index) => next.get(circle[index]!)?.get(to))
          .join("\n  "),
      );
      return;
    }
    if (done.has(folder)) return;
    for (const to of next.get(folder)?.keys() ?? []) visit(to, [...path, folder]);
    done.add(folder);
  };
  for (const folder of next.keys()) visit(folder, []);
  return found;
}
