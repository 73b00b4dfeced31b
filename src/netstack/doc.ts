/** IPv6, ICMPv6 and TCP in user space over any packet pipe; hands out Node Duplex streams. No I/O and no clock of its own. */
export {};
