import "../node-version.ts";
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { idPattern, prefixes } from "../../db/ids.ts";
import type { CliContext } from "./cli-context.ts";
import type * as Deliveries from "./deliveries.ts";
import type * as Numbers from "./numbers.ts";
import type * as SetApart from "./set-apart.ts";

const misused = 2;

/** The operator's command: `node server/operate.js …`, `npm run operate -- …` from the sources. */
const program = new Command("operate")
  .description("Looks after a running installation, through its database (DATABASE_URL and APP_SECRET).")
  .showSuggestionAfterError()
  .showHelpAfterError("Add --help to see how it is used.")
  .addHelpText(
    "after",
    examples("operate deliveries status", "operate deliveries pause --help", "operate deliveries dead --hours 72"),
  )
  .exitOverride();

const deliveries = program
  .command("deliveries")
  .description("deliveries to webhook endpoints: how they go, and where they are held back")
  .addHelpText(
    "after",
    examples(
      "operate deliveries status",
      'operate deliveries pause --client client_… --reason "They asked for it."',
      "operate deliveries resume --client client_…",
    ),
  )
  .exitOverride();

verb("status", "show what is due, what holds it up, and how attempts went")
  .option("--json", "as JSON")
  .addOption(new Option("--watch [seconds]", "again and again").argParser(number(1, 3600)).preset("2"))
  .action((options) => work((verbs, hands) => verbs.status(hands, { json: options.json, everySeconds: options.watch })))
  .addHelpText(
    "after",
    examples("operate deliveries status", "operate deliveries status --watch", "operate deliveries status --json"),
  );

withScope(verb("pause", "admit nothing more; what is in flight ends"), "--reason <text>")
  .requiredOption("--reason <text>", "for the other operators; needed", reason)
  .action((options) => work((verbs, hands) => verbs.pause(hands, scopeOf(options), options.reason)))
  .addHelpText(
    "after",
    examples(
      'operate deliveries pause --all --reason "The database is being moved."',
      'operate deliveries pause --endpoint wh_… --reason "Its owner asked for it."',
    ),
  );

withScope(verb("resume", "take a pause back: what has become due is admitted within seconds"))
  .action((options) => work((verbs, hands) => verbs.resume(hands, scopeOf(options))))
  .addHelpText("after", examples("operate deliveries resume --all"));

withScope(verb("drain", "pause, and wait until nothing is in flight"), "[options]")
  .option("--reason <text>", `for the other operators ("Drained.", unless it is paused already)`, reason)
  .option("--timeout <seconds>", "how long to wait", number(1, 86_400), 60)
  .action((options) =>
    work((verbs, hands) =>
      verbs
        .drain(hands, scopeOf(options), { reason: options.reason, timeoutSeconds: options.timeout })
        .then((drained) => {
          if (!drained) process.exitCode = 1;
        }),
    ),
  )
  .addHelpText(
    "after",
    `\nExits with 0 when it is drained, with 1 when the time was over. The pause stays either way.\n${examples(
      "operate deliveries drain --all --timeout 120 && echo drained",
    )}`,
  );

verb("dead", "show what was given up: how much for each client, or what for one")
  .option("--client <id>", "what was given up for this client", scope("client"))
  .option("--hours <n>", "how far back", number(1, 24 * 90), 24)
  .option("--limit <n>", "rows at most", number(1, 1000), 20)
  .option("--json", "as JSON")
  .action((options) => work((verbs, hands) => verbs.dead(hands, options)))
  .addHelpText("after", examples("operate deliveries dead", "operate deliveries dead --client client_… --hours 72"));

const setApart = program
  .command("set-apart")
  .description("rows that system loops could not process, and go on without")
  .addHelpText("after", examples("operate set-apart list", "operate set-apart retry --loop audit.chain"))
  .exitOverride();

setApart
  .command("list")
  .description("show the oldest rows, and how many there are of each loop")
  .exitOverride()
  .option("--json", "as JSON")
  .action((options) => withSetApart((verbs, hands) => verbs.list(hands, options)))
  .addHelpText("after", examples("operate set-apart list", "operate set-apart list --json"));

const retry = setApart
  .command("retry")
  .description("have the loop take rows up again; what fails again is set apart again")
  .usage("(--id <id> | --loop <name> | --all)")
  .exitOverride()
  .addOption(new Option("--id <id>", "one row").conflicts(["loop", "all"]))
  .addOption(new Option("--loop <name>", "all rows of one loop").conflicts(["id", "all"]))
  .addOption(new Option("--all", "all rows").conflicts(["id", "loop"]))
  .action((options) => {
    if (Object.keys(options).length === 0) retry.error("error: say which: --id <id>, --loop <name> or --all");
    return withSetApart((verbs, hands) => verbs.retry(hands, options));
  })
  .addHelpText("after", examples("operate set-apart retry --id sap_…", "operate set-apart retry --all"));
const numbers = program
  .command("numbers")
  .description("numbers of the shared provider account: whose they are, and who asks for one")
  .addHelpText(
    "after",
    examples("operate numbers list --waiting", "operate numbers assign --client client_… +49301234*"),
  )
  .exitOverride();

numbers
  .command("list")
  .description("show what is assigned to whom")
  .option("--waiting", "the routes that ask for a number that is not assigned to their client")
  .option("--client <id>", "of one client", scope("client"))
  .option("--limit <n>", "rows at most", number(1, 100), 50)
  .option("--json", "as JSON")
  .action((options) => withNumbers((verbs, hands) => verbs.list(hands, options)))
  .exitOverride();

numbers
  .command("assign")
  .argument("<pattern>", "a number, or the user of a SIP address; `*` at the end stands for the rest", routePattern)
  .description("give a client a number, or with `*` at the end all that begin so")
  .requiredOption("--client <id>", "whose it is", scope("client"))
  .option("--max-routes <n>", "so many routes within it answer", number(1, 20), 5)
  .action((pattern, { client, maxRoutes }) =>
    withNumbers((verbs, hands) => verbs.assign(hands, client, pattern, maxRoutes)),
  )
  .exitOverride();

numbers
  .command("reassign")
  .argument("<id>", "of the assignment", scope("number"))
  .description("give an assigned number to another client: routes of the first wait from then on")
  .requiredOption("--client <id>", "whose it is", scope("client"))
  .action((id, { client }) => withNumbers((verbs, hands) => verbs.reassign(hands, id, client)))
  .exitOverride();

numbers
  .command("release")
  .argument("<id>", "of the assignment", scope("number"))
  .description("take an assigned number back: routes within it answer no more")
  .action((id) => withNumbers((verbs, hands) => verbs.release(hands, id)))
  .exitOverride();

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  if (error.exitCode !== 0) process.exitCode = misused;
}

function verb(name: string, summary: string): Command {
  return deliveries.command(name).description(summary).exitOverride();
}

type ScopeOptions = { all?: true; client?: string; endpoint?: string };

/** Says where by one of three options, which the first line of the help shows to be needed. */
function withScope(command: Command, more?: string): Command {
  return command
    .usage(["(--all | --client <id> | --endpoint <id>)", ...(more ? [more] : [])].join(" "))
    .addOption(new Option("--all", "of everybody").conflicts(["client", "endpoint"]))
    .addOption(new Option("--client <id>", "of one client").argParser(scope("client")).conflicts(["all", "endpoint"]))
    .addOption(
      new Option("--endpoint <id>", "of one webhook endpoint")
        .argParser(scope("endpoint"))
        .conflicts(["all", "client"]),
    )
    .hook("preAction", () => {
      const given = Object.keys(command.opts());
      if (!given.some((name) => ["all", "client", "endpoint"].includes(name)))
        command.error("error: say where: --all, --client <id> or --endpoint <id>");
    });
}

function scopeOf({ client, endpoint }: ScopeOptions): string {
  return client ?? endpoint ?? "all";
}

function scope(kind: "client" | "endpoint" | "number") {
  return (value: string): string => {
    if (idPattern(kind).test(value)) return value;
    throw new InvalidArgumentError(`Such an id looks like ${prefixes[kind]}_01m82knxfbfrssk0x3en012rbf.`);
  };
}

function routePattern(value: string): string {
  if (/^(\+?[0-9]{1,15}|[A-Za-z][A-Za-z0-9_.-]{0,59})\*?$/.test(value)) return value;
  throw new InvalidArgumentError("A number or the user of a SIP address; `*` at the end stands for the rest.");
}

function reason(value: string): string {
  const text = value.trim();
  if (text.length > 0 && text.length <= 500) return text;
  throw new InvalidArgumentError("A sentence of at most 500 characters.");
}

function number(from: number, to: number) {
  return (value: string): number => {
    if (/^\d+$/.test(value) && Number(value) >= from && Number(value) <= to) return Number(value);
    throw new InvalidArgumentError(`A whole number from ${from} to ${to}.`);
  };
}

function examples(...lines: string[]): string {
  return `\nExamples:\n${lines.map((line) => `  ${line}`).join("\n")}`;
}

async function withSetApart(run: (verbs: typeof SetApart, hands: CliContext) => Promise<void>) {
  const [verbs, { withCliContext }] = await Promise.all([import("./set-apart.ts"), import("./cli-context.ts")]);
  await withCliContext(process.env, (hands) => run(verbs, hands));
}

async function withNumbers(run: (verbs: typeof Numbers, hands: CliContext) => Promise<void>) {
  const [verbs, { withCliContext }] = await Promise.all([import("./numbers.ts"), import("./cli-context.ts")]);
  await withCliContext(process.env, (hands) => run(verbs, hands));
}

/** Opens the database for as long as the work takes. All that takes time to load is loaded here: help comes at once. */
async function work(run: (verbs: typeof Deliveries, hands: CliContext) => Promise<void>) {
  const [verbs, { withCliContext }] = await Promise.all([import("./deliveries.ts"), import("./cli-context.ts")]);
  await withCliContext(process.env, (hands) => run(verbs, hands));
}
