import { type DestinationStream, type Logger, pino } from "pino";
import { type LogOutput, logOutput } from "./log-output.ts";

/** Never in a log: what opens doors, and what belongs to people. Every place where they may stand, in one list. */
export const redacted = [
  "authorization",
  "password",
  "secret",
  "apiKey",
  "key_plain",
  "token",
  "to",
  "from",
  "variables",
  "body",
  "email",
].flatMap((name) => [name, `*.${name}`, `*.*.${name}`]);

const phone = /\+[1-9]\d{6,14}/g;
const credential = /\b(pb_(?:live|test)_[\w-]{4})[\w-]+|\b(whsec_)[\w+/=-]+|\beyJ[\w-]+\.[\w-]+\.[\w-]+/g;

/** Telephone numbers and credentials inside a sentence, such as an error of a provider. */
export function scrub(text: string): string {
  return text.replace(phone, "[phone]").replace(credential, (_, key, secret) => `${key ?? secret ?? "[token]"}…`);
}

/** A failed statement's message ends with the values that were to be written: they belong to people, not to a log. */
const messageOf = (error: Error) => scrub(error.message.split("\nparams: ", 1)[0]!);

/** The stack without the message, which it begins with and which may go over many lines. */
function framesOf({ stack = "", message }: Error): string {
  const begins = stack.indexOf(message);
  return begins < 0 ? "" : stack.slice(begins + message.length);
}

function causesOf({ cause }: Error, found: Error[] = []): Error[] {
  return cause instanceof Error && found.length < 5 ? causesOf(cause, [...found, cause]) : found;
}

let output: LogOutput | undefined;

/** One for the process: two buffers over one output would mix their lines. */
function standardOutput(): LogOutput {
  output ??= logOutput();
  return output;
}

/** How many log lines of this process were dropped. */
export const droppedLogLines = () => output?.dropped ?? 0;

/** Until what was logged is written, or cannot be; at most so long. */
export async function logWritten(ms = 1_000): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, output ? ms : 0); // keeps the process alive: nothing of the output does
    output?.flush(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}

export function openLog(level: string, destination?: DestinationStream): Logger {
  const options = {
    level,
    base: null,
    redact: { paths: redacted, censor: "[redacted]" },
    formatters: { level: (label: string) => ({ level: label }) },
    timestamp: pino.stdTimeFunctions.isoTime,
    serializers: {
      err: (error: unknown) => {
        if (!(error instanceof Error)) return scrub(String(error));
        const [cause, ...deeper] = causesOf(error).map((each) => `${each.name}: ${messageOf(each)}`);
        const stack = `${error.name}: ${messageOf(error)}${framesOf(error)}`;
        return {
          type: error.name,
          message: messageOf(error),
          stack,
          ...(cause ? { cause: [cause, ...deeper].join(" <- ") } : {}),
        };
      },
    },
  };
  return pino(options, destination ?? standardOutput());
}
