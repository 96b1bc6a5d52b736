import { type DestinationStream, type Logger, pino } from "pino";

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
        const cause = error.cause instanceof Error ? scrub(`${error.cause.name}: ${error.cause.message}`) : undefined;
        return { type: error.name, message: scrub(error.message), stack: scrub(error.stack ?? ""), ...(cause ? { cause } : {}) };
      },
    },
  };
  return destination ? pino(options, destination) : pino(options);
}
