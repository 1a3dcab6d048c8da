/**
 * Where a device keeps the session of its person, for all tabs or processes that share it. What is stored is secret as a
 * whole: it is to be read by the person's own programs only.
 */

/** A session, and the access tokens that were got with it. */
export interface StoredSession {
  /** UUID. */
  userId: string;
  /** UUID. */
  sessionId: string;
  refreshToken: string;
  /**
   * What goes with the refresh token when it is used. It is stored together with the token, so that whoever has to repeat
   * that use, after a lost answer, in another tab or after a crash, does it with the same key.
   */
  idempotencyKey: string;
  accessTokens: AccessToken[];
}

/** One for each organization and audience that some tab or process acts in. */
export interface AccessToken {
  token: string;
  userId: string;
  /** UUID of the organization that it names; empty for none. */
  organizationId: string;
  audience: string;
  /** By the clock of this device, in milliseconds since 1970: when to get the next one. */
  refreshAt: number;
  /** By the clock of this device, in milliseconds since 1970. */
  expiresAt: number;
}

/** All that is stored. */
export interface Stored {
  /** Secret that tells the device from strangers at the next login, whoever has logged out since; not there before the first one. */
  deviceToken?: string;
  /** Not there when nobody is signed in. */
  session?: StoredSession;
}

export interface SessionStore {
  read(): Promise<Stored>;
  /** Replaces all of it, or nothing. */
  write(stored: Stored): Promise<void>;
  /**
   * Runs the work while nobody else who shares the store runs theirs. Whoever is taken for dead loses their turn; two at
   * once are no harm to the session, because both use the same idempotency key.
   */
  exclusively<Result>(work: () => Promise<Result>): Promise<Result>;
  /** Calls back after somebody else has written, if the store can tell. Returns what ends that. */
  onChange?(listener: () => void): () => void;
}

/** A store that ends with the process. Sessions of one process may share it. */
export function memoryStore(): SessionStore {
  let text = JSON.stringify({});
  let last: Promise<unknown> = Promise.resolve();
  return {
    read: async () => parseStored(text),
    async write(stored) {
      text = JSON.stringify(stored);
    },
    exclusively(work) {
      const result = last.then(work);
      last = result.catch(() => {});
      return result;
    },
  };
}

/** What this text says. Nothing is stored in one that was damaged, or written by another version. */
export function parseStored(text: string | null | undefined): Stored {
  try {
    const { deviceToken, session } = JSON.parse(text ?? "{}");
    return {
      deviceToken: typeof deviceToken === "string" ? deviceToken : undefined,
      session: isSession(session) ? session : undefined,
    };
  } catch {
    return {};
  }
}

function isSession(found: Partial<StoredSession> | null | undefined): found is StoredSession {
  if (!found) return false;
  const { userId, sessionId, refreshToken, idempotencyKey, accessTokens } = found;
  const isText = [userId, sessionId, refreshToken, idempotencyKey].every((part) => typeof part === "string");
  return isText && Array.isArray(accessTokens);
}
