/** The statements that this process sends to its databases, as the code makes them: so no measurement has a copy that grows old. */
import { PooledConnection } from "../db/pool-connection.ts";

export interface SentStatement {
  /** In one line. */
  query: string;
  parameters: unknown[];
}

export interface RecordedStatements extends Disposable {
  /** The newest one with such a text. Throws if there is none. */
  find(text: RegExp): SentStatement;
  /** The transaction around it, from BEGIN to COMMIT. */
  transactionOf(text: RegExp): SentStatement[];
}

/** Records until it is disposed of. One at a time. */
export function recordStatements(): RecordedStatements {
  const sent: (SentStatement & { connection: PooledConnection })[] = [];
  const { run } = PooledConnection.prototype;
  PooledConnection.prototype.run = function (statement) {
    const query = statement.query.replaceAll(/\s+/g, " ").trim();
    sent.push({ query, parameters: statement.parameters ?? [], connection: this });
    return run.call(this, statement);
  };
  const find = (text: RegExp) => {
    const found = sent.findLast(({ query }) => text.test(query));
    if (!found) throw new Error(`no statement was sent that fits ${text}`);
    return found;
  };
  return {
    find,
    transactionOf(text) {
      const found = find(text);
      const onConnection = sent.filter(({ connection }) => connection === found.connection);
      const place = onConnection.indexOf(found);
      const begin = onConnection.findLastIndex(({ query }, index) => query === "begin" && index < place);
      const commit = onConnection.findIndex(({ query }, index) => query === "commit" && index > place);
      return onConnection.slice(begin, commit + 1);
    },
    [Symbol.dispose]() {
      PooledConnection.prototype.run = run;
    },
  };
}
