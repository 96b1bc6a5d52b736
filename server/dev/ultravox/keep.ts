import { readFile, rename, writeFile } from "node:fs/promises";
import type { Agent, World } from "./world.ts";

const everyMs = 500;

/** Takes up the agents of the file, and writes them there whenever they have changed. What is returned writes them once more. */
export async function keepAgents(world: World, file: string): Promise<() => Promise<void>> {
  let written = await readFile(file, "utf8").catch(() => "[]"); // the first start has no file
  for (const agent of JSON.parse(written) as Agent[]) world.agents.set(agent.id, agent);
  world.ordinals.agent = Math.max(0, ...[...world.agents.values()].map(({ ordinal }) => ordinal + 1));

  async function write() {
    const text = JSON.stringify([...world.agents.values()]);
    if (text === written) return;
    written = text;
    await writeFile(`${file}.new`, text);
    await rename(`${file}.new`, file);
  }
  const timer = setInterval(
    () => void write().catch((error) => console.error(`${file} was not written:`, error)),
    everyMs,
  ).unref();
  return () => {
    clearInterval(timer);
    return write();
  };
}
