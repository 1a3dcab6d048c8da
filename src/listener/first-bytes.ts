/** What a new connection speaks, by its first bytes. */

export type Protocol = "http1" | "http2" | "tls";

const HTTP2_PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
const TLS_HANDSHAKE = 0x16;

/** The protocol that these bytes (at least one) speak; undefined while they could still be either ("P" of POST or of PRI). */
export function protocolOf(firstBytes: Buffer): Protocol | undefined {
  if (firstBytes[0] === TLS_HANDSHAKE) return "tls";
  const length = Math.min(firstBytes.length, HTTP2_PREFACE.length);
  if (HTTP2_PREFACE.compare(firstBytes, 0, length, 0, length) !== 0) return "http1";
  return length === HTTP2_PREFACE.length ? "http2" : undefined;
}
