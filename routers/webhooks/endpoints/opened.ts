import type { Cipher } from "../../ports/vault.ts";

const maxKept = 200;

/** Kept no longer than their cipher, which the vault drops after minutes. */
const opened = new WeakMap<Cipher, Map<string, string>>();

/** Opens sealed text. Each request to an endpoint needs the same few texts, and opening one takes as long as signing. */
export function openText(cipher: Cipher, sealed: Buffer, rowId: string): string {
  const texts = opened.get(cipher) ?? new Map<string, string>();
  opened.set(cipher, texts);
  const name = `${rowId} ${sealed.toString("latin1")}`;
  const known = texts.get(name);
  if (known !== undefined) return known;
  const text = cipher.open(sealed, rowId).toString();
  if (texts.size >= maxKept) texts.delete(texts.keys().next().value!);
  texts.set(name, text);
  return text;
}
