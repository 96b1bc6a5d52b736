const titles: Record<number, string> = {
  400: "Bad request",
  401: "Unauthenticated",
  402: "Payment required",
  403: "Forbidden",
  404: "Not found",
  405: "Method not allowed",
  408: "Timeout",
  409: "Conflict",
  413: "Too large",
  415: "Unsupported media type",
  422: "Unprocessable",
  429: "Too many requests",
  431: "Headers too large",
  500: "Internal error",
  502: "Bad gateway",
  503: "Unavailable",
};

/** The heading of a status, in the OpenAPI document and the error guide. */
export const titleOfStatus = (status: number): string | undefined => titles[status];
