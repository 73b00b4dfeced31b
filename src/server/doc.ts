/** The composition root: reads configuration, opens files and ports, and puts the parts together. `serve.ts` is its table of contents. */
export {};
