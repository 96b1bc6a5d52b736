import { z } from "zod";

/**
 * The only parser of language tags (BCP 47). The provider takes a language with a script, a region or variants. Extensions
 * and private subtags have no meaning for speech, so they are refused.
 */
export type ReadLanguage = { tag: string; objection?: undefined } | { tag?: undefined; objection: string };

const longestLanguage = 35;
const form = "Write a BCP 47 language tag, such as en or pt-BR.";

const languageNames = new Intl.DisplayNames("en", { type: "language", fallback: "none" });
const regionNames = new Intl.DisplayNames("en", { type: "region", fallback: "none" });
const scriptNames = new Intl.DisplayNames("en", { type: "script", fallback: "none" });

/** ISO 639 codes that are no language, and region codes that are no region. */
const noLanguages = new Set(["und", "mul", "mis", "zxx", "root"]);
const noRegions = new Set(["ZZ", "XA", "XB"]);

/** The tag in its canonical form, or why it is invalid. */
export function readLanguage(text: string): ReadLanguage {
  if (/^[A-Za-z]{2,3}_/.test(text)) return { objection: `Write a hyphen, not an underscore. ${form}` };
  if (text.length > longestLanguage || !/^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$/.test(text)) return { objection: form };
  const locale = localeOf(text);
  if (!locale) return { objection: form };
  if (/-[a-z0-9]-/i.test(text))
    return { objection: `Remove everything from \`${/-[a-z0-9]-/i.exec(text)![0]}\` on. ${form}` };
  const { language, script, region } = locale;
  if (noLanguages.has(language) || !nameIn(languageNames, language)) {
    return { objection: `There is no language ${language}. ${form}` };
  }
  if (script !== undefined && !nameIn(scriptNames, script))
    return { objection: `There is no script ${script}. ${form}` };
  if (region !== undefined && (noRegions.has(region) || !nameIn(regionNames, region))) {
    return { objection: `There is no region ${region}. ${form}` };
  }
  return { tag: locale.baseName };
}

function localeOf(text: string): Intl.Locale | null {
  try {
    return new Intl.Locale(text);
  } catch {
    return null;
  }
}

/** `of` throws RangeError for some codes that `Intl.Locale` accepts. */
function nameIn(names: Intl.DisplayNames, code: string): string | undefined {
  try {
    return names.of(code);
  } catch {
    return undefined;
  }
}

/** The English name, for a prompt; the tag itself if it has no name. */
export function languageName(tag: string): string {
  const named = new Intl.DisplayNames("en", { type: "language" });
  return nameIn(named, localeOf(tag)?.baseName ?? tag) ?? tag;
}

export const canonicalLanguage = (text: string): string => readLanguage(text).tag ?? text;

/** RFC 5646 gives no maximum. The longest tag that the provider takes is far below this. */
const longestTag = 64;

/** A language field. Its output is the canonical tag. */
export const LanguageField = () =>
  z
    .string()
    .max(longestTag, { error: `A language tag has at most ${longestTag} characters.`, abort: true })
    .superRefine((text, check) => {
      const { objection } = readLanguage(text);
      if (objection) check.addIssue({ code: "custom", message: objection, input: text });
    })
    .transform(canonicalLanguage);
