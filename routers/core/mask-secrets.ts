/** The replacement for a secret. */
const mask = "[secret]";

/**
 * All forms of a secret in a text: plain, in a URL, in a form, in JSON, in base64, and the password alone of
 * `user:password`. The longest comes first, so that no form is masked only partly.
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

/** A shorter form can occur inside words by chance, where a mask would reveal it. */
const minUnboundedLength = 8;
/** A word begins after anything but a letter or digit, and after an escape of JSON or of a URL, which can end in one. */
const wordBegins = String.raw`(?:(?<![\p{L}\p{N}])|(?<=\\[bfnrt]|\\u[0-9a-fA-F]{4}|%[0-9a-fA-F]{2}))`;
const wordEnds = String.raw`(?![\p{L}\p{N}])`;

/** Masks all forms in one pass, so that masks are never masked again. A short form is masked only as a whole word. */
export function maskSecrets(text: string, forms: readonly string[]): string {
  return forms.length === 0 ? text : text.replace(new RegExp(forms.map(searchPattern).join("|"), "gu"), mask);
}

const searchPattern = (form: string) =>
  form.length < minUnboundedLength ? `${wordBegins}${patternOf(form)}${wordEnds}` : patternOf(form);

/** The digits after a percent sign can have either case. */
function patternOf(form: string): string {
  const either = (digit: string) => `[${digit.toLowerCase()}${digit.toUpperCase()}]`;
  return form
    .replace(/[.*+?^${}()|[\]\\/]/g, "\\$&")
    .replace(/%([0-9A-F])([0-9A-F])/gi, (_, first, second) => `%${either(first)}${either(second)}`);
}

/** Removes the beginning of a secret from the end of a text that was cut. */
export function withoutPartialSecret(text: string, forms: readonly string[]): string {
  const halves = forms.map((form) => {
    for (let length = Math.min(form.length - 1, text.length); length > 0; length--) {
      if (text.endsWith(form.slice(0, length))) return length;
    }
    return 0;
  });
  return text.slice(0, text.length - Math.max(0, ...halves));
}
