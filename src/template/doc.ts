/** Cluster templates in Omni's format (protocols.md 14): read with positions, check, render to resources, compare and bring about. */
export {};
