/**
 * The variables that every process has, whatever services it runs: prefix `CONCIERGE_`, section `concierge` in YAML.
 * Without any of them a process runs in production mode, on loopback.
 */
import { z } from "zod";
import { kafkaSettings } from "./kafka.ts";
import { addressRanges, encryptedPeer, httpUrl, webOrigins } from "./network.ts";
import { redisSettings } from "./redis.ts";
import { type Risk, setting, type ValuesOf, type Variable } from "./variable.ts";

const port = z.coerce.number().int().min(0).max(65535);
const count = (maximum: number) => z.coerce.number().int().min(1).max(maximum);
const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

const settings = {
  mode: setting(
    z.enum(["development", "demo", "production"]).default("production"),
    "How strict the process is: development, demo (production's checks, but the push stand-in and cleartext inside a " +
      "container network are allowed) or production",
  ),
  host: setting(z.string().min(1).default("127.0.0.1"), "Address that both listeners bind; 0.0.0.0 in a container"),
  publicPort: setting(
    port.optional(),
    "Port of the public listener; 0 picks a free one. Not set: 8080, or the service's own when it runs alone",
  ),
  internalPort: setting(
    port.optional(),
    "Port of the internal listener; 0 picks a free one. Not set: 50051, or the service's own when it runs alone",
  ),
  issuer: setting(httpUrl.default("http://127.0.0.1:8080"), "Issuer (iss) of access tokens, an http(s) URL", {
    production: encryptedPeer,
  }),
  logLevel: setting(
    z.enum(["trace", "debug", "info", "warn", "error", "fatal"]).default("info"),
    "The least severe level that is logged: trace, debug, info, warn, error or fatal",
  ),
  drainDelaySeconds: setting(
    z.coerce.number().int().min(0).max(600).default(0),
    "Seconds for which a process that is told to stop works on and only says that it is not ready, before " +
      "CONCIERGE_DRAIN_SECONDS begin: as long as a balancer needs to notice",
  ),
  drainSeconds: setting(
    z.coerce.number().int().min(0).max(3600).default(10),
    "Seconds in which a stopping process ends: half of them for calls in flight, the rest for jobs and connections",
  ),
  reflection: setting(
    z.stringbool().optional(),
    "Whether servers describe their methods to anyone; on in development only",
    {
      production: (on) =>
        on ? { problem: "shows every method to anyone who can reach the port", risk: "reflection" } : undefined,
    },
  ),
  tlsCertificatePath: setting(
    z.string().min(1).optional(),
    "PEM file with the certificate chain of both listeners; read again when it changes",
  ),
  tlsKeyPath: setting(z.string().min(1).optional(), "PEM file with the private key of that certificate"),
  cleartext: setting(
    z.enum(["accept", "refuse"]).optional(),
    "Connections without TLS where certificates are set: accept or refuse; not set: accepted in development only",
    {
      production: (wish) =>
        wish === "accept" ? "must not be accept: secrets would travel as they are, whoever calls" : undefined,
    },
  ),
  peerCaPath: setting(
    z.string().min(1).optional(),
    "PEM file with the authorities that certify other services, instead of the well-known ones",
  ),
  trustedProxies: setting(
    addressRanges.optional(),
    "Addresses or ranges (10.0.0.0/8) of proxies whose X-Forwarded-For is believed, and whose connections are not counted",
  ),
  connectionsPerAddress: setting(count(100_000).default(256), "Most connections from one address (IPv6: one /64)"),
  requestsPerSecond: setting(
    z.coerce.number().int().min(0).max(1_000_000).default(500),
    "Calls of the public listener per second from one address (IPv6: one /64), twice as many in a burst; 0 is no limit",
  ),
  ...redisSettings,
  callsInFlight: setting(
    count(1_000_000).default(1_000),
    "Most unary calls that a listener works on at once; more are refused as UNAVAILABLE / OVERLOADED",
  ),
  callsPerAddress: setting(
    count(1_000_000).default(250),
    "Most of the calls that the public listener works on at once from one address (IPv6: one /64)",
  ),
  publicMessageBytes: setting(
    count(64 * MIB).default(64 * 1024),
    "Largest message on the public listener, unless the method's contract says otherwise",
  ),
  internalMessageBytes: setting(
    count(64 * MIB).default(4 * MIB),
    "Largest message on the internal listener, unless the method's contract says otherwise",
  ),
  publicBodyMemoryBytes: setting(
    count(64 * GIB).default(64 * MIB),
    "Most bytes of bodies over 64 KiB that the public listener holds; more are refused as RESOURCE_EXHAUSTED / OVERLOADED",
  ),
  internalBodyMemoryBytes: setting(
    count(64 * GIB).default(256 * MIB),
    "Most bytes of bodies over 64 KiB that the internal listener holds; more are refused in the same way",
  ),
  defaultDeadlineSeconds: setting(count(3600).default(10), "Deadline of a unary call that names none"),
  maximumDeadlineSeconds: setting(count(3600).default(60), "Longest deadline of a unary call"),
  streamSeconds: setting(count(86_400).default(300), "Longest life of a stream"),
  allowedOrigins: setting(
    webOrigins.default([]),
    "Origins of web pages that may call the public listener from a browser, such as https://app.example.com",
  ),
  allowStale: setting(
    z.stringbool().default(false),
    "Whether reads that are marked so go on until the access token expires while auth cannot be asked about its session",
  ),
  feedHours: setting(
    count(24 * 366).default(7 * 24),
    "Hours for which events are kept; who reads a feed more rarely than this has to begin anew",
  ),
  rpcFastPath: setting(
    z.stringbool().default(true),
    "Whether plain unary calls over HTTP/2 take the short way, which costs a fifth of the long one",
  ),
  tracesUrl: setting(
    httpUrl.optional(),
    "OTLP/HTTP collector that gets traces, such as http://127.0.0.1:4318/v1/traces; not set: none are sent",
    { production: encryptedPeer },
  ),
  tracesRatio: setting(
    z.coerce.number().min(0).max(1).default(1),
    "Share of traces that are recorded, where none of our own services has decided already",
  ),
  ...kafkaSettings,
};

function risk(description: string): Variable<"accepted" | undefined> {
  return setting(z.literal("accepted").optional(), `Risk, taken when set to "accepted": ${description}`);
}

const risks = {
  riskCleartextDatabase: risk("the database on another host is reached without TLS"),
  riskCleartextPeers: risk("another host is called without TLS"),
  riskReflection: risk("reflection is on in production"),
} satisfies Record<`risk${Capitalize<Risk>}`, Variable<"accepted" | undefined>>;

export const platformShape = { ...settings, ...risks };

export type Mode = ValuesOf<typeof settings>["mode"];

/** The platform's values; what depends on the mode is decided. */
export type PlatformConfig = Omit<ValuesOf<typeof settings>, "reflection" | "cleartext"> & {
  readonly reflection: boolean;
  readonly cleartext: "accept" | "refuse";
};

/** The key in `platformShape` of the flag that takes a risk. */
export function riskKey(risk: Risk): keyof typeof risks {
  return `risk${risk[0]!.toUpperCase()}${risk.slice(1)}` as keyof typeof risks;
}

/** Settles what depends on the mode. */
export function platformConfig(values: ValuesOf<typeof settings>): PlatformConfig {
  const isDevelopment = values.mode === "development";
  const hasCertificate = values.tlsCertificatePath !== undefined;
  const names = Object.keys(settings) as (keyof typeof settings)[];
  return {
    ...(Object.fromEntries(names.map((name) => [name, values[name]])) as ValuesOf<typeof settings>),
    reflection: values.reflection ?? isDevelopment,
    cleartext: values.cleartext ?? (hasCertificate && !isDevelopment ? "refuse" : "accept"),
  };
}
