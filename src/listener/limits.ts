/**
 * Bounds on what a peer may take of a listener, before and around the calls themselves (those have deadlines of their own).
 * What is not here is bounded by Node: it ends a session after 1,000 unread acknowledgements of PING and SETTINGS, 1,000 empty
 * DATA frames, 8 CONTINUATION frames a request, 100 refused streams, and at floods of whatever else is no use. Measured with
 * 24.21: each was cut within 50 ms.
 */
export interface ListenerLimits {
  /** From accept until the first bytes say which protocol it is, a TLS handshake included. */
  sniffTimeoutMs: number;
  /** HTTP/1.1: for all headers of a request. */
  headersTimeoutMs: number;
  /** HTTP/1.1: for a whole request, body included. */
  requestTimeoutMs: number;
  /** HTTP/1.1: between two requests. */
  keepAliveTimeoutMs: number;
  /** HTTP/1.1: requests of one connection that were not answered to the end; one more cuts it. */
  maxPipelinedRequests: number;
  /** HTTP/2: without an open stream; pings do not count. */
  sessionIdleTimeoutMs: number;
  /** After our end of a connection was closed, for the peer to read what is under way and close its own. */
  lingerTimeoutMs: number;
  /** For a peer that takes nothing of an answer; and, after the whole answer, for it to end its own side of the stream. */
  unreadAnswerTimeoutMs: number;
  /** All headers of a request: more is answered 431 (HTTP/1.1) or the stream is reset (HTTP/2). */
  maxHeaderBytes: number;
  /** HTTP/2: open streams per connection. */
  maxConcurrentStreams: number;
  /**
   * HTTP/2: calls of one connection that may be reset in one go, and after that in a second; one more ends the connection.
   * A client whose deadlines all pass at once resets as many as may be open, and its next attempts as well, some times over; a
   * proxy does so for the clients that leave it. What exceeds that costs us calls whose answers nobody reads.
   */
  streamResetBurst: number;
  streamResetsPerSecond: number;
  /** HTTP/2: memory per connection, in megabytes, above which new streams are refused. */
  maxSessionMemoryMegabytes: number;
  /** HTTP/2: bytes a second while no request has a body on its way, besides 32 KiB for every request. */
  maxControlBytesPerSecond: number;
  /** Open connections from one address (IPv6: one /64), unless it is a trusted proxy; one more is closed at once. */
  connectionsPerAddress: number;
  /**
   * For an address of which one connection flooded (rapid resets, control frames, windows that overflow, requests that do not
   * wait for answers): its connections are closed at once and new ones refused for this long; 0 for no penalty. As short as a
   * client's pause between attempts, since it hits everybody behind the same address; long enough that what a flood costs
   * before it is seen, some milliseconds, comes to nothing. Never for trusted proxies, nor for what a slow or lost client does.
   */
  floodPenaltyMs: number;
  /** How often the certificate's files are looked at. */
  certificateCheckMs: number;
}

export const defaultLimits: Readonly<ListenerLimits> = {
  sniffTimeoutMs: 10_000,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 30_000,
  keepAliveTimeoutMs: 65_000, // longer than the 60 s after which common balancers drop an idle connection themselves
  maxPipelinedRequests: 16,
  sessionIdleTimeoutMs: 300_000,
  lingerTimeoutMs: 1_000,
  unreadAnswerTimeoutMs: 30_000,
  maxHeaderBytes: 16 * 1024,
  maxConcurrentStreams: 100,
  streamResetBurst: 400,
  streamResetsPerSecond: 100,
  maxSessionMemoryMegabytes: 10,
  maxControlBytesPerSecond: 4 * 1024 * 1024,
  connectionsPerAddress: 256,
  floodPenaltyMs: 10_000,
  certificateCheckMs: 5_000,
};

/** How often to look for something that must end after `timeoutMs`: often enough to be late by a tenth at most. */
export function checkPeriodMs(timeoutMs: number): number {
  return Math.min(Math.max(timeoutMs / 10, 10), 1_000);
}
