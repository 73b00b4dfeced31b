/** The vocabulary: one file per kind, in areas; names, namespaces and specs are the field's (Omni's), ours end in ichor.dev. */
export {};
