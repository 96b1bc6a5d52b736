/** What stands where a secret stood. */
const mask = "[secret]";

/**
 * Every way in which a secret may stand in a text: as it is, in a URL, in a form, in JSON, in base64, and of
 * `user:password` the password alone; the longest first, so that none is left half hidden.
 */
export function secretForms(secret: string): string[] {
  const password = secret.slice(secret.indexOf(":") + 1);
  const base64 = Buffer.from(secret).toString("base64");
  const tokens = [secret, password.length >= 4 ? password : secret, base64, base64.replace(/=+$/, "")];
  const written = [...tokens, Buffer.from(secret).toString("base64url")].flatMap((text) => [
    text,
    encodeURIComponent(text),
    new URLSearchParams({ x: text }).toString().slice(2),
    JSON.stringify(text).slice(1, -1),
  ]);
  return [...new Set(written)].filter(Boolean).toSorted((a, b) => b.length - a.length);
}

/** A shorter form is found inside words by chance, and a mask there would spell it out. */
const shortestAnywhere = 8;
/** A word begins after what is no letter or digit, and after an escape of JSON or of a URL, which may end in one. */
const wordBegins = String.raw`(?:(?<![\p{L}\p{N}])|(?<=\\[bfnrt]|\\u[0-9a-fA-F]{4}|%[0-9a-fA-F]{2}))`;
const wordEnds = String.raw`(?![\p{L}\p{N}])`;

/** One pass over the text: what stands there afterwards is not looked at again. A short form is hidden as a whole word. */
export function maskSecrets(text: string, forms: readonly string[]): string {
  return forms.length === 0 ? text : text.replace(new RegExp(forms.map(soughtOf).join("|"), "gu"), mask);
}

const soughtOf = (form: string) =>
  form.length < shortestAnywhere ? `${wordBegins}${patternOf(form)}${wordEnds}` : patternOf(form);

/** The digits after a percent sign may be of either case. */
function patternOf(form: string): string {
  const either = (digit: string) => `[${digit.toLowerCase()}${digit.toUpperCase()}]`;
  return form
    .replace(/[.*+?^${}()|[\]\\/]/g, "\\$&")
    .replace(/%([0-9A-F])([0-9A-F])/gi, (_, first, second) => `%${either(first)}${either(second)}`);
}

/** A text that was cut may end in the beginning of a secret: that goes too. */
export function withoutPartialSecret(text: string, forms: readonly string[]): string {
  const halves = forms.map((form) => {
    for (let length = Math.min(form.length - 1, text.length); length > 0; length--) {
      if (text.endsWith(form.slice(0, length))) return length;
    }
    return 0;
  });
  return text.slice(0, text.length - Math.max(0, ...halves));
}
