/** Leaf helpers without a domain word: time, errors, aborting, logging, addresses, versions. Imports nothing of ours. */
export {};
