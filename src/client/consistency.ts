/**
 * Read your own writes: whoever has changed something decides on nothing older. What answers call their `consistency_token` is noted, sent
 * with later calls, and wanted by later decisions in the same organization. Also for browsers: nothing of Node.
 */
import type { Interceptor } from "@connectrpc/connect";
import { reasonOf } from "../errors.ts";
import {
  CONSISTENCY_HEADER,
  fromConsistencyToken,
  NO_REVISIONS,
  type Revisions,
  toConsistencyToken,
} from "../rights/revisions.ts";

/** Organizations, times the services that count their changes. */
const MAX_SUBJECTS = 10_000;
/** A service reads 50 of a header, and every call carries it. */
const MAX_SENT = 20;

/** How far this process has seen each organization go. */
export class SeenRevisions {
  /** The one that changed last stands last. */
  readonly #versions = new Map<string, bigint>();
  /** What token() answers, until something is noted. */
  #token: string | undefined = "";

  /** Remembers what a token says. One that cannot be read is not ours to complain of: the answer that brought it counts. */
  note(token: string): void {
    for (const [subject, version] of readable(token)) {
      const known = this.#versions.get(subject);
      if (known !== undefined && known >= version) continue;
      this.#versions.delete(subject);
      this.#versions.set(subject, version);
      this.#token = undefined;
      if (this.#versions.size > MAX_SUBJECTS) this.#versions.delete(this.#versions.keys().next().value!);
    }
  }

  /** What to send: the subjects that changed last, as one token; empty for none. */
  token(): string {
    this.#token ??= toConsistencyToken(new Map([...this.#versions].slice(-MAX_SENT)));
    return this.#token;
  }

  /** What a decision in this organization has to know: its own changes, and the platform's. */
  wanted(organizationId: string): Revisions {
    if (this.#versions.size === 0) return NO_REVISIONS;
    const wanted = new Map<string, bigint>();
    for (const service of ["access", "organization"]) {
      for (const id of new Set([organizationId, ""])) {
        const version = this.#versions.get(`${service}/${id}`);
        if (version !== undefined) wanted.set(`${service}/${id}`, version);
      }
    }
    return wanted;
  }

  /** Forgets everything where an error says that a service knows nothing of what was sent. */
  heed(error: unknown): void {
    if (reasonOf(error) === "INVALID_CONSISTENCY_TOKEN") this.clear();
  }

  /** Forgets everything: what was seen is not there any more, as after a restore of the services' databases. */
  clear(): void {
    this.#versions.clear();
    this.#token = "";
  }
}

/** Sends what was seen and notes what answers tell. A call that brings the header itself is left alone. */
export function carryConsistency(seen: SeenRevisions): Interceptor {
  return (next) => async (request) => {
    if (request.header.has(CONSISTENCY_HEADER)) return next(request);
    const token = seen.token();
    if (token !== "") request.header.set(CONSISTENCY_HEADER, token);
    try {
      const response = await next(request);
      if (!response.stream) note(seen, response.message);
      return response;
    } catch (error) {
      seen.heed(error);
      throw error;
    }
  };
}

function note(seen: SeenRevisions, message: object): void {
  if ("consistencyToken" in message) seen.note(String(message.consistencyToken));
}

function readable(token: string): Revisions {
  try {
    return fromConsistencyToken(token);
  } catch {
    return NO_REVISIONS;
  }
}
