/** Runs controllers: keyed queues with backoff, one writer per kind, teardown, the dependency graph, metrics. Knows no domain word. */
export {};
