import "../node-version.ts";
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { idPattern, prefixes } from "../../db/ids.ts";
import type { CliContext } from "./cli-context.ts";
import type * as Deliveries from "./deliveries.ts";
import type * as Numbers from "./numbers.ts";
import type * as SetApart from "./set-apart.ts";

const usageExitCode = 2;

/** The operator's command: `node server/operate.js …`, or `npm run operate -- …` from the sources. */
const program = new Command("operate")
  .description("Operate a running installation through its database (DATABASE_URL and APP_SECRET).")
  .showSuggestionAfterError()
  .showHelpAfterError("Run it with --help to see its usage.")
  .addHelpText(
    "after",
    examples("operate deliveries status", "operate deliveries pause --help", "operate deliveries dead --hours 72"),
  )
  .exitOverride();

const deliveries = program
  .command("deliveries")
  .description("Show, pause and resume deliveries to webhook endpoints.")
  .addHelpText(
    "after",
    examples(
      "operate deliveries status",
      'operate deliveries pause --client client_… --reason "The client requested it."',
      "operate deliveries resume --client client_…",
    ),
  )
  .exitOverride();

deliveryCommand("status", "Show due deliveries, what delays them, and the results of recent attempts.")
  .option("--json", "as JSON")
  .addOption(
    new Option("--watch [seconds]", "repeat, every 2 seconds by default").argParser(number(1, 3600)).preset("2"),
  )
  .action((options) =>
    work((commands, context) => commands.status(context, { json: options.json, everySeconds: options.watch })),
  )
  .addHelpText(
    "after",
    examples("operate deliveries status", "operate deliveries status --watch", "operate deliveries status --json"),
  );

withScope(deliveryCommand("pause", "Start no more deliveries; those in flight finish."), "--reason <text>")
  .requiredOption("--reason <text>", "the reason, shown to other operators (required)", reason)
  .action((options) => work((commands, context) => commands.pause(context, scopeOf(options), options.reason)))
  .addHelpText(
    "after",
    examples(
      'operate deliveries pause --all --reason "The database is being moved."',
      'operate deliveries pause --endpoint wh_… --reason "Its owner requested it."',
    ),
  );

withScope(deliveryCommand("resume", "Remove a pause; due deliveries start within seconds."))
  .action((options) => work((commands, context) => commands.resume(context, scopeOf(options))))
  .addHelpText("after", examples("operate deliveries resume --all"));

withScope(deliveryCommand("drain", "Pause, and wait until no delivery is in flight."), "[options]")
  .option(
    "--reason <text>",
    `the reason, shown to other operators (default "Drained.", or that of an existing pause)`,
    reason,
  )
  .option("--timeout <seconds>", "how long to wait", number(1, 86_400), 60)
  .action((options) =>
    work((commands, context) =>
      commands
        .drain(context, scopeOf(options), { reason: options.reason, timeoutSeconds: options.timeout })
        .then((drained) => {
          if (!drained) process.exitCode = 1;
        }),
    ),
  )
  .addHelpText(
    "after",
    `\nExit code 0: drained. 1: timeout. The pause stays in both cases.\n${examples(
      "operate deliveries drain --all --timeout 120 && echo drained",
    )}`,
  );

deliveryCommand("dead", "Show dead letters: their number per client, or those of one client.")
  .option("--client <id>", "the dead letters of this client", scope("client"))
  .option("--hours <n>", "how many hours back", number(1, 24 * 90), 24)
  .option("--limit <n>", "maximum number of rows", number(1, 1000), 20)
  .option("--json", "as JSON")
  .action((options) => work((commands, context) => commands.dead(context, options)))
  .addHelpText("after", examples("operate deliveries dead", "operate deliveries dead --client client_… --hours 72"));

const setApart = program
  .command("set-apart")
  .description("Show and retry rows that system loops could not process.")
  .addHelpText("after", examples("operate set-apart list", "operate set-apart retry --loop audit.chain"))
  .exitOverride();

setApart
  .command("list")
  .description("Show the oldest rows, and their number per loop.")
  .exitOverride()
  .option("--json", "as JSON")
  .action((options) => withSetApart((commands, context) => commands.list(context, options)))
  .addHelpText("after", examples("operate set-apart list", "operate set-apart list --json"));

const retry = setApart
  .command("retry")
  .description("Let the loop process rows again; a row that fails again is set apart again.")
  .usage("(--id <id> | --loop <name> | --all)")
  .exitOverride()
  .addOption(new Option("--id <id>", "one row").conflicts(["loop", "all"]))
  .addOption(new Option("--loop <name>", "all rows of one loop").conflicts(["id", "all"]))
  .addOption(new Option("--all", "all rows").conflicts(["id", "loop"]))
  .action((options) => {
    if (Object.keys(options).length === 0) retry.error("error: Pass --id, --loop or --all.");
    return withSetApart((commands, context) => commands.retry(context, options));
  })
  .addHelpText("after", examples("operate set-apart retry --id sap_…", "operate set-apart retry --all"));
const numbers = program
  .command("numbers")
  .description("Assign the numbers of the shared provider account to clients.")
  .addHelpText(
    "after",
    examples("operate numbers list --waiting", "operate numbers assign --client client_… +49301234*"),
  )
  .exitOverride();

numbers
  .command("list")
  .description("List assigned numbers.")
  .option("--waiting", "list the routes that wait for a number")
  .option("--client <id>", "only of this client", scope("client"))
  .option("--limit <n>", "maximum number of rows", number(1, 100), 50)
  .option("--json", "as JSON")
  .action((options) => withNumbers((commands, context) => commands.list(context, options)))
  .exitOverride();

numbers
  .command("assign")
  .argument("<pattern>", "a number, or the user part of a SIP address; a final `*` matches any ending", routePattern)
  .description("Assign a number to a client, or with a final `*` all numbers with this prefix.")
  .requiredOption("--client <id>", "the client", scope("client"))
  .option("--max-routes <n>", "how many routes may use it", number(1, 20), 5)
  .action((pattern, { client, maxRoutes }) =>
    withNumbers((commands, context) => commands.assign(context, client, pattern, maxRoutes)),
  )
  .exitOverride();

numbers
  .command("reassign")
  .argument("<id>", "the id of the assignment", scope("number"))
  .description("Assign a number to another client; the routes of the first client wait from then on.")
  .requiredOption("--client <id>", "the client", scope("client"))
  .action((id, { client }) => withNumbers((commands, context) => commands.reassign(context, id, client)))
  .exitOverride();

numbers
  .command("release")
  .argument("<id>", "the id of the assignment", scope("number"))
  .description("Release a number; its routes stop answering.")
  .action((id) => withNumbers((commands, context) => commands.release(context, id)))
  .exitOverride();

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  if (error.exitCode !== 0) process.exitCode = usageExitCode;
}

function deliveryCommand(name: string, summary: string): Command {
  return deliveries.command(name).description(summary).exitOverride();
}

type ScopeOptions = { all?: true; client?: string; endpoint?: string };

/** Adds the three scope options, of which the usage line shows that one is required. */
function withScope(command: Command, more?: string): Command {
  return command
    .usage(["(--all | --client <id> | --endpoint <id>)", ...(more ? [more] : [])].join(" "))
    .addOption(new Option("--all", "all clients").conflicts(["client", "endpoint"]))
    .addOption(new Option("--client <id>", "one client").argParser(scope("client")).conflicts(["all", "endpoint"]))
    .addOption(
      new Option("--endpoint <id>", "one webhook endpoint").argParser(scope("endpoint")).conflicts(["all", "client"]),
    )
    .hook("preAction", () => {
      const given = Object.keys(command.opts());
      if (!given.some((name) => ["all", "client", "endpoint"].includes(name)))
        command.error("error: Pass --all, --client or --endpoint.");
    });
}

function scopeOf({ client, endpoint }: ScopeOptions): string {
  return client ?? endpoint ?? "all";
}

function scope(kind: "client" | "endpoint" | "number") {
  return (value: string): string => {
    if (idPattern(kind).test(value)) return value;
    throw new InvalidArgumentError(`It must be an id such as ${prefixes[kind]}_01m82knxfbfrssk0x3en012rbf.`);
  };
}

function routePattern(value: string): string {
  if (/^(\+?[0-9]{1,15}|[A-Za-z][A-Za-z0-9_.-]{0,59})\*?$/.test(value)) return value;
  throw new InvalidArgumentError(
    "It must be a number or the user part of a SIP address; a final `*` matches any ending.",
  );
}

function reason(value: string): string {
  const text = value.trim();
  if (text.length > 0 && text.length <= 500) return text;
  throw new InvalidArgumentError("It must have 1 to 500 characters.");
}

function number(from: number, to: number) {
  return (value: string): number => {
    if (/^\d+$/.test(value) && Number(value) >= from && Number(value) <= to) return Number(value);
    throw new InvalidArgumentError(`It must be a whole number from ${from} to ${to}.`);
  };
}

function examples(...lines: string[]): string {
  return `\nExamples:\n${lines.map((line) => `  ${line}`).join("\n")}`;
}

async function withSetApart(run: (commands: typeof SetApart, context: CliContext) => Promise<void>) {
  const [commands, { withCliContext }] = await Promise.all([import("./set-apart.ts"), import("./cli-context.ts")]);
  await withCliContext(process.env, (context) => run(commands, context));
}

async function withNumbers(run: (commands: typeof Numbers, context: CliContext) => Promise<void>) {
  const [commands, { withCliContext }] = await Promise.all([import("./numbers.ts"), import("./cli-context.ts")]);
  await withCliContext(process.env, (context) => run(commands, context));
}

/** Loads the slow modules only when a command runs, so that help is fast. */
async function work(run: (commands: typeof Deliveries, context: CliContext) => Promise<void>) {
  const [commands, { withCliContext }] = await Promise.all([import("./deliveries.ts"), import("./cli-context.ts")]);
  await withCliContext(process.env, (context) => run(commands, context));
}
