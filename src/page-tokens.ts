/**
 * Page tokens: where a list goes on. Each is bound to the list that it was given for (the method, whose it is, its
 * filters), so in another one, or changed on its way, it is refused. It gives no right and hides nothing: every page is
 * read by the query that names whose it is.
 */
import { createHash } from "node:crypto";
import { Code, fail } from "./errors.ts";

/** What a list is told from others by: "members", the organization, each filter. */
export type ListName = readonly string[];
/** The sort key of a page's last entry. */
export type PageKey = readonly string[];

export interface PageRequest {
  /** 0 is the usual one, and one that is too large is the largest there is. */
  pageSize: number;
  pageToken: string;
  /** 100 unless told otherwise. */
  maxPageSize?: number;
}

const DEFAULT_PAGE_SIZE = 50;
const MAX_PAGE_SIZE = 100;
/** For lists that services read to their end. */
export const LARGE_PAGE_SIZE = 1_000;
const DIGEST_BYTES = 16;

/** How many entries a page has. */
export function pageSizeOf({ pageSize, maxPageSize = MAX_PAGE_SIZE }: PageRequest): number {
  return Math.min(pageSize || DEFAULT_PAGE_SIZE, maxPageSize);
}

/** The page, of entries of which one more was read than a page has; `nextPageToken` is empty on the last one. */
export function pageOf<Entry>(
  list: ListName,
  request: PageRequest,
  found: Entry[],
  keyOf: (entry: Entry) => PageKey,
): { entries: Entry[]; nextPageToken: string } {
  const size = pageSizeOf(request);
  const entries = found.slice(0, size);
  return { entries, nextPageToken: found.length > size ? pageTokenOf(list, keyOf(entries.at(-1)!)) : "" };
}

/** Where the page after this key begins. */
export function pageTokenOf(list: ListName, key: PageKey): string {
  const digest = createHash("sha256")
    .update(JSON.stringify([list, key]))
    .digest();
  return Buffer.from(JSON.stringify([digest.toString("base64url", 0, DIGEST_BYTES), ...key])).toString("base64url");
}

/**
 * The key after which the page begins, undefined for the first page. `isKey` looks whether a key is one that the query
 * can take, because anybody can make a token. INVALID_ARGUMENT / INVALID_PAGE_TOKEN.
 */
export function readPageToken(
  list: ListName,
  { pageToken }: PageRequest,
  isKey: (key: string[]) => boolean,
): string[] | undefined {
  if (pageToken === "") return undefined;
  const key = keyIn(pageToken);
  if (key && isKey(key) && pageTokenOf(list, key) === pageToken) return key;
  throw fail(Code.InvalidArgument, "INVALID_PAGE_TOKEN", "the page token is not one that this list gave");
}

function keyIn(pageToken: string): string[] | undefined {
  try {
    const [, ...key] = JSON.parse(Buffer.from(pageToken, "base64url").toString()) as unknown[];
    return key.every((part) => typeof part === "string") ? key : undefined;
  } catch {
    return undefined;
  }
}
