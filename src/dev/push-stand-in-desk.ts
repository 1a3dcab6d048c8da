/**
 * What people and tests ask of the push stand-in, beside FCM's own API, which is for the sender:
 *
 * - `GET /`: a page that shows what each device was pushed, as it comes.
 * - `GET /pushes?token=`: the newest 100 accepted pushes, the newest first; of one registration token where it is given.
 * - `GET /faults`, `PUT /faults` (a JSON array), `DELETE /faults`: what goes wrong on demand; push-stand-in-faults.ts says how.
 *
 * There is no password: whoever is on this machine may ask. So pages of other sites, which share the machine's browser, must
 * not: they get no answer, whether they name this address or a name of their own that leads here.
 */
import type { IncomingMessage } from "node:http";
import { z } from "zod";
import { HTML_HEADERS, readPage, SCRIPT_HEADERS } from "../rpc/pages.ts";
import { type Faults, orderedFaults } from "./push-stand-in-faults.ts";
import type { Ledger } from "./push-stand-in-ledger.ts";
import { type Answer, googleError } from "./push-stand-in-message.ts";

const MOST_SHOWN = 100;
const LOOPBACK_NAMES = ["127.0.0.1", "localhost"];
const JSON_HEADERS = { ...HTML_HEADERS, "content-type": "application/json" };

export interface Desk {
  /** The answer, or undefined for what is none of the desk's paths. */
  answer(request: IncomingMessage, body: string): Answer | undefined;
}

type Ask = (request: IncomingMessage, body: string, query: URLSearchParams) => Answer;

/** `names`: hosts by which it is reached, beside those of the loopback. */
export async function openDesk(faults: Faults, ledger: Ledger, names: readonly string[] = []): Promise<Desk> {
  const ownNames = [...LOOPBACK_NAMES, ...names];
  const { html, script } = await readPage(import.meta.url, "push-stand-in-page");
  const listFaults = () => json({ faults: faults.list() });
  const answers: Record<string, Ask> = {
    "GET /": () => ({ status: 200, headers: HTML_HEADERS, body: html }),
    "GET /page.js": () => ({ status: 200, headers: SCRIPT_HEADERS, body: script }),
    "GET /pushes": (_, __, query) => json({ pushes: newestOf(ledger, query.get("token")) }),
    "GET /faults": listFaults,
    "PUT /faults": (request, body) => {
      if (!/^application\/json *(;|$)/i.test(request.headers["content-type"] ?? "")) {
        return googleError(415, "INVALID_ARGUMENT", "content-type must be application/json");
      }
      const orders = orderedFaults.safeParse(parseJson(body));
      if (!orders.success) return googleError(400, "INVALID_ARGUMENT", z.prettifyError(orders.error));
      faults.order(orders.data);
      return listFaults();
    },
    "DELETE /faults": () => {
      faults.order([]);
      return listFaults();
    },
  };
  return {
    answer(request, body) {
      const [path = "", query] = (request.url ?? "").split("?", 2);
      const answer = answers[`${request.method} ${path}`];
      if (!answer) return undefined;
      if (isForeign(request, ownNames))
        return googleError(403, "PERMISSION_DENIED", "This is for pages of this address only.");
      return answer(request, body, new URLSearchParams(query));
    },
  };
}

/** Whether a page of another site asks, or a browser believes to be talking to another site. Programs send neither header. */
function isForeign({ headers, socket }: IncomingMessage, ownNames: string[]): boolean {
  const { host, origin, "sec-fetch-site": site } = headers;
  if (!ownNames.some((name) => host === `${name}:${socket.localPort}`)) return true;
  if (origin !== undefined && origin !== `http://${host}`) return true;
  return site !== undefined && site !== "same-origin" && site !== "none";
}

function newestOf({ newest }: Ledger, token: string | null) {
  const some = token === null ? newest : newest.filter((entry) => entry.token === token);
  return some.slice(-MOST_SHOWN).reverse();
}

function json(body: object): Answer {
  return { status: 200, headers: JSON_HEADERS, body };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
