/** The rules of the code as tests: layers, folder docs, sizes, the registry of kinds. */
export {};
