import { expect, test } from "vitest";
import { LanguageField, languageName } from "../../routers/core/languages.ts";

const read = (text: string) => LanguageField().safeParse(text);
const messages = (text: string) => read(text).error?.issues.map(({ message }) => message);

test.each([
  ["EN", "en"],
  ["pt-br", "pt-BR"],
  ["zh-hant-tw", "zh-Hant-TW"],
])("%s becomes the canonical tag %s", (text, tag) => {
  expect(read(text)).toMatchObject({ success: true, data: tag });
});

test("a text that is too long gets no other sentence; a shorter one gets the form", () => {
  expect(messages("a".repeat(65))).toEqual(["A language tag has at most 64 characters."]);
  expect(messages("a".repeat(64))).toEqual(["Write a BCP 47 language tag, such as en or pt-BR."]);
});

test("a tag without a meaning for speech is refused with the reason", () => {
  expect(messages("en_US")?.[0]).toMatch(/^Write a hyphen, not an underscore/);
  expect(messages("xx")?.[0]).toMatch(/^There is no language xx/);
  expect(messages("mul")?.[0]).toMatch(/^There is no language mul/);
  expect(messages("en-ZZ")?.[0]).toMatch(/^There is no region ZZ/);
  expect(messages("en-Abcd")?.[0]).toMatch(/^There is no script Abcd/);
  expect(messages("en-u-nu-latn")?.[0]).toMatch(/^Remove everything from/);
});

test("a language has its English name, and a tag without a name is its own name", () => {
  expect([languageName("de"), languageName("pt-BR"), languageName("!")]).toEqual([
    "German",
    "Brazilian Portuguese",
    "!",
  ]);
});
