/**
 * The server under test: the production code of src/rpc/, from the socket to the handler, with the suite's service behind
 * it. The runner starts one for each set of features, says on stdin which, and reads on stdout where it listens. The flag
 * `--fast-path` lets plain unary calls over HTTP/2 take the short way.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import type { TLSCreds } from "../.concierge/conformance/connectrpc/conformance/v1/config_pb.ts";
import {
  type ServerCompatRequest,
  ServerCompatRequestSchema,
  ServerCompatResponseSchema,
} from "../.concierge/conformance/connectrpc/conformance/v1/server_compat_pb.ts";
import { systemClock as clock } from "../src/clock.ts";
import { type Listener, listen } from "../src/listener/listener.ts";
import type { TlsPaths } from "../src/listener/tls.ts";
import { createLogger } from "../src/log.ts";
import { createRequestHandlers, type RequestHandlers } from "../src/rpc/handler.ts";
import { createRateLimit } from "../src/rpc/overload.ts";
import { createRoutes, limitsOf } from "../src/rpc/routes.ts";
import type { StepsOf } from "../src/rpc/steps.ts";
import { createMetrics, type Metrics } from "../src/telemetry/metrics.ts";
import { createTracing } from "../src/telemetry/traces.ts";
import { defaultPlatform, nobodysRights } from "../src/testing/edge.ts";
import { createAccessTokenVerifier } from "../src/token/access-token.ts";
import { fixedKeyRing } from "../src/token/key-ring.ts";
import { createServiceTokenVerifier } from "../src/token/service-token.ts";
import { keepReasonsBack } from "./reasons.ts";
import { conformanceService } from "./service.ts";
import { FAST_PATH_CALLS, framed, readMessages } from "./wire.ts";

const fastPath = process.argv.includes("--fast-path");
const log = createLogger({ level: "fatal", mode: "production", clock, destination: process.stderr });

keepReasonsBack();
for await (const request of readMessages(process.stdin, ServerCompatRequestSchema)) {
  const { host, port } = await start(request);
  const pemCert = request.serverCreds?.cert;
  const response = create(ServerCompatResponseSchema, { host, port, pemCert });
  process.stdout.write(framed(ServerCompatResponseSchema, response));
  break;
}

async function start({ messageReceiveLimit, serverCreds }: ServerCompatRequest): Promise<Listener> {
  const stopping = new AbortController();
  const resources = new AsyncDisposableStack();
  const metrics = resources.use(createMetrics({ log }));
  const handlers = await createHandlers(messageReceiveLimit, stopping.signal, metrics);
  const tls = serverCreds ? await writeFiles(serverCreds, resources) : undefined;
  const listener = resources.use(
    await listen({
      host: "127.0.0.1",
      port: 0,
      clock,
      handler: handlers.answer,
      takeStream: handlers.takeStream,
      tls,
      cleartext: tls ? "refuse" : "accept",
    }),
  );
  process.once("SIGTERM", async () => {
    stopping.abort();
    const text = await metrics.text();
    await resources.disposeAsync();
    process.stderr.write(`${FAST_PATH_CALLS}${/^rpc_server_fast_path_total (\d+)$/m.exec(text)?.[1]}\n`);
  });
  return listener;
}

async function createHandlers(messageBytes: number, stopping: AbortSignal, metrics: Metrics): Promise<RequestHandlers> {
  const limits = { ...limitsOf("public", defaultPlatform), ...(messageBytes > 0 && { messageBytes }) };
  return createRequestHandlers({
    routes: createRoutes(limits, [{ service: steps(), implementations: [conformanceService] }], () => ({
      who: "public",
    })),
    plain: new Map(),
    mayLearnPaths: () => true,
    refusesAtOnce: true,
    rateLimit: createRateLimit(0, clock), // one client makes all calls, as fast as it can
    stopping,
    fastPath,
    log,
    clock,
    metrics,
    tracing: await createTracing({ url: undefined, ratio: 0, serviceName: "conformance", clock, log }),
    trustsTraces: false,
  });
}

/** All steps of a call, of a service that knows nobody: its methods are open to everybody. */
function steps(): StepsOf {
  const keyRing = fixedKeyRing({ keys: [] });
  return {
    authentication: {
      mode: "production",
      verifyAccessToken: createAccessTokenVerifier(keyRing, { issuer: "http://127.0.0.1", clock }),
      keyRing,
      checkSession: () => Promise.resolve(false),
      rights: nobodysRights,
      verifyServiceToken: createServiceTokenVerifier("conformance", [], clock),
    },
    isStarted: () => true,
    spendToken: () => Promise.resolve(false),
  };
}

/** The listener reads its certificate from files. */
async function writeFiles({ cert, key }: TLSCreds, resources: AsyncDisposableStack): Promise<TlsPaths> {
  const folder = await mkdtemp(join(tmpdir(), "conformance-"));
  resources.defer(() => rm(folder, { recursive: true }));
  const paths = { certificatePath: join(folder, "certificate.pem"), keyPath: join(folder, "key.pem") };
  await writeFile(paths.certificatePath, cert);
  await writeFile(paths.keyPath, key, { mode: 0o600 });
  return paths;
}
