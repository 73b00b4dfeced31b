/** Machine configuration as a machine reads it: documents, what is refused, and what the emulator takes from it. */
export {};
