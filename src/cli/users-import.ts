/**
 * `concierge users import`: makes accounts of people who have a password elsewhere. It tells every line that it could not take, can
 * be stopped between two batches, and may be run again: whoever is there already is passed over.
 */
import { join } from "node:path";
import type { Client } from "@connectrpc/connect";
import { AuthInternalService, ImportResult } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { connectService } from "../client/service-client.ts";
import { systemClock } from "../clock.ts";
import { ExitCode, StartupError } from "../errors.ts";
import { answerOf } from "./answers.ts";
import { readRunningNote } from "./development.ts";
import { endpointAt } from "./endpoint.ts";
import type { Host } from "./host.ts";
import { type CallSettings, keyFor } from "./internal-calls.ts";
import { readUserRows, type UserRow } from "./user-rows.ts";

export interface ImportSettings extends CallSettings {
  /** The first line to take, counted from 1, as it was typed. */
  fromLine: string;
}

/** As many as a call takes. */
const BATCH_LENGTH = 500;
const PROGRESS_INTERVAL_MS = 1_000;
/** More than the server's patience with its database. */
const CALL_TIMEOUT_MS = 30_000;

/** Why the server refused a row. */
const REFUSALS: Partial<Record<ImportResult, string>> = {
  [ImportResult.UNKNOWN_HASH]: "its hash is neither argon2id's nor bcrypt's",
  [ImportResult.HASH_TOO_COSTLY]: "its hash takes too long to verify",
};

/** Ends with a StartupError if a line was not taken (exit code 1), or if it was stopped before the end (130). */
export async function importUsers(host: Host, file: string, settings: ImportSettings): Promise<void> {
  const fromLine = parseLine(settings.fromLine);
  const key = await keyFor(settings.keys ?? join(settings.folder, "keys"), settings.as, "auth");
  const noted = settings.url ?? (await readRunningNote(settings.folder)).internalUrl;
  const { url, ca } = await endpointAt(noted, settings.ca);
  using connection = connectService({ baseUrl: url, ca, key, clock: systemClock });
  const client = connection.client(AuthInternalService);
  const tally = new Tally(host);
  let nextLine = fromLine;
  const breakOff = () => {
    tally.print();
    host.warn(`concierge: to go on: concierge users import ${file} --from-line ${nextLine}\n`);
  };
  for await (const rows of batchesOf(readUserRows(file, fromLine))) {
    if (host.stop.aborted) {
      breakOff();
      throw new StartupError("stopped before the end of the file", ExitCode.interrupted);
    }
    // Not ended by Ctrl-C: what a batch has done is always told.
    await answerOf(url, importBatch(client, rows, tally)).catch((error: unknown) => {
      breakOff();
      throw error;
    });
    nextLine = rows.at(-1)!.line + 1;
    tally.showProgress();
  }
  tally.print();
  if (tally.refused > 0) throw new StartupError(`lines that were not imported: ${tally.refused}`, ExitCode.failure);
}

function parseLine(text: string): number {
  if (/^[1-9]\d{0,14}$/.test(text)) return Number(text);
  throw new StartupError("--from-line must be the number of a line, 1 or more", ExitCode.usage);
}

async function* batchesOf(rows: AsyncIterable<UserRow>): AsyncGenerator<UserRow[]> {
  let batch: UserRow[] = [];
  for await (const row of rows) {
    batch.push(row);
    if (batch.length < BATCH_LENGTH) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

async function importBatch(client: Client<typeof AuthInternalService>, rows: UserRow[], tally: Tally): Promise<void> {
  const users = rows.flatMap((row) => ("user" in row ? [row.user] : []));
  const answer = users.length === 0 ? undefined : await client.importUsers({ users }, { timeoutMs: CALL_TIMEOUT_MS });
  const outcomes = answer?.outcomes.values();
  for (const row of rows) {
    if ("problem" in row) tally.refuse(row.line, row.problem);
    else tally.add(row.line, outcomes!.next().value!.result);
  }
}

/** Counts what became of the lines, and tells of those that were not taken. */
class Tally {
  imported = 0;
  alreadyThere = 0;
  refused = 0;
  readonly #host: Host;
  readonly #startedAt = systemClock.monotonic();
  #shownAt = this.#startedAt;

  constructor(host: Host) {
    this.#host = host;
  }

  add(line: number, result: ImportResult): void {
    if (result === ImportResult.IMPORTED) this.imported += 1;
    else if (result === ImportResult.ALREADY_THERE) this.alreadyThere += 1;
    else this.refuse(line, REFUSALS[result] ?? "the server is newer than this program and refuses it");
  }

  refuse(line: number, problem: string): void {
    this.refused += 1;
    this.#host.warn(`concierge: line ${line}: ${problem}\n`);
  }

  showProgress(): void {
    const now = systemClock.monotonic();
    if (now - this.#shownAt < PROGRESS_INTERVAL_MS) return;
    this.#shownAt = now;
    const rate = Math.round((this.#lines() * 1_000) / (now - this.#startedAt));
    this.#host.warn(`concierge: ${this.#lines()} lines, ${rate} a second\n`);
  }

  print(): void {
    const { imported, alreadyThere, refused } = this;
    const counts = `${imported} imported, ${alreadyThere} already there, ${refused} refused`;
    this.#host.print(`${this.#lines()} lines: ${counts}\n`);
  }

  #lines(): number {
    return this.imported + this.alreadyThere + this.refused;
  }
}
