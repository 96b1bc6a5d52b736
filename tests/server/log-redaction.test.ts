import { expect, test } from "vitest";
import { openLog } from "../../server/log.ts";

/** Listed here too, so that a name cannot be removed from the code alone. */
const names = [
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
];

test.each(names)("the field %s is redacted at every depth", (name) => {
  const lines: string[] = [];
  const log = openLog("info", { write: (line: string) => void lines.push(line) });
  const value = `canary of ${name}`;
  log.info({ [name]: value, input: { [name]: value, inner: { [name]: value } }, plain: "visible" }, "message");
  const [line] = lines.map((text) => JSON.parse(text));
  expect(line).toMatchObject({
    [name]: "[redacted]",
    input: { [name]: "[redacted]", inner: { [name]: "[redacted]" } },
    plain: "visible",
  });
  expect(lines.join("")).not.toContain(value);
});
