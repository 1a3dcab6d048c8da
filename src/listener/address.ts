/** Addresses of peers, as limits count them. */

/**
 * What one subscriber holds: an IPv4 address, or the first 64 bits of an IPv6 address, of which everybody has as many as they
 * like. Takes what a socket says; anything else is a group of its own.
 */
export function addressGroup(address: string): string {
  return ipv4Of(address) ?? prefixOf(address, 64);
}

/** What one network holds: the first 24 bits of an IPv4 address, or the first 48 of an IPv6 address. */
export function networkGroup(address: string): string {
  const ipv4 = ipv4Of(address);
  return ipv4 ? `${ipv4.split(".").slice(0, 3).join(".")}.0/24` : prefixOf(address, 48);
}

/** Also of one that is written as IPv6. What has no colon is taken as it is. */
function ipv4Of(address: string): string | undefined {
  if (!address.includes(":")) return address;
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
}

function prefixOf(address: string, bits: 48 | 64): string {
  const [head = "", tail] = address.split("%", 1)[0]!.split("::");
  const groups = head === "" ? [] : head.split(":");
  if (tail !== undefined) {
    const following = tail === "" ? [] : tail.split(":");
    while (groups.length + following.length < 8) groups.push("0");
    groups.push(...following);
  }
  const first = groups.slice(0, bits / 16).map((group) => Number.parseInt(group, 16).toString(16));
  return `${first.join(":")}::/${bits}`;
}
