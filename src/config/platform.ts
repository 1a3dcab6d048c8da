/**
 * The variables that every process has, whatever services it runs: prefix `CONCIERGE_`, section `concierge` in YAML.
 * Without any of them a process runs in production mode, on loopback.
 */
import { z } from "zod";
import { encryptedPeer, httpUrl } from "./network.ts";
import { type Risk, setting, type ValuesOf, type Variable } from "./variable.ts";

const port = z.coerce.number().int().min(0).max(65535);

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
    "The least severe level that is logged",
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

/** The platform's values; `reflection` is decided here when nobody set it. */
export type PlatformConfig = Omit<ValuesOf<typeof settings>, "reflection"> & { readonly reflection: boolean };

/** The key in `platformShape` of the flag that takes a risk. */
export function riskKey(risk: Risk): keyof typeof risks {
  return `risk${risk[0]!.toUpperCase()}${risk.slice(1)}` as keyof typeof risks;
}

/** Settles what depends on the mode. */
export function platformConfig(values: ValuesOf<typeof settings>): PlatformConfig {
  const { mode, host, publicPort, internalPort, issuer, logLevel, drainSeconds, reflection } = values;
  return {
    mode,
    host,
    publicPort,
    internalPort,
    issuer,
    logLevel,
    drainSeconds,
    reflection: reflection ?? mode === "development",
  };
}
