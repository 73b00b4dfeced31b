/** How a machine joins: Provision, WireGuard by UDP or gRPC tunnel, events and kernel log to the plane (protocols.md 1 to 4). */
export {};
