/**
 * `concierge greet`: calls greeter as its clients do, in all four patterns over each protocol, and with a token that has
 * expired. Prints one line for each call, and fails if one of them is not as it should be. An https URL is trusted only
 * as far as its certificate; nothing is ever tried again in the clear.
 */
import { join } from "node:path";
import { ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { GreeterService } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { systemClock } from "../clock.ts";
import { ExitCode, StartupError } from "../errors.ts";
import { readSigningKeys } from "../token/key-folder.ts";
import { answerOf, describeRefusal } from "./answers.ts";
import { readRunningNote } from "./development.ts";
import { endpointAt } from "./endpoint.ts";
import { expiringPair, patterns, refuseExpired } from "./greet-calls.ts";
import type { Host } from "./host.ts";

const PROTOCOLS = ["grpc", "grpc-web", "connect"] as const;
type Protocol = (typeof PROTOCOLS)[number];

export interface GreetSettings {
  folder: string;
  /** The public listener; that of the running development system when not given. */
  url?: string;
  /** The only protocol to use; every one when not given. */
  protocol?: Protocol;
  /** An access token; when not given, the running development system's demo account logs in. */
  token?: string;
  /** A file of the authorities (PEM) to trust instead of those that this machine trusts. */
  ca?: string;
}

const TIMEOUT_MS = 5_000;

export async function greet(host: Host, settings: GreetSettings): Promise<void> {
  const { url, ca } = await endpointAt(settings.url ?? (await readRunningNote(settings.folder)).publicUrl, settings.ca);
  const session = new Http2SessionManager(url, {}, { ca, rejectUnauthorized: true });
  const transports = new Map(PROTOCOLS.map((protocol) => [protocol, transportOf(protocol, url, session)]));
  const report = createReport(host);
  try {
    const token = settings.token ?? (await logIn(url, transports.get("connect")!, settings.folder));
    // Whoever brings a token may call a system whose keys are not here, as they should not be.
    const keys = settings.token ? undefined : await readSigningKeys(join(settings.folder, "keys"));
    const pair = keys && expiringPair(token, keys, systemClock);
    for (const protocol of settings.protocol ? [settings.protocol] : PROTOCOLS) {
      const client = createClient(GreeterService, transports.get(protocol)!);
      const withToken = (text: string) => callOptions(text, host.stop);
      for (const { method, call } of patterns) {
        await report.line(protocol, method, () => call(client, withToken(token)));
      }
      if (pair) await report.line(protocol, "an expired token", () => refuseExpired(client, pair, withToken));
    }
    if (!pair) host.print("An expired token was not tried: only the keys of a development folder can sign one.\n");
  } finally {
    session.abort();
  }
  report.end();
}

async function logIn(url: string, transport: Transport, folder: string): Promise<string> {
  const { demoAccount } = await readRunningNote(folder);
  const { accessToken } = await answerOf(url, createClient(AuthService, transport).login(demoAccount));
  return accessToken;
}

function transportOf(protocol: Protocol, baseUrl: string, sessionManager: Http2SessionManager): Transport {
  const options = { baseUrl, sessionManager, httpVersion: "2" as const };
  switch (protocol) {
    case "grpc":
      return createGrpcTransport(options);
    case "grpc-web":
      return createGrpcWebTransport(options);
    case "connect":
      return createConnectTransport(options);
  }
}

function callOptions(token: string, signal: AbortSignal) {
  return { headers: { authorization: `Bearer ${token}` }, timeoutMs: TIMEOUT_MS, signal };
}

/** Prints a line for each call, and counts what failed. */
function createReport(host: Host) {
  let lines = 0;
  let failures = 0;
  return {
    async line(protocol: Protocol, what: string, run: () => Promise<string>): Promise<void> {
      const startedAt = systemClock.monotonic();
      const [verdict, result] = await run().then(
        (greeting) => ["ok  ", greeting],
        (error: Error) => ["FAIL", error instanceof ConnectError ? describeRefusal(error) : error.message],
      );
      host.stop.throwIfAborted();
      lines += 1;
      if (verdict === "FAIL") failures += 1;
      const duration = `${(systemClock.monotonic() - startedAt).toFixed(1).padStart(8)} ms`;
      host.print(`${protocol.padEnd(9)} ${what.padEnd(22)} ${verdict} ${duration}  ${result}\n`);
    },
    end(): void {
      if (failures === 0) host.print(`All ${lines} calls went as they should.\n`);
      else throw new StartupError(`${failures} of ${lines} calls did not go as they should`, ExitCode.failure);
    },
  };
}
