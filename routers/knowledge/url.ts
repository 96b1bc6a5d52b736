import { ApiError } from "../core/errors.ts";
import { objectionTo } from "../ports/addresses.ts";

/**
 * The address of a page as the provider is given it. The provider reads it, not we: one that leads into a private
 * network leads nowhere from there, or into the provider's own. Throws `url_forbidden`, which names the field.
 */
export function pageAddress(text: string, path: string): string {
  const objection = objectionToPage(text);
  if (objection)
    throw new ApiError("url_forbidden", `${path}: ${objection}`, { details: [{ path, message: objection }] });
  const url = new URL(text);
  url.hash = "";
  return url.href;
}

/** As for a webhook, but plain http is read too, and a fragment is left out. */
function objectionToPage(text: string): string | null {
  if (!URL.canParse(text)) return "This is not a URL.";
  const url = new URL(text);
  if (!/^https?:$/.test(url.protocol)) return "The address of a page begins with https:// or http://.";
  if (url.username || url.password) return "The address of a page carries no user name and no password.";
  url.hash = "";
  const secure = url.href.replace(/^http:/, "https:");
  return objectionTo(secure, { allowPrivate: false });
}
