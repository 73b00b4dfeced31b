import { pino } from "pino";
import type { Logger } from "#lib/log.ts";

/** Where log lines go, JSON, one each. */
export interface LogSink {
  write(line: string): void;
}

/** The plane's logger. Facts named like secrets are blanked: nobody passes one, and if somebody does it stays here. */
export function makeLogger(level: string, sink: LogSink): Logger {
  const names = ["token", "secret", "password", "key", "privateKey", "authorization", "cookie", "joinToken"];
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: names.flatMap((name) => [name, `*.${name}`]),
    },
    sink,
  );
}
