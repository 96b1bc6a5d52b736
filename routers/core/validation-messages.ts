import { z } from "zod";

type Issue = z.core.$ZodRawIssue;
type IssueOf<C extends z.core.$ZodIssueCode> = Extract<Issue, { code: C }>;

/** Enough for every list of ours but the longest, and within the limit of a message. */
const maxValues = 20;
const maxValuesLength = 300;

/** What to write, by the type that a schema expects. */
const wanted: Record<string, string> = {
  string: "a string",
  number: "a number",
  int: "an integer",
  bigint: "an integer",
  boolean: "true or false",
  array: "an array",
  tuple: "an array",
  set: "an array",
  object: "an object",
  record: "an object",
  map: "an object",
  null: "null",
  date: "a time",
};

/** What to write, by the format of a text. */
const formats: Record<string, string> = {
  email: "Write an email address, such as ada@example.com.",
  url: "Write a URL, such as https://example.com/path.",
  uuid: "Write a UUID.",
  guid: "Write a UUID.",
  datetime: "Write a time as ISO 8601, such as 2026-11-22T10:15:30Z.",
  date: "Write a date, such as 2026-11-22.",
  time: "Write a time of day, such as 10:15:30.",
  duration: "Write an ISO 8601 duration, such as PT5M.",
  ipv4: "Write an IPv4 address, such as 192.0.2.1.",
  ipv6: "Write an IPv6 address, such as 2001:db8::1.",
  cidrv4: "Write a range of IPv4 addresses, such as 192.0.2.0/24.",
  cidrv6: "Write a range of IPv6 addresses, such as 2001:db8::/32.",
  base64: "Write it in base64.",
  base64url: "Write it in base64url.",
  e164: "Write a phone number in E.164 format, such as +14155550100.",
  jwt: "Write a JSON Web Token.",
  json_string: "Write JSON.",
  lowercase: "Use lowercase letters only.",
  uppercase: "Use uppercase letters only.",
};

/** The sentence for every issue that a schema has no message for: what to do. */
export function validationMessage(issue: Issue): string {
  switch (issue.code) {
    case "invalid_type":
      return typeMessage(issue);
    case "invalid_value":
      return valuesMessage(issue.values);
    case "too_big":
    case "too_small":
      return sizeMessage(issue);
    case "invalid_format":
      return formatMessage(issue);
    case "not_multiple_of":
      return `Use a multiple of ${issue.divisor}.`;
    case "unrecognized_keys":
      return noSuchField;
    case "invalid_union":
      return unionMessage(issue);
    case "invalid_key":
    case "invalid_element":
      return issue.issues[0]?.message ?? notValid;
    default:
      return notValid;
  }
}

export const noSuchField = "There is no such field.";
const notValid = "This value is not valid. See the API reference.";

function typeMessage({ expected, input }: IssueOf<"invalid_type">): string {
  if (expected === "never" || expected === "undefined" || expected === "void") return "Omit this field.";
  if (input === undefined) return "This field is required.";
  return `Use ${wanted[expected] ?? "another type"}.`;
}

function valuesMessage(values: readonly unknown[]): string {
  const shown: string[] = [];
  let left = maxValuesLength;
  for (const value of values.slice(0, maxValues)) {
    left -= String(value).length + 2;
    if (left < 0) break;
    shown.push(String(value));
  }
  if (shown.length === 0) return notValid;
  if (values.length === 1) return `Use ${shown[0]}.`;
  const more = values.length - shown.length;
  return `Use one of: ${shown.join(", ")}${more > 0 ? `, or ${more} others` : ""}.`;
}

function sizeMessage(issue: IssueOf<"too_big" | "too_small">): string {
  const isMaximum = issue.code === "too_big";
  const limit = issue.code === "too_big" ? issue.maximum : issue.minimum;
  const unit = units[issue.origin];
  if (unit) {
    const [one, many] = unit;
    const count = `${limit} ${Number(limit) === 1 ? one : many}`;
    return issue.exact ? `Use exactly ${count}.` : `Use at ${isMaximum ? "most" : "least"} ${count}.`;
  }
  if (issue.origin === "date") {
    return `Write a time that is not ${isMaximum ? "after" : "before"} ${new Date(Number(limit)).toISOString()}.`;
  }
  if (issue.inclusive === false) return `Use a number ${isMaximum ? "below" : "above"} ${limit}.`;
  return `Use a number of at ${isMaximum ? "most" : "least"} ${limit}.`;
}

const units: Record<string, [one: string, many: string]> = {
  string: ["character", "characters"],
  array: ["item", "items"],
  tuple: ["item", "items"],
  set: ["item", "items"],
  map: ["pair", "pairs"],
  record: ["pair", "pairs"],
  object: ["field", "fields"],
  file: ["byte", "bytes"],
};

function formatMessage(issue: IssueOf<"invalid_format">): string {
  const { format, prefix, suffix, includes, pattern } = issue as z.core.$ZodIssueInvalidStringFormat & Affixes;
  if (format === "starts_with") return `Begin it with \`${prefix}\`.`;
  if (format === "ends_with") return `End it with \`${suffix}\`.`;
  if (format === "includes") return `Write \`${includes}\` in it.`;
  return formats[format] ?? (pattern ? `Use the format \`${pattern}\`.` : notValid);
}

type Affixes = { prefix?: string; suffix?: string; includes?: string };

/** One sentence for alternatives. `details` of a request name the fields of the closest alternative instead. */
function unionMessage(issue: IssueOf<"invalid_union">): string {
  const { options } = issue as { options?: readonly unknown[] };
  if (options && options.length > 0) return valuesMessage(options);
  if (issue.input === undefined) return "This field is required.";
  const closest = closestAlternative(issue.errors);
  if (closest) return closest[0]!.message;
  const types = issue.errors.flat().flatMap(({ code, ...rest }) => ("expected" in rest ? [wanted[rest.expected]] : []));
  const names = [...new Set(types)].filter((name) => name !== undefined);
  return names.length > 0 ? `Use ${names.join(" or ")}.` : notValid;
}

/**
 * The issues of the alternative that the value was most likely meant for: it has the right type and the fewest problems.
 * Undefined if the type fits none.
 */
export function closestAlternative(alternatives: readonly z.core.$ZodIssue[][]): z.core.$ZodIssue[] | undefined {
  const ofRightType = alternatives.filter(
    (issues) => issues.length > 0 && !issues.some(({ code, path }) => code === "invalid_type" && path.length === 0),
  );
  return ofRightType.sort((one, other) => one.length - other.length)[0];
}

// For every schema without a message: in requests, jobs and the environment.
z.config({ localeError: validationMessage });
