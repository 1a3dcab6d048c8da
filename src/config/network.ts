/**
 * What counts as "another host". Cleartext stays allowed on loopback; in demo mode also inside a container network,
 * whose names have one label and whose addresses are private. Everything else needs TLS or a named, accepted risk.
 */
import { BlockList, isIP } from "node:net";
import { z } from "zod";
import { list, type Refusal, setting, type Variable } from "./variable.ts";

/** How far away a host is, by its name alone; nothing is resolved. */
export function reachOf(host: string): "loopback" | "network" | "elsewhere" {
  const name = host.toLowerCase().replace(/^\[|\]$/g, "");
  if (name === "localhost" || name.endsWith(".localhost") || name === "::1") return "loopback";
  if (isIP(name) === 4) return reachOfAddress(name);
  if (isIP(name) === 6) return /^f[cd]/.test(name) ? "network" : "elsewhere";
  return name.includes(".") ? "elsewhere" : "network";
}

function reachOfAddress(address: string) {
  const [first = 0, second = 0] = address.split(".").map(Number);
  if (first === 127) return "loopback";
  const isPrivate =
    first === 10 || (first === 172 && second >= 16 && second <= 31) || (first === 192 && second === 168);
  return isPrivate ? "network" : "elsewhere";
}

/** Refuses an http:// URL that leaves this host. */
export function encryptedPeer(url: string | undefined): Refusal | undefined {
  if (url === undefined) return undefined;
  const { protocol, hostname } = new URL(url);
  const reach = reachOf(hostname);
  if (protocol === "https:" || reach === "loopback") return undefined;
  return {
    problem: "reaches another host without TLS (use https)",
    risk: "cleartextPeers",
    allowedInDemo: reach === "network",
  };
}

/** The type of an http(s) URL without credentials: URLs are logged, so none may carry a password. */
export const httpUrl = z
  .url({ protocol: /^https?$/, error: "must be an http:// or https:// URL" })
  .refine((url) => !/^[a-z]+:\/\/[^/?#]*@/i.test(url), "must not carry a user name or password");

/** The URL of another service, e.g. of auth's internal listener; TLS is required towards another host in production. */
export function peerUrl(description: string, options?: { default: string }): Variable<string>;
export function peerUrl(description: string, options: { optional: true }): Variable<string | undefined>;
export function peerUrl(description: string, options: { default?: string; optional?: true } = {}): Variable<unknown> {
  const { default: standard, optional } = options;
  if (optional) return setting(httpUrl.optional(), description, { production: encryptedPeer });
  const type = standard === undefined ? httpUrl : httpUrl.default(standard);
  return setting(type, description, { production: encryptedPeer });
}

/**
 * What links to web pages begin with: without a query or a fragment, and with TLS unless the pages are on this host.
 */
export function linkUrl(description: string): Variable<string | undefined> {
  const type = httpUrl.refine((url) => !/[?#]/.test(url), "must not have a query or a fragment").optional();
  const production = (url: string | undefined): Refusal | undefined => {
    const refused = encryptedPeer(url);
    return (
      refused && {
        problem: "sends people to another host without TLS (use https)",
        allowedInDemo: refused.allowedInDemo,
      }
    );
  };
  return setting(type, description, { production });
}

/** A list of addresses and ranges in CIDR notation, IPv4 or IPv6. */
export const addressRanges = list.transform((items, context) => {
  const ranges = new BlockList();
  for (const item of items) {
    if (!addRange(ranges, item)) context.addIssue("must be addresses or ranges such as 10.0.0.0/8");
  }
  return ranges;
});

function addRange(ranges: BlockList, text: string): boolean {
  const [address = "", prefix, ...rest] = text.split("/");
  const version = isIP(address);
  if (version === 0 || rest.length > 0) return false;
  const bits = version === 4 ? 32 : 128;
  const length = prefix === undefined ? bits : Number(prefix);
  if (prefix !== undefined && !/^\d{1,3}$/.test(prefix)) return false;
  if (length > bits) return false;
  ranges.addSubnet(address, length, version === 4 ? "ipv4" : "ipv6");
  return true;
}

/** A list of web origins, exactly as a browser sends them: scheme, host and port, nothing after it. */
export const webOrigins = list.refine(
  (origins) => origins.every((text) => URL.canParse(text) && /^https?:/.test(text) && new URL(text).origin === text),
  "must be origins such as https://app.example.com, without a path or a slash at the end",
);
