/**
 * Reads people from a file, one JSON object a line. Every line becomes a row or a problem, whatever is in it; a problem is told in
 * fixed words and names of fields, so that no hash is shown.
 */
import { createReadStream } from "node:fs";
import { create } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import { z } from "zod";
import { AccountKind } from "../../gen/concierge/auth/v1/account_kind_pb.ts";
import { type ImportedUser, ImportedUserSchema } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { ExitCode, StartupError } from "../errors.ts";
import { checkMessage } from "../rpc/messages.ts";

const MAX_LINE_BYTES = 64 * 1024;
const NEWLINE = 0x0a;

/** What is on a line that is not empty. */
export type UserRow = { line: number } & ({ user: ImportedUser } | { problem: string });

const optionalText = z
  .string()
  .nullish()
  .transform((text) => text ?? "");

/** A row as the file has it. What its texts must be is the contract's business. */
const fileRow = z.strictObject({
  email: z.string(),
  password_hash: z.string(),
  first_name: optionalText,
  last_name: optionalText,
  locale: optionalText,
  kind: z.enum(["user", "artist"]).nullish(),
  stage_name: optionalText,
  email_verified: z.boolean().optional(),
});

/** The rows of a file from a line on; lines are counted from 1. A StartupError if the file cannot be read. */
export async function* readUserRows(file: string, fromLine: number): AsyncGenerator<UserRow> {
  let line = 0;
  for await (const bytes of linesOf(file)) {
    line += 1;
    if (line < fromLine || bytes?.length === 0) continue;
    yield { line, ...(bytes ? readRow(bytes) : { problem: `it is longer than ${MAX_LINE_BYTES} bytes` }) };
  }
}

/** The lines without their ends; undefined for one that is too long, of which no more than that is kept. */
async function* linesOf(file: string): AsyncGenerator<Buffer | undefined> {
  let begun: Buffer[] = [];
  let length = 0;
  const add = (part: Buffer) => {
    length += part.length;
    if (length <= MAX_LINE_BYTES) begun.push(part);
    else begun = [];
  };
  const finish = () => {
    const line = length <= MAX_LINE_BYTES ? Buffer.concat(begun) : undefined;
    begun = [];
    length = 0;
    return line;
  };
  for await (const chunk of chunksOf(file)) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      add(chunk.subarray(start, end));
      start = end + 1;
      yield finish();
    }
    add(chunk.subarray(start));
  }
  if (length > 0) yield finish();
}

async function* chunksOf(file: string): AsyncGenerator<Buffer> {
  try {
    yield* createReadStream(file);
  } catch (error) {
    throw new StartupError(`${file} cannot be read (${(error as NodeJS.ErrnoException).code})`, ExitCode.usage);
  }
}

function readRow(bytes: Buffer): { user: ImportedUser } | { problem: string } {
  const parsed = fileRow.safeParse(parseJson(bytes));
  if (!parsed.success) return { problem: problemOf(parsed.error.issues[0]!) };
  const { email, password_hash: passwordHash, first_name: firstName, last_name: lastName, ...others } = parsed.data;
  const { locale, stage_name: stageName, email_verified: emailVerified } = others;
  const kind = others.kind === "artist" ? AccountKind.ARTIST : AccountKind.USER;
  const details = { firstName, lastName, locale, kind, stageName, emailVerified };
  const user = create(ImportedUserSchema, { email, passwordHash, ...details });
  try {
    checkMessage(ImportedUserSchema, user);
    return { user };
  } catch (error) {
    if (!(error instanceof ConnectError)) throw error;
    return { problem: error.rawMessage };
  }
}

/** Undefined for what is no JSON in UTF-8. */
function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
}

function problemOf(issue: z.core.$ZodIssue): string {
  if (issue.path.length > 0) return `${issue.path.join(".")}: ${issue.message}`;
  if (issue.code !== "unrecognized_keys") return "it is no JSON object";
  const names = issue.keys.filter((key) => /^\w{1,50}$/.test(key));
  return `it has a field that is not known${names.length > 0 ? `: ${names.join(", ")}` : ""}`;
}
