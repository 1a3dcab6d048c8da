/**
 * Password hashes as they are stored: argon2id with OWASP's parameters for every new one; what was imported may be argon2id with
 * others, or bcrypt, until the next login. A hash that costs more than a login may take is not accepted.
 */
import * as argon2 from "argon2";
import bcrypt from "bcrypt";

/** 19 MiB, two passes, one lane. A hash made with others is made anew at the next login. */
const PARAMETERS = { memoryCost: 19_456, timeCost: 2, parallelism: 1 };

const ARGON2ID =
  /^\$argon2id\$v=19\$(?<parameters>(?:[mtp]=\d{1,7},){2}[mtp]=\d{1,7})\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,86}$/;
/** The most that a verification may take: 128 MiB and 10 passes are about 0.6 s, as is bcrypt's cost of 14. */
const MOST = { m: 131_072, t: 10, p: 8 };

const BCRYPT = /^\$2[aby]\$(?<cost>\d\d)\$[./A-Za-z0-9]{53}$/;
const BCRYPT_COSTS = { least: 4, most: 14 };
/** bcrypt takes no notice of what follows. */
const BCRYPT_MAX_BYTES = 72;

/** What a text is that should be a password hash. */
export type HashForm = "argon2id" | "bcrypt" | "unknown" | "too_costly";

/** Says it, without computing anything. */
export function formOf(passwordHash: string): HashForm {
  const cost = BCRYPT.exec(passwordHash)?.groups?.cost;
  if (cost !== undefined) {
    if (Number(cost) < BCRYPT_COSTS.least) return "unknown";
    return Number(cost) <= BCRYPT_COSTS.most ? "bcrypt" : "too_costly";
  }
  const parameters = ARGON2ID.exec(passwordHash)?.groups?.parameters;
  return parameters === undefined ? "unknown" : argon2FormOf(parameters);
}

/** `parameters`: "m=19456,t=2,p=1", in any order. */
function argon2FormOf(parameters: string): HashForm {
  const { m, t, p } = Object.fromEntries(
    parameters.split(",").map((parameter) => [parameter.slice(0, 1), Number(parameter.slice(2))]),
  );
  if (m === undefined || t === undefined || p === undefined) return "unknown";
  if (t < 1 || p < 1 || m < 8 * p) return "unknown";
  return m <= MOST.m && t <= MOST.t && p <= MOST.p ? "argon2id" : "too_costly";
}

/** Hashes a password. */
export function hashOfPassword(password: string): Promise<string> {
  return argon2.hash(password, PARAMETERS);
}

/** Whether a password fits a hash, whose form must be "argon2id" or "bcrypt". */
export async function fitsHash(passwordHash: string, password: string): Promise<boolean> {
  if (!BCRYPT.test(passwordHash)) return argon2.verify(passwordHash, password);
  // $2y$ is PHP's name of what others call $2b$.
  const fits = await bcrypt.compare(password, passwordHash.replace(/^\$2y/, "$2b"));
  return fits && Buffer.byteLength(password) <= BCRYPT_MAX_BYTES;
}

/**
 * True for a hash that is to be made anew: of bcrypt, or with other parameters than today's. Stronger ones, too: a login that
 * takes longer than that of nobody tells that the account exists.
 */
export function isOutdatedHash(passwordHash: string): boolean {
  return BCRYPT.test(passwordHash) || argon2.needsRehash(passwordHash, PARAMETERS);
}
