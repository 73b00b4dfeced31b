/** Log lines of machines, kept within bounds. */
export {};
