import { type DestinationStream, type Logger, pino } from "pino";
import { type LogOutput, logOutput } from "./log-output.ts";

/** Fields that are never logged: credentials and personal data, wherever they occur. */
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

/** Masks telephone numbers and credentials in a text, such as a provider's error message. */
export function scrub(text: string): string {
  return text.replace(phone, "[phone]").replace(credential, (_, key, secret) => `${key ?? secret ?? "[token]"}…`);
}

/** Without the parameters at the end of a failed statement's message: they are personal data. */
const messageOf = (error: Error) => scrub(error.message.split("\nparams: ", 1)[0]!);

/** The stack without the message, with which it begins and which may have many lines. */
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

/** Resolves when all lines are written or cannot be, at the latest after `ms`. */
export async function logWritten(ms = 1_000): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, output ? ms : 0); // keeps the process alive, which the output does not
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
