/** The link by the kernel's own WireGuard and TCP, or by wireguard-go where the kernel has no WireGuard. Linux alone; needs CAP_NET_ADMIN. */
export {};
