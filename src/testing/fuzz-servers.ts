/**
 * What the fuzzer is let loose on: every public service, twice in one process, with the short way for unary calls and without
 * it. Patience is short, so that a request that was cut does not hold up the run.
 */
import type { Logger } from "../log.ts";
import { createSigningKeys } from "../token/key-making.ts";
import { answerNothing, publicServices } from "./every-service.ts";
import { type FuzzRequest, recordCorpus } from "./fuzz-corpus.ts";
import type { HeaderLine } from "./http.ts";
import { startPublicServer } from "./public-server.ts";

export interface FuzzServers extends AsyncDisposable {
  /** With the fast path, and without. */
  readonly urls: readonly string[];
  /** Whoever sends it is let in. */
  readonly authorization: HeaderLine;
  /** How many calls have taken the fast path so far. */
  fastCalls(): Promise<number>;
}

const VARIABLES = {
  CONCIERGE_REQUESTS_PER_SECOND: "0",
  CONCIERGE_CONNECTIONS_PER_ADDRESS: "100000",
  CONCIERGE_DEFAULT_DEADLINE_SECONDS: "1",
  CONCIERGE_STREAM_SECONDS: "1",
};
const TOKEN_SECONDS = 24 * 3600;

export async function startFuzzServers(log: Logger): Promise<FuzzServers> {
  await using opened = new AsyncDisposableStack();
  const keys = await createSigningKeys("ES256");
  const [fast, full] = await Promise.all(
    ["true", "false"].map(async (fastPath) => {
      const variables = { ...VARIABLES, CONCIERGE_RPC_FAST_PATH: fastPath };
      const options = { services: publicServices, implement: answerNothing, variables, log, keys };
      return opened.use(await startPublicServer(options));
    }),
  );
  const resources = opened.move();
  return {
    urls: [fast!.publicUrl, full!.publicUrl],
    authorization: ["authorization", `Bearer ${fast!.accessToken(TOKEN_SECONDS)}`],
    async fastCalls() {
      const metrics = await (await fetch(`${fast!.server.internalUrl}/metrics`)).text();
      return Number(/^rpc_server_fast_path_total (\d+)$/m.exec(metrics)![1]);
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

/** Valid requests for everything that these servers serve. */
export function recordPublicCorpus(authorization: HeaderLine): FuzzRequest[] {
  return recordCorpus(
    publicServices.flatMap(({ services }) => services),
    authorization,
  );
}
