import { execFile, execFileSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { expect, test, vi } from "vitest";
import { startTestApp } from "../support/app.ts";

vi.setConfig({ testTimeout: 120_000 });
const h = await startTestApp({ workers: true, speed: 100 });
/** The documents whose examples run in this order. */
const documents = ["api", "agents", "calls"];

type Example = { commands: string[]; shown: string };

/** The shell blocks with their commands, and the response block that follows. */
function examplesIn(text: string): Example[] {
  return Array.from(text.matchAll(/```sh\n(.*?)```\n(?:```json\n(.*?)```)?/gs), ([, block, shown = ""]) => ({
    commands: commandsIn(block!),
    shown,
  }));
}

/** A command continues over lines until the shell considers it complete. */
function commandsIn(block: string): string[] {
  const commands: string[] = [];
  let begun = "";
  for (const line of block.split("\n")) {
    begun += begun ? `\n${line}` : line;
    if (begun.endsWith("\\") || !isComplete(begun)) continue;
    if (begun && !begun.startsWith("#")) commands.push(begun);
    begun = "";
  }
  expect(begun).toBe("");
  return commands;
}

function isComplete(command: string): boolean {
  try {
    execFileSync("bash", ["-n", "-c", command], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** Values from earlier responses: the newest id of each kind, and the newest cursor. */
const seen = new Map<string, string>();

function remember(output: string) {
  for (const [id, kind] of output.matchAll(/\b([a-z]+)_[0-9a-hjkmnp-tv-z]{26}\b/g)) seen.set(kind!, id);
  const cursor = /"nextCursor":"([^"]+)"/.exec(output)?.[1];
  if (cursor) seen.set("cursor", cursor);
}

/** Replaces placeholders by values of earlier responses, as a reader would. */
const filled = (command: string) =>
  command
    .replace(/\b(agent|kb|tool|call)_…/g, (_, kind: string) => seen.get(kind) ?? `no ${kind} yet`)
    .replace(/cursor=[^"]*…/g, () => `cursor=${seen.get("cursor") ?? "none yet"}`);

function run(command: string): Promise<string> {
  const env = { PATH: process.env.PATH, URL: h.url, KEY: h.ada.key };
  return new Promise((resolve, reject) => {
    execFile("bash", ["-c", command], { env, timeout: 60_000 }, (error, out, err) =>
      error ? reject(new Error(`${command}\n${out}${err}`)) : resolve(out),
    );
  });
}

test("the examples of the documents run in order and return the documented responses", async () => {
  let responses = 0;
  for (const name of documents) {
    const text = await readFile(new URL(`../../docs/${name}.md`, import.meta.url), "utf8");
    for (const { commands, shown } of examplesIn(text)) {
      for (const command of commands.filter((each) => /\bcurl /.test(each))) {
        const output = await run(filled(command));
        const response = JSON.parse(output.slice(output.indexOf("{")).split("\n")[0]!);
        expect(response, `${name}: ${command}\n${output}`).toHaveProperty(
          shown.startsWith('{"error"') ? "error" : "data",
        );
        if (shown) expect(missing(JSON.parse(shown), response), `${name}: ${command}\n${output}`).toEqual([]);
        remember(output);
        responses++;
      }
    }
  }
  expect(responses).toBeGreaterThan(10);
});

/** The documented fields that are missing in the response. */
function missing(shown: unknown, response: unknown, path = ""): string[] {
  if (typeof shown !== "object" || shown === null || Array.isArray(shown)) return [];
  return Object.entries(shown).flatMap(([name, value]) => {
    if (name === "…") return [];
    const there = typeof response === "object" && response !== null && name in response;
    return there ? missing(value, (response as Record<string, unknown>)[name], `${path}${name}.`) : [`${path}${name}`];
  });
}
