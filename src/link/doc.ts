/** SideroLink: provisioning, join tokens, peers, the gRPC tunnel, sinks for events and logs, and the engines that carry packets. */
export {};
