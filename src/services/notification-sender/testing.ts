/**
 * What tests of deliveries start: the real notification service behind a network that can fail, the real Firebase SDK, the push
 * stand-in's ledger as the truth about what was pushed, and the database as the truth about what was told.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CallOptions } from "@connectrpc/connect";
import {
  NotificationInternalService,
  NotificationService,
  Platform,
} from "../../../gen/concierge/notification/v1/notification_service_pb.ts";
import { connectService } from "../../client/service-client.ts";
import { systemClock } from "../../clock.ts";
import { openDatabase } from "../../db/database.ts";
import { createServiceAccount, identityOf, readLedger, startPushStandIn } from "../../dev/push-stand-in.ts";
import { createLogger } from "../../log.ts";
import { createTracing } from "../../telemetry/traces.ts";
import { startFaultProxy } from "../../testing/fault-proxy.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { auth } from "../auth/service.ts";
import { devices, recipients, deliveries as workList } from "../notification/schema.ts";
import { notification } from "../notification/service.ts";
import { Deliveries, type DeliveryOptions, PUSH_TIMEOUT_MS } from "./deliveries.ts";
import { Outages } from "./outages.ts";
import { createPusher } from "./push.ts";

export const PROJECT = "concierge-test";
export const LEASE_SECONDS = 20;
export const LEASE_OVER_MS = 21_000;
const account = createServiceAccount(PROJECT);
export const never = new AbortController().signal;

interface WorldOptions {
  batchSize?: number;
  leaseSeconds?: number;
  /** The key that pushes; the stand-in takes no other than the usual one. */
  key?: typeof account;
  /** Where a collector takes traces. */
  tracesUrl?: string;
}

/** notification with auth, and what it takes to deliver by hand. */
export async function startWorld(options: WorldOptions = {}) {
  await using opened = new AsyncDisposableStack();
  const ledgerFile = await newLedgerFile(opened);
  const system = opened.use(await startTestSystem({ definitions: [auth, notification] }));
  const { hostname, port } = new URL(system.internalUrl);
  const network = opened.use(await startFaultProxy({ host: hostname, port: Number(port) }));
  const sender = await openSender(system, network.url, ledgerFile, options, opened);
  const url = system.database("notification").runtimeUrl;
  const { db } = opened.use(openDatabase({ url, poolSize: 1, applicationName: "test" }));
  const backend = system.asService(NotificationInternalService, "backend", "notification");
  const resources = opened.move();
  return {
    ...{ system, network, db, backend, ...sender },
    /** Registers somebody with these devices. */
    async newUser(...tokens: string[]): Promise<string> {
      const { userId, accessToken } = await system.newUser();
      const client = system.asUser(NotificationService, accessToken);
      for (const token of tokens) await client.registerDevice({ token, platform: Platform.ANDROID });
      return userId;
    },
    async notify(userIds: string[], text = "hello"): Promise<string> {
      return (await backend.createNotification({ title: "Hi", text, data: { order: "42" }, userIds })).notificationId;
    },
    async outcomes(): Promise<Record<string, string | null>> {
      const rows = await db.select().from(recipients);
      return Object.fromEntries(rows.map(({ userId, outcome }) => [userId, outcome]));
    },
    /** How often FCM was asked and did not take it, by recipient. */
    async tries(): Promise<Record<string, number>> {
      const rows = await db.select().from(workList);
      return Object.fromEntries(rows.map(({ userId, failedTries }) => [userId, failedTries]));
    },
    deviceTokens: async () => (await db.select().from(devices)).map(({ token }) => token).sort(),
    pushedTokens: async () => (await readLedger(ledgerFile)).map(({ token }) => token),
    ledger: () => readLedger(ledgerFile),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

async function newLedgerFile(opened: AsyncDisposableStack): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "deliveries-test-"));
  opened.defer(() => rm(folder, { recursive: true, force: true }));
  return join(folder, "ledger.jsonl");
}

/** A sender that does nothing by itself, and what it is seen to do. */
async function openSender(
  system: TestSystem,
  notificationUrl: string,
  ledgerFile: string,
  { batchSize = 100, leaseSeconds = LEASE_SECONDS, key = account, tracesUrl: url }: WorldOptions,
  opened: AsyncDisposableStack,
) {
  const { clock } = system;
  const logLines: { level: string; msg: string; codes?: string[] }[] = [];
  const destination = { write: (line: string) => void logLines.push(JSON.parse(line)) };
  const log = createLogger({ level: "info", mode: "development", destination });
  const tracing = opened.use(await createTracing({ url, ratio: 1, serviceName: "test", clock, log }));
  const serviceAccount = identityOf(await account);
  const standIn = { ledgerFile, clock: systemClock, serviceAccount, projectId: PROJECT };
  const { url: endpoint } = opened.use(await startPushStandIn(standIn));
  const pushing = { key: await key, endpoint, sendTimeoutMs: PUSH_TIMEOUT_MS, clock };
  const pusher = opened.use(await createPusher(pushing));
  const serviceKey = system.keyOf("notification-sender", "notification");
  const connection = opened.use(connectService({ baseUrl: notificationUrl, key: serviceKey, clock }));
  const calls: string[] = [];
  const notification = new Proxy(connection.client(NotificationInternalService), {
    get: (client, name: "claim") => (request: object, options?: CallOptions) =>
      client[name](request, options).finally(() => calls.push(name)),
  });
  const outages = new Outages(clock, log);
  const results = () => outages.gauges().filter(({ name }) => name === "notification_pushes_total");
  const options = { notification, pusher, outages, batchSize, leaseSeconds, clock, log, tracing };
  return {
    logLines,
    /** Calls of notification that have ended, by name and in order. */
    calls,
    newDeliveries: (changes: Partial<DeliveryOptions> = {}) => new Deliveries({ ...options, ...changes }),
    /** How many pushes FCM was asked to take, and how many access tokens it refused. */
    attempts: () => results().reduce((sum, { read }) => sum + read(), 0),
    /** How many ended so. */
    count: (outcome: string) =>
      results().reduce((sum, { labels, read }) => sum + (labels?.result === outcome ? read() : 0), 0),
  };
}
