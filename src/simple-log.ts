/** What code that also runs in other people's processes asks of a logger: pino has it, and so has a console. */
export interface SimpleLog {
  info: Line;
  warn: Line;
  error: Line;
}

/** One line: a message, or fields and a message. */
interface Line {
  (message: string): void;
  (fields: object, message: string): void;
}
