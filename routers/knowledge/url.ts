import { ApiError } from "../core/errors.ts";
import { objectionTo } from "../ports/addresses.ts";

/**
 * The address of a page as it is sent to the provider. The provider reads it, not we: a private address would fail there,
 * or reach the provider's own network. Throws `url_forbidden`, which names the field.
 */
export function pageAddress(text: string, path: string): string {
  const objection = objectionToPage(text);
  if (objection)
    throw new ApiError("url_forbidden", `${path}: ${objection}`, { details: [{ path, message: objection }] });
  const url = new URL(text);
  url.hash = "";
  return url.href;
}

/** The rules of a webhook URL, except that plain http is allowed and a fragment is removed. */
function objectionToPage(text: string): string | null {
  if (!URL.canParse(text)) return "This is not a URL.";
  const url = new URL(text);
  if (!/^https?:$/.test(url.protocol)) return "The address of a page must begin with https:// or http://.";
  if (url.username || url.password) return "The address of a page must not have a user name or password. Remove them.";
  url.hash = "";
  const secure = url.href.replace(/^http:/, "https:");
  return objectionTo(secure, { allowPrivate: false });
}
