/** The command line: one declarative file per noun under commands/. Speaks only the API; the answer goes to stdout, all else to stderr. */
export {};
