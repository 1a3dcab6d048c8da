/** Which addresses count as one. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { addressGroup, networkGroup } from "./address.ts";

const groups: [address: string, group: string][] = [
  ["127.0.0.1", "127.0.0.1"],
  ["203.0.113.7", "203.0.113.7"],
  ["::ffff:203.0.113.7", "203.0.113.7"],
  ["::FFFF:203.0.113.7", "203.0.113.7"],
  ["::", "0:0:0:0::/64"],
  ["::1", "0:0:0:0::/64"],
  ["2001:db8::", "2001:db8:0:0::/64"],
  ["2001:db8::7", "2001:db8:0:0::/64"],
  ["2001:0DB8:0000:0000:ffff:ffff:ffff:ffff", "2001:db8:0:0::/64"],
  ["2001:db8:0:1::7", "2001:db8:0:1::/64"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
  ["1::2:3:4:5:6:7", "1:0:2:3::/64"],
  ["fe80::1", "fe80:0:0:0::/64"],
  ["fe80::1%eth0", "fe80:0:0:0::/64"],
];
for (const [address, group] of groups) {
  test(`${address} belongs to ${group}`, () => assert.equal(addressGroup(address), group));
}

const networks: [address: string, network: string][] = [
  ["203.0.113.7", "203.0.113.0/24"],
  ["::ffff:203.0.113.7", "203.0.113.0/24"],
  ["2001:db8:1:2::7", "2001:db8:1::/48"],
  ["2001:db8::7", "2001:db8:0::/48"],
];
for (const [address, network] of networks) {
  test(`${address} is in ${network}`, () => assert.equal(networkGroup(address), network));
}
