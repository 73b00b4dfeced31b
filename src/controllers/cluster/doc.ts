/** Controllers of clusters: from what is wanted to running machines, and back. */
export {};
