/**
 * Whether key material deserves the name. This cannot prove that a secret is random; it catches what people really
 * deploy: sample values from documentation, short keys, and keys typed by hand (repeats, runs, few different bytes).
 * The limits are set so that a random value of the demanded length is refused less than once in 10,000 times
 * (measured: at most 2 in 60,000).
 */
import type { KeyMaterial } from "./variable.ts";

/** Long enough to be no accident inside random text, so they are looked for anywhere, separators ignored. */
const sampleWords = [
  "changeme",
  "replaceme",
  "password",
  "passw0rd",
  "secret",
  "postgres",
  "example",
  "placeholder",
  "default",
  "insecure",
  "sample",
  "letmein",
  "qwerty",
];
/** Short ones count only as a whole word. */
const sampleWholeWords = ["test", "testing", "demo", "admin", "root", "user", "todo"];

/** Private keys printed in RFC 7515 (A.1 oct, A.3 P-256) and RFC 7517 (A.2 P-256), which end up in real deployments. */
const publishedKeys = [
  "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
  "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
  "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE",
];

const minDistinctBytes = 12;
const minDistinctBytesShort = 6;
const minDistinctTrigramShare = 0.75;
const maxSameStepShare = 0.5;

/** What is wrong with the material, without a word of it; undefined when nothing is. */
export function weaknessOf(material: KeyMaterial): string | undefined {
  if (material.texts.some(isSample)) return "is a default or sample value";
  if (material.bytes.length < material.minBytes) return `is shorter than ${material.minBytes} bytes of key material`;
  if (hasLowEntropy(decodeHex(material.bytes))) return "has too little entropy (repeated, ordered or few characters)";
  return undefined;
}

/** Hexadecimal text stands for half as many bytes; anything else is returned as it is. */
export function decodeHex(bytes: Uint8Array): Uint8Array {
  const text = Buffer.from(bytes).toString("latin1");
  return /^[0-9a-f]+$/i.test(text) ? Buffer.from(text, "hex") : bytes;
}

/** Longer texts (a PEM key) contain short words by accident, and nobody types one as a sample. */
const maxSampleLength = 256;

/** Whether it looks like a text of documentation, as one in some hundred thousand random ones does. */
export function isSample(text: string): boolean {
  if (text.length > maxSampleLength) return false;
  if (publishedKeys.includes(text)) return true;
  const lower = text.toLowerCase();
  const joined = lower.replace(/[^a-z0-9]/g, "");
  if (sampleWords.some((word) => joined.includes(word))) return true;
  return lower.split(/[^a-z]+/).some((word) => sampleWholeWords.includes(word));
}

function hasLowEntropy(bytes: Uint8Array) {
  const distinct = new Set(bytes).size;
  if (distinct < (bytes.length < 32 ? minDistinctBytesShort : minDistinctBytes)) return true;

  const trigrams = new Set<string>();
  const stepCounts = new Map<number, number>();
  for (let i = 1; i < bytes.length; i++) {
    const step = (bytes[i]! - bytes[i - 1]! + 256) % 256;
    stepCounts.set(step, (stepCounts.get(step) ?? 0) + 1);
    if (i >= 2) trigrams.add(`${bytes[i - 2]},${bytes[i - 1]},${bytes[i]}`);
  }
  const repeats = trigrams.size < (bytes.length - 2) * minDistinctTrigramShare;
  const runs = Math.max(...stepCounts.values()) > (bytes.length - 1) * maxSameStepShare;
  return repeats || runs;
}
