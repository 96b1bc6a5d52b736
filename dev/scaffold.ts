import { execFileSync } from "node:child_process";
import { existsSync, globSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";

const usage =
  "npm run new -- module <name, plural: call-labels> [--singular call-label] [--prefix lbl] [--skip-migration]";
const templates = join(import.meta.dirname, "templates/module");

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    singular: { type: "string" },
    prefix: { type: "string" },
    "skip-migration": { type: "boolean", default: false },
  },
});
const [what, kebabs = ""] = positionals;
if (what !== "module" || !/^[a-z]+(-[a-z]+)*$/.test(kebabs)) {
  console.error(usage);
  process.exit(1);
}
const root = resolve(import.meta.dirname, "..");
if (existsSync(join(root, "routers", kebabs))) {
  console.error(`routers/${kebabs} exists already. Choose another name.`);
  process.exit(1);
}

const kebab = values.singular ?? kebabs.replace(/s$/, "");
const camelOf = (text: string) => text.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
const pascalOf = (text: string) => camelOf(`-${text}`);
const names: Record<string, string> = {
  kebabs,
  camel: camelOf(kebab),
  camels: camelOf(kebabs),
  Type: pascalOf(kebab),
  Types: pascalOf(kebabs),
  snake: kebab.replaceAll("-", "_"),
  snakes: kebabs.replaceAll("-", "_"),
  words: kebab.replaceAll("-", " "),
  prefix: values.prefix ?? kebab.replaceAll("-", ""),
};
const fill = (text: string) => text.replace(/\{\{(\w+)\}\}/g, (_, name: string) => names[name]!);

const created = {
  "table.ts.txt": "db/schema/{{kebabs}}.ts",
  "schema.ts.txt": "routers/{{kebabs}}/schema.ts",
  "service.ts.txt": "routers/{{kebabs}}/service.ts",
  "router.ts.txt": "routers/{{kebabs}}/router.ts",
  "test.ts.txt": "tests/{{kebabs}}/{{kebabs}}.test.ts",
};
for (const [template, target] of Object.entries(created)) {
  const file = join(root, fill(target));
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, fill(readFileSync(join(templates, template), "utf8")));
  console.log(`created ${fill(target)}`);
}

/** Inserts a line before the first line that matches, in the file that has one. */
function insertBefore(glob: string, line: RegExp, text: string): void {
  for (const name of globSync(glob, { cwd: root })) {
    const file = join(root, name);
    const content = readFileSync(file, "utf8");
    const match = line.exec(content);
    if (!match) continue;
    writeFileSync(file, `${content.slice(0, match.index)}${fill(text)}\n${content.slice(match.index)}`);
    console.log(`changed ${name}`);
    return;
  }
  throw new Error(`No place for "${fill(text)}" was found in ${glob}. Add it by hand.`);
}

insertBefore("db/ids.ts", /^} as const;/m, '  {{camel}}: "{{prefix}}",');
insertBefore("routers/core/scopes.ts", /^\] as const;/m, '  "{{snakes}}:read",\n  "{{snakes}}:write",');
insertBefore(
  "routers/core/error*.ts",
  /^ {2}tool_not_found:/m,
  '  {{snake}}_not_found: { status: 404, meaning: "This client has no {{words}} with this id." },',
);
insertBefore(
  "db/grants.sql",
  /^grant select, insert, update on /m,
  "grant select, insert, update, delete on {{snakes}} to patchbay_tenant;",
);
insertBefore("routers/index.ts", /^import \{ webhooks \}/m, 'import { {{camels}} } from "./{{kebabs}}/router.ts";');
insertBefore("routers/index.ts", /^ {2}webhooks,$/m, "  {{camels}},");

if (!values["skip-migration"]) {
  const command = [join(import.meta.dirname, "migration.ts"), "--name", `add_${names.snakes}`];
  execFileSync(process.execPath, command, { cwd: root, stdio: "inherit" });
}
console.log(
  fill(
    [
      "",
      "Next:",
      "  1. Describe the tag {{kebabs}} in edge/openapi/openapi-text.ts.",
      "  2. Add tests/contract/endpoints/{{kebabs}}.ts with one valid input per procedure, and list it in resources.ts.",
      "  3. Add the table {{snakes}} to tests/security/catalogue.test.ts.",
      "  4. Give the roles the scopes {{snakes}}:read and {{snakes}}:write, in a migration.",
      "  5. npm run format && npm run check && npx vitest run tests/{{kebabs}}",
    ].join("\n"),
  ),
);
