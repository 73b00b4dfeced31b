type Header = string | readonly string[] | undefined;

/**
 * Keeps a handler from outside bytes that it cannot bear: Connect's adapter builds a URL from what a caller sends as `:authority` or `Host`, and
 * throws outside of any promise where that is none. Such a value becomes `invalid`; nothing routes by it.
 */
export function withAuthority<Q extends { readonly headers: Record<string, Header> }, R>(
  handler: (request: Q, response: R) => void,
): (request: Q, response: R) => void {
  return (request, response) => {
    for (const name of [":authority", "host"]) {
      const value = request.headers[name];
      if (value !== undefined && !URL.canParse("/", `http://${value}`)) request.headers[name] = "invalid";
    }
    handler(request, response);
  };
}
