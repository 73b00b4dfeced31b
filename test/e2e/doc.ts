/** The whole of Ichor as its users run it: plane and emulator as processes, stock clients and a browser against them. */
export {};
