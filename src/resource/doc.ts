/** What a resource is: metadata, labels, finalizers, phase, and how a kind of resource is declared. Pure: no I/O, no domain word. */
export {};
