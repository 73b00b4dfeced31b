/**
 * The behaviour: one file per controller, in the areas of `kinds/`. Controllers never import one another; they meet in the store.
 * `all.ts` lists them.
 */
export {};
