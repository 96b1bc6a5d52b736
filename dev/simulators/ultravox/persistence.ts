import { readFile, rename, writeFile } from "node:fs/promises";
import type { Agent, Thing, World } from "./state.ts";

const everyMs = 500;

type Kept = { agents: Agent[]; shelves: Record<string, Thing[]> };

/** Loads the file, and saves to it after each change. The returned function saves it a last time. */
export async function persistResources(world: World, file: string): Promise<() => Promise<void>> {
  let written = await readFile(file, "utf8").catch(() => "{}"); // no file at the first start
  const kept = readKept(written);
  for (const agent of kept.agents) world.agents.set(agent.id, agent);
  world.ordinals.agent = nextOrdinal(kept.agents);
  for (const [resource, resources] of Object.entries(kept.shelves)) {
    world.shelves.set(resource, new Map(resources.map((thing) => [thing.id, thing])));
    world.ordinals[resource] = nextOrdinal(resources);
  }

  async function write() {
    const shelves = Object.fromEntries(
      [...world.shelves].map(([resource, resources]) => [resource, [...resources.values()]]),
    );
    const text = JSON.stringify({ agents: [...world.agents.values()], shelves } satisfies Kept, writeBytes);
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

/** An earlier version stored only agents, as a list. */
function readKept(text: string): Kept {
  const found: unknown = JSON.parse(text);
  if (Array.isArray(found)) return { agents: found as Agent[], shelves: {} };
  return { agents: [], shelves: {}, ...(found as Partial<Kept>) };
}

const nextOrdinal = (resources: { ordinal: number }[]) => Math.max(0, ...resources.map(({ ordinal }) => ordinal + 1));

/** Audio and documents are not stored: they would be most of the file. */
const writeBytes = (_: string, value: unknown) =>
  typeof value === "object" && value !== null && "type" in value && value.type === "Buffer" ? undefined : value;
