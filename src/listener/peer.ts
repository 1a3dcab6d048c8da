/**
 * Who is at the other end: the address that limits and logs go by. A proxy's word (X-Forwarded-For) is taken only where the
 * operator named the proxy, and then read from the right: what stands further left was written by whoever called it.
 */
import { type BlockList, isIP } from "node:net";

/** The client of a request. */
export interface Peer {
  /** IPv4 or IPv6; IPv4 inside of IPv6 is shown as IPv4. */
  readonly address: string;
  /** Whether TLS protects the connection that the request came on (which, behind a proxy, is the proxy's). */
  readonly isEncrypted: boolean;
}

const IPV4_IN_IPV6 = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i;

/** An address as we write it. */
export function plainAddress(address: string): string {
  return IPV4_IN_IPV6.exec(address)?.[1] ?? address;
}

/** Whether a proxy is at this address whose word is taken. */
export function isTrustedProxy(address: string, proxies: BlockList | undefined): boolean {
  return proxies?.check(address, isIP(address) === 6 ? "ipv6" : "ipv4") ?? false;
}

/** The client for which a trusted proxy speaks; the proxy itself when it names nobody, or nobody whom we can read. */
export function forwardedPeer(
  proxy: Peer,
  forwardedFor: string | string[] | undefined,
  proxies: BlockList | undefined,
): Peer {
  if (forwardedFor === undefined) return proxy;
  const entries = String(forwardedFor).split(",");
  for (let index = entries.length - 1; index >= 0; index--) {
    const address = plainAddress(entries[index]!.trim());
    if (isIP(address) === 0) return proxy;
    if (!isTrustedProxy(address, proxies)) return { address, isEncrypted: proxy.isEncrypted };
  }
  return proxy;
}
