/** A person's session in Node: over gRPC and HTTP/2, kept in memory or in a file. */
import type { Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { LiveConnection } from "./live-connection.ts";
import { openSession, type Session, type SessionOptions } from "./session.ts";

export { fileStore } from "./file-store.ts";
export { memoryStore, type SessionStore } from "./session-store.ts";
export type { Session, SessionOptions };

/** The public listener, such as "https://concierge.example.com", with the authorities (PEM) that may certify it; or a transport of one's own. */
export type SessionAddress = { url: string; ca?: string } | { transport: Transport };

/** Opens the session that is in the store, or one in which nobody is signed in yet. */
export function createSession(options: SessionOptions & SessionAddress): Promise<Session> {
  if ("transport" in options) return openSession(options.transport, options);
  const { url, ca } = options;
  // Said, so that no variable of the environment can turn it off.
  const sessionManager = new LiveConnection(url, { ca, minVersion: "TLSv1.2", rejectUnauthorized: true });
  const transport = createGrpcTransport({ baseUrl: url, sessionManager });
  return openSession(transport, options, () => sessionManager[Symbol.dispose]());
}
