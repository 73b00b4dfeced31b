/** WireGuard in user space (the protocol of the paper): handshake, transport, cookies, timers, roaming. No I/O and no clock of its own. */
export {};
