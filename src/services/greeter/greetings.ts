/** What greeter says. */
import { setTimeout as delay } from "node:timers/promises";
import { Code, fail } from "../../errors.ts";

/** With names of at most 400 bytes, the greeting of all stays below the 64 KiB that a public message may have. */
const MOST_NAMES = 100;
const nameList = new Intl.ListFormat("en");

/** The greeting for a name. */
export function greet(name: string): string {
  return `Hello, ${name}!`;
}

/** Greets `count` times, with a pause between two greetings. Throws the signal's reason when it aborts in a pause. */
export async function* greetAgain(
  name: string,
  { count, pauseMs }: { count: number; pauseMs: number },
  signal: AbortSignal,
) {
  for (let number = 1; number <= count; number++) {
    if (number > 1 && pauseMs > 0) await delay(pauseMs, undefined, { signal }).catch(() => signal.throwIfAborted());
    yield { message: greet(name), number };
  }
}

/** One greeting for everybody. Throws INVALID_REQUEST for nobody, and as soon as there are too many. */
export async function greetAll(people: AsyncIterable<{ name: string }>): Promise<string> {
  const names: string[] = [];
  for await (const { name } of people) {
    if (names.length === MOST_NAMES) throw invalid(`more than ${MOST_NAMES} names`);
    names.push(name);
  }
  if (names.length === 0) throw invalid("there is nobody to greet");
  return greet(nameList.format(names));
}

function invalid(message: string) {
  return fail(Code.InvalidArgument, "INVALID_REQUEST", message);
}
