/**
 * Keeps resources: a small core (`Store`) that memory, SQLite and later etcd implement alike, the comfort on top (`State`), and
 * the conformance suite that every backend must pass. Knows no domain word.
 */
export {};
