/** What clients speak with: RPC services, the console, and in `proxy/` the ways to clusters and machines. */
export {};
