/**
 * A logger: messages are constant, facts are keys. `server/` and `cli/` bind it to pino; libraries only take it.
 * Never pass a secret as a fact.
 */
export interface Logger {
  debug(facts: object, message: string): void;
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
  child(facts: object): Logger;
}

/** Swallows everything: the default of libraries. */
export const silent: Logger = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => silent,
};
