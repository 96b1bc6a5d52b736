import { isPossiblePhoneNumber } from "libphonenumber-js";
import { z } from "zod";
import { objectionToProviderHost } from "../ports/addresses.ts";

/**
 * The one reader of SIP addresses: of whom a call goes to, of trunks, and of the servers that we register with. The
 * provider connects to each of them for us, so each host is one of the open internet.
 */
export type SipHost = { host: string; port: number | null };
export type SipUri = SipHost & { scheme: "sip" | "sips"; user: string; params: [name: string, value: string | null][] };

/** What was read, or what speaks against it, as a sentence. */
export type Read<T> = { value: T; objection?: undefined } | { value?: undefined; objection: string };

const longestUser = 64;
const longestHost = 253;
const mostParams = 8;
const uriForm = "Write a SIP address as `sip:user@host`, with `:port` and `;transport=tls` where they are needed.";
const hostForm = "Write a host such as sip.example.com, with `:port` if need be.";

/** RFC 3261, 25.1: what may stand in the user part, written out or after a percent sign. */
const userPart = /^(?:[A-Za-z0-9._~!*'()&=+$,;?/-]|%[0-9A-Fa-f]{2})+$/;
/** An escaped control character, space, `@` or colon would end the user part for a server that decodes it. */
const escapedMark = /%(?:[01][0-9A-F]|20|22|3A|3C|3E|40|7F)/i;
const token = /^[A-Za-z0-9.!%*_+`'~-]{1,64}$/;
/** `maddr` and `received` name another host than the address does, and `method` another request. */
const refusedParams = new Set(["maddr", "received", "rport", "method", "ttl", "comp", "sigcomp-id"]);
const valuesOf: Readonly<Record<string, readonly string[]>> = {
  transport: ["udp", "tcp", "tls"],
  user: ["phone", "ip"],
};

/** A host with a port, if it has one. */
export function readSipHost(text: string): Read<SipHost> {
  if (/^sips?:/i.test(text)) return { objection: "Write the host alone, without `sip:` before it." };
  if (text.includes("@")) return { objection: "Write the host alone, without a user before it." };
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

/** The user part of an address, as it stands there. */
export function objectionToSipUser(user: string): string | null {
  if (user.length > longestUser || !userPart.test(user)) return uriForm;
  return escapedMark.test(user) ? uriForm : null;
}

/** `sip:user@host:port;transport=tls`; headers behind a question mark are refused, for they would be sent as ours. */
export function readSipUri(text: string): Read<SipUri> {
  const parts = /^(sips?):([^@\s]+)@([^@\s;?]+)((?:;[^\s;?@]+)*)$/i.exec(text);
  if (!parts) return { objection: /@.*\?/.test(text) ? "Leave out the headers after `?`." : uriForm };
  const [, scheme = "", user = "", place = "", tail = ""] = parts;
  const host = readSipHost(place);
  const objection = objectionToSipUser(user) ?? host.objection;
  if (objection) return { objection };
  const params = readParams(tail);
  if (!host.value || !params.value) return { objection: params.objection ?? uriForm };
  return { value: { scheme: scheme.toLowerCase() as SipUri["scheme"], user, ...host.value, params: params.value } };
}

function readParams(tail: string): Read<SipUri["params"]> {
  const given = tail.split(";").slice(1);
  if (given.length > mostParams) return { objection: `At most ${mostParams} parameters.` };
  const seen = new Set<string>();
  const params: SipUri["params"] = [];
  for (const one of given) {
    const [name = "", value = null, ...more] = one.split("=");
    const lower = name.toLowerCase();
    if (!token.test(name) || (value !== null && !token.test(value)) || more.length > 0) return { objection: uriForm };
    if (refusedParams.has(lower)) return { objection: `The parameter \`${name}\` is not yours to set.` };
    if (seen.has(lower)) return { objection: `The parameter \`${name}\` stands there twice.` };
    const known = valuesOf[lower];
    if (known && !known.includes(value?.toLowerCase() ?? "")) {
      return { objection: `The parameter \`${name}\` is one of ${known.join(", ")}.` };
    }
    seen.add(lower);
    params.push([lower, value]);
  }
  return { value: params };
}

export const isSipUri = (address: string) => /^sips?:/i.test(address);

/** A number in E.164 that can exist. */
export function objectionToNumber(text: string): string | null {
  if (!/^\+[1-9][0-9]{6,14}$/.test(text)) {
    return "Write the number in E.164: a plus sign, country code and number, digits only.";
  }
  return isPossiblePhoneNumber(text) ? null : "No such number can exist: check the country code and the length.";
}

const addressForm =
  "Write an E.164 number such as +14155550100, or, for the carrier `sip`, an address such as sip:user@host.";

/** Whom a call can go to: a number, or a SIP address. */
export function objectionToCallee(text: string): string | null {
  if (isSipUri(text)) return readSipUri(text).objection ?? null;
  return text.startsWith("+") ? objectionToNumber(text) : addressForm;
}

/**
 * The address that is dialled, for every way to dial: a SIP address as it is, a number at the trunk. Null where the trunk
 * cannot be dialled at. `trunk` may be an operator's own, with parameters behind it.
 */
export function dialledUri(address: string, trunk: string): string | null {
  if (isSipUri(address)) return address;
  const uri = `sip:${address}@${trunk}`;
  return dialledForm.test(uri) ? uri : null;
}

/** The operator's trunk may stand in the operator's own network: of it only the form is looked at. */
const dialledForm =
  /^sip:\+?[0-9]+@(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?(?:;[A-Za-z]+=[A-Za-z0-9.-]+)*$/;

/** Do both lead to the same host, whatever the port? */
export function isAtHost(uri: string, trunk: SipHost): boolean {
  const { value } = readSipUri(uri);
  return value?.host.toLowerCase() === trunk.host.toLowerCase();
}

type Judge = (text: string) => string | null;
const judged = (maxLength: number, judge: Judge) =>
  z
    .string()
    .max(maxLength, { abort: true, error: `At most ${maxLength} characters.` })
    .superRefine((text, check) => {
      const message = judge(text);
      if (message !== null) check.addIssue({ code: "custom", message, input: text });
    });

/** A field that holds whom a call goes to. */
export const CalleeField = () => judged(320, objectionToCallee);
/** A field that holds a number of the client's own. */
export const NumberField = () => judged(16, objectionToNumber);
/** A field that holds a server. */
export const SipHostField = (maxLength: number) => judged(maxLength, (text) => readSipHost(text).objection ?? null);
/** A field that holds the user part alone. */
export const SipUserField = (maxLength: number) =>
  judged(maxLength, (text) =>
    objectionToSipUser(text) === null ? null : `1 to ${maxLength} characters of a SIP address's user part, without @.`,
  );
/** A field that holds the name that a server asks for with the password: some servers want `user@domain`. */
export const SipAuthUserField = (maxLength: number) =>
  judged(maxLength, (text) =>
    /^[\x21\x23-\x5b\x5d-\x7e]+$/.test(text) ? null : `1 to ${maxLength} visible characters, without quotes.`,
  );
