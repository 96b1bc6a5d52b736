import { isPossiblePhoneNumber } from "libphonenumber-js";
import { z } from "zod";
import { objectionToProviderHost } from "../ports/addresses.ts";

/**
 * The only parser of SIP addresses: of callees, of trunks, and of servers to register with. The provider connects to them
 * for us, so each host must be on the public internet.
 */
export type SipHost = { host: string; port: number | null };
export type SipUri = SipHost & { scheme: "sip" | "sips"; user: string; params: [name: string, value: string | null][] };

/** The parsed value, or a sentence with the reason why it is invalid. */
export type Read<T> = { value: T; objection?: undefined } | { value?: undefined; objection: string };

const longestUser = 64;
const longestHost = 253;
const mostParams = 8;
const uriForm = "Write a SIP address as `sip:user@host`, with `:port` and `;transport=tls` if needed.";
const hostForm = "Write a host such as sip.example.com, with `:port` if needed.";

/** RFC 3261, 25.1: the characters of the user part, plain or percent-encoded. */
const userPart = /^(?:[A-Za-z0-9._~!*'()&=+$,;?/-]|%[0-9A-Fa-f]{2})+$/;
/** An escaped control character, space, `@` or colon would end the user part for a server that decodes it. */
const escapedMark = /%(?:[01][0-9A-F]|20|22|3A|3C|3E|40|7F)/i;
const token = /^[A-Za-z0-9.!%*_+`'~-]{1,64}$/;
/** `maddr` and `received` would name another host than the address, and `method` another request. */
const refusedParams = new Set(["maddr", "received", "rport", "method", "ttl", "comp", "sigcomp-id"]);
const valuesOf: Readonly<Record<string, readonly string[]>> = {
  transport: ["udp", "tcp", "tls"],
  user: ["phone", "ip"],
};

/** Parses `host` or `host:port`. */
export function readSipHost(text: string): Read<SipHost> {
  if (/^sips?:/i.test(text)) return { objection: "Write only the host, without `sip:`." };
  if (text.includes("@")) return { objection: "Write only the host, without a user." };
  const parts = /^(\[[0-9A-Fa-f:.]+\]|[^:[\]]+)(?::([0-9]{1,5}))?$/.exec(text);
  if (!parts) return { objection: hostForm };
  const [, host = "", port] = parts;
  const objection = objectionToHost(host) ?? objectionToPort(port);
  return objection ? { objection } : { value: { host, port: port === undefined ? null : Number(port) } };
}

function objectionToHost(host: string): string | null {
  if (host.startsWith("[")) return objectionToProviderHost(host);
  const labels = host.split(".");
  const isName = labels.every((label) => /^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/.test(label));
  return host.length <= longestHost && isName ? objectionToProviderHost(host) : hostForm;
}

function objectionToPort(port: string | undefined): string | null {
  if (port === undefined) return null;
  const number = Number(port);
  return number === 443 || (number >= 1024 && number <= 65_535) ? null : "Use port 443, or one from 1024 to 65535.";
}

/** Checks the user part of an address. */
export function objectionToSipUser(user: string): string | null {
  if (user.length > longestUser || !userPart.test(user)) return uriForm;
  return escapedMark.test(user) ? uriForm : null;
}

/** `sip:user@host:port;transport=tls`; headers after a question mark are refused, because they would be sent as ours. */
export function readSipUri(text: string): Read<SipUri> {
  const parts = /^(sips?):([^@\s]+)@([^@\s;?]+)((?:;[^\s;?@]+)*)$/i.exec(text);
  if (!parts) return { objection: /@.*\?/.test(text) ? "Remove the headers after `?`." : uriForm };
  const [, scheme = "", user = "", place = "", tail = ""] = parts;
  const host = readSipHost(place);
  const objection = objectionToSipUser(user) ?? host.objection;
  if (objection) return { objection };
  const params = readParams(tail);
  if (!host.value || !params.value) return { objection: params.objection ?? uriForm };
  return { value: { scheme: scheme.toLowerCase() as SipUri["scheme"], user, ...host.value, params: params.value } };
}

function readParams(tail: string): Read<SipUri["params"]> {
  const items = tail.split(";").slice(1);
  if (items.length > mostParams) return { objection: `Use at most ${mostParams} parameters.` };
  const seen = new Set<string>();
  const params: SipUri["params"] = [];
  for (const one of items) {
    const [name = "", value = null, ...more] = one.split("=");
    const lower = name.toLowerCase();
    if (!token.test(name) || (value !== null && !token.test(value)) || more.length > 0) return { objection: uriForm };
    if (refusedParams.has(lower)) return { objection: `The parameter \`${name}\` is not allowed.` };
    if (seen.has(lower)) return { objection: `The parameter \`${name}\` appears twice.` };
    const known = valuesOf[lower];
    if (known && !known.includes(value?.toLowerCase() ?? "")) {
      return { objection: `The parameter \`${name}\` must be one of ${known.join(", ")}.` };
    }
    seen.add(lower);
    params.push([lower, value]);
  }
  return { value: params };
}

export const isSipUri = (address: string) => /^sips?:/i.test(address);

/** Checks that a number is E.164 and possible. */
export function objectionToNumber(text: string): string | null {
  if (!/^\+[1-9][0-9]{6,14}$/.test(text)) {
    return "Write the number in E.164: a plus sign, country code and number, digits only.";
  }
  return isPossiblePhoneNumber(text) ? null : "This number is not possible. Check the country code and the length.";
}

const addressForm =
  "Write an E.164 number such as +14155550100, or, for the carrier `sip`, an address such as sip:user@host.";

/** Checks a callee: an E.164 number or a SIP address. */
export function objectionToCallee(text: string): string | null {
  if (isSipUri(text)) return readSipUri(text).objection ?? null;
  return text.startsWith("+") ? objectionToNumber(text) : addressForm;
}

/**
 * The SIP URI to dial: a SIP address unchanged, a number at the trunk. Null if the trunk's form is invalid. `trunk` can be an
 * operator's own, with parameters.
 */
export function dialledUri(address: string, trunk: string): string | null {
  if (isSipUri(address)) return address;
  const uri = `sip:${address}@${trunk}`;
  return dialledForm.test(uri) ? uri : null;
}

/** Only the form is checked, because an operator's trunk can be in the operator's own network. */
const dialledForm =
  /^sip:\+?[0-9]+@(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?(?:;[A-Za-z]+=[A-Za-z0-9.-]+)*$/;

/** Whether both have the same host, whatever the port. */
export function isAtHost(uri: string, trunk: SipHost): boolean {
  const { value } = readSipUri(uri);
  return value?.host.toLowerCase() === trunk.host.toLowerCase();
}

type Validate = (text: string) => string | null;
const validated = (maxLength: number, validate: Validate) =>
  z
    .string()
    .max(maxLength, { abort: true, error: `Use at most ${maxLength} characters.` })
    .superRefine((text, check) => {
      const message = validate(text);
      if (message !== null) check.addIssue({ code: "custom", message, input: text });
    });

/** A callee field. */
export const CalleeField = () => validated(320, objectionToCallee);
/** A field for a number of the client. */
export const NumberField = () => validated(16, objectionToNumber);
/** A field for a SIP server. */
export const SipHostField = (maxLength: number) => validated(maxLength, (text) => readSipHost(text).objection ?? null);
/** A field for the user part only. */
export const SipUserField = (maxLength: number) =>
  validated(maxLength, (text) =>
    objectionToSipUser(text) === null
      ? null
      : `Write 1 to ${maxLength} characters of the user part of a SIP address, without @.`,
  );
/** A field for the user name of SIP authentication: some servers need `user@domain`. */
export const SipAuthUserField = (maxLength: number) =>
  validated(maxLength, (text) =>
    /^[\x21\x23-\x5b\x5d-\x7e]+$/.test(text) ? null : `Write 1 to ${maxLength} visible characters, without quotes.`,
  );
