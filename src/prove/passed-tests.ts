/**
 * A reporter for Node's test runner: writes which tests passed and which failed, as a line of JSON each, for `make coverage`. What was
 * skipped is neither.
 */
import { relative } from "node:path";
import type { TestEvent } from "node:test/reporters";

/** What became of one test. */
export interface TestOutcome {
  name: string;
  /** From the folder in which the tests were started. */
  file: string;
  passed: boolean;
}

// biome-ignore lint/style/noDefaultExport: the runner takes it by this.
export default async function* passedTests(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const { type, data } of events) {
    if (type !== "test:pass" && type !== "test:fail") continue;
    if (data.skip !== undefined || data.todo !== undefined) continue;
    const outcome: TestOutcome = {
      name: data.name,
      file: relative(process.cwd(), data.file ?? ""),
      passed: type === "test:pass",
    };
    yield `${JSON.stringify(outcome)}\n`;
  }
}
