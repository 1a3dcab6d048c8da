/** What notification's tests of domain functions stand on: a database of their own, and its hour to set. */
import { type Db, openDatabase } from "../../db/database.ts";
import { setDatabaseOffset, testDatabase } from "../../testing/cluster.ts";
import { createNotification } from "./notifications.ts";

/** A call that nobody cancels. */
export const scope = { signal: new AbortController().signal };

export async function openTestDatabase() {
  await using opened = new AsyncDisposableStack();
  const { ownerUrl, runtimeUrl } = opened.use(await testDatabase(["platform", "notification"]));
  const { db } = opened.use(openDatabase({ url: runtimeUrl, poolSize: 8, applicationName: "test" }));
  const resources = opened.move();
  return {
    db,
    /** Moves the database's hour, counted from now. */
    setOffset: (offsetMs: number) => setDatabaseOffset(ownerUrl, offsetMs),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

/** UUIDs in order, as recipients are. */
export function newIds(count: number): string[] {
  return Array.from({ length: count }, () => crypto.randomUUID()).sort();
}

export function notify(db: Db, userIds: string[], text = "hello"): Promise<string> {
  return createNotification(db, scope, { title: "", text, data: {}, userIds });
}
