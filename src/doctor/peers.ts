/**
 * Peers: whether each internal listener can be reached, is ready, and takes our key. That is asked by a signed request
 * for a path that nobody has: whoever holds a key learns that there is no such path, everybody else only that they are
 * not known.
 */
import http from "node:http";
import https from "node:https";
import { text as textOf } from "node:stream/consumers";
import { readAuthorities } from "../authorities.ts";
import type { Clock } from "../clock.ts";
import type { ServiceKey } from "../config.ts";
import { keysOf } from "../peers.ts";
import { SERVICE_TOKEN_HEADER, signServiceToken } from "../token/service-token.ts";
import { clockFindings } from "./clock.ts";
import { absent, type Check, codeOf, type DoctorContext, type Finding, ok, unfit, warning } from "./finding.ts";

/** Nobody has it, and no service token for it is good for anything. */
const NO_PATH = "/concierge.doctor/Question";
/** The header `date` has no parts of a second. */
const DATE_STEP_MS = 1_000;

export function peerChecks({ definitions, services, platform, isOneProcess, clock }: DoctorContext): Check[] {
  const isHere = (peer: string) => isOneProcess && definitions.some(({ name }) => name === peer);
  return definitions.flatMap(({ name, peers }) => {
    return Object.keys(peers)
      .filter((peer) => !isHere(peer))
      .map((peer) => ({
        what: `${name} to ${peer}`,
        async run(signal: AbortSignal) {
          const values = services[name]!;
          const key = keysOf(values).find(({ caller, callee }) => caller === name && callee === peer);
          const ca = await readAuthorities("peers", platform.peerCaPath);
          return examine(values[`${peer}Url`] as string, key, { ca, clock, signal });
        },
      }));
  });
}

interface Asking {
  ca: string | undefined;
  clock: Clock;
  signal: AbortSignal;
}

async function examine(url: string, key: ServiceKey | undefined, asking: Asking): Promise<Finding[]> {
  const { clock } = asking;
  const askedAt = clock.now();
  const ready = await ask(url, "/readyz", {}, asking).catch(codeOf);
  if (typeof ready === "string") {
    const remedy = "see whether it runs, and whether its URL and CONCIERGE_PEER_CA_PATH are right";
    return [absent(`does not answer${ready}`, remedy)];
  }
  // Only the internal one says what is missing.
  if (!ready.text.includes('"missing"')) {
    return [unfit("answers, but is no internal listener", "let its URL name the callee's internal listener")];
  }
  const theirs = ready.date === undefined ? askedAt : Date.parse(ready.date);
  const clocks = clockFindings(theirs, { askedAt: askedAt - DATE_STEP_MS, answeredAt: clock.now() });
  const differences = clocks.filter(({ level }) => level !== "ok");
  // A token that was signed at another time is refused whatever its key.
  if (differences.some(({ level }) => level === "problem")) return differences;
  const refusal = key ? await refusalOf(url, key, asking) : [];
  const notReady = ready.status === 200 ? [] : [warning("is not ready", "its /readyz says what is missing")];
  const findings = [...differences, ...notReady, ...refusal];
  return findings.length > 0 || !key ? findings : [ok("is ready, and takes our key")];
}

async function refusalOf(url: string, key: ServiceKey, asking: Asking): Promise<Finding[]> {
  const token = signServiceToken(key, NO_PATH, undefined, asking.clock);
  const { status } = await ask(url, NO_PATH, { [SERVICE_TOKEN_HEADER]: token }, asking);
  if (status === 404) return [];
  return [unfit(`does not know our key ${key.kid}`, "give it its key file, and restart it")];
}

interface Answer {
  status: number;
  text: string;
  /** The header. */
  date: string | undefined;
}

/** Not by fetch(), which cannot be told whom to trust. */
async function ask(
  url: string,
  path: string,
  headers: Record<string, string>,
  { ca, signal }: Asking,
): Promise<Answer> {
  const { get } = url.startsWith("https:") ? https : http;
  const { promise, resolve, reject } = Promise.withResolvers<http.IncomingMessage>();
  const options = { agent: false, ca, headers, minVersion: "TLSv1.2", rejectUnauthorized: true, signal } as const;
  get(new URL(path, url), options, resolve).on("error", reject);
  const response = await promise;
  const text = await textOf(response);
  return { status: response.statusCode!, text, date: response.headers.date };
}
