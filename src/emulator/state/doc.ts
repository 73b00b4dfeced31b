/** A machine's COSI state: resources in memory, watched, and served as Talos serves them (protocols.md 6). */
export {};
