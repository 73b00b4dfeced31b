/** A machine's API (protocols.md 5): TLS as in maintenance or with the cluster's authority, roles, routing, and the services. */
export {};
