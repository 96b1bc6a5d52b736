import { describe, expect, test } from "vitest";
import { maskSecrets, secretForms, withoutPartialSecret } from "../../routers/core/mask-secrets.ts";

describe("masking a secret", () => {
  test("does not mask twice, and keeps text that is not secret", () => {
    expect(maskSecrets("user:secret and secret", secretForms("user:secret"))).toBe("[secret] and [secret]");
    expect(maskSecrets("nothing", secretForms("s"))).toBe("nothing");
    expect(maskSecrets("a.b axb", secretForms("a.b"))).toBe("[secret] axb");
    expect(maskSecrets("text", [])).toBe("text");
  });

  test("masks every written form of a secret completely: JSON, a URL, a form, base64", () => {
    const secret = 'pässword "1/2"';
    const json = JSON.stringify(`a ${secret} b`);
    expect(maskSecrets(json, secretForms(secret))).toBe('"a [secret] b"');
    const quoted = '"quoted" word';
    expect(maskSecrets(`say ${JSON.stringify(quoted).slice(1, -1)}.`, secretForms(quoted))).toBe("say [secret].");
    const query = new URLSearchParams({ key: secret, other: "1" }).toString();
    expect(maskSecrets(query, secretForms(secret))).toBe("key=[secret]&other=1");
    expect(maskSecrets(`?key=${encodeURIComponent(secret)}`, secretForms(secret))).toBe("?key=[secret]");
    for (const encoding of ["base64", "base64url"] as const)
      expect(maskSecrets(Buffer.from(secret).toString(encoding), secretForms(secret))).toBe("[secret]");
  });

  test("masks a short secret only as a whole word", () => {
    expect(maskSecrets("banana, a cat", secretForms("a"))).toBe("banana, [secret] cat");
    expect(maskSecrets("the password1 is not pass", secretForms("pass"))).toBe("the password1 is not [secret]");
    expect(maskSecrets("schlüssel ü", secretForms("ü"))).toBe("schlüssel [secret]");
    expect(maskSecrets("ada:1234 12345", secretForms("ada:1234"))).toBe("[secret] 12345");
  });

  test("finds a short secret next to any delimiter", () => {
    const forms = secretForms("pass1");
    for (const [before, after] of [
      ['"', '"'],
      ["?key=", "&x=1"],
      ["%20", "%20"],
      ["line\\n", "\\n"],
      ["\\u00e4", "\\u00e4"],
      ["Bearer ", ""],
      ["a:", "@b"],
    ] as const)
      expect(maskSecrets(`${before}pass1${after}`, forms)).toBe(`${before}[secret]${after}`);
  });

  test("removes the longest prefix of a secret from the end of a cut text", () => {
    expect(withoutPartialSecret("text abcab", ["abcabd"])).toBe("text ");
    expect(withoutPartialSecret("texts", ["secret"])).toBe("text");
    expect(withoutPartialSecret("", ["secret"])).toBe("");
  });
});
