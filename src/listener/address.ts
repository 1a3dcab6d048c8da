/** Addresses of peers, as limits count them. */

/**
 * What one subscriber holds: an IPv4 address, or the first 64 bits of an IPv6 address, of which everybody has as many as they
 * like. Takes what a socket says; anything else is a group of its own.
 */
export function addressGroup(address: string): string {
  if (!address.includes(":")) return address;
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
  if (mapped) return mapped[1]!;
  const [head = "", tail] = address.split("%", 1)[0]!.split("::");
  const groups = head === "" ? [] : head.split(":");
  if (tail !== undefined) {
    const following = tail === "" ? [] : tail.split(":");
    while (groups.length + following.length < 8) groups.push("0");
    groups.push(...following);
  }
  return `${groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(":")}::/64`;
}
