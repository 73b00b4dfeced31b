/** What versions may be chosen. */
export {};
