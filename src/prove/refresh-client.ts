/** A person's client of one replica of auth, and what came of its calls. */
import { randomUUID } from "node:crypto";
import { type Client, Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";

export type AuthClient = Client<typeof AuthService>;

/** "refused" is UNAUTHENTICATED; "failed" is anything else that is no answer, after which nobody knows. */
export type Outcome<T> = { kind: "done"; answer: T } | { kind: "refused" } | { kind: "failed"; why: string };

/** Calls over one connection, which `opened` closes. */
export function clientAt(publicUrl: string, opened: AsyncDisposableStack): AuthClient {
  const sessionManager = new Http2SessionManager(publicUrl);
  opened.defer(() => sessionManager.abort());
  return createClient(AuthService, createConnectTransport({ baseUrl: publicUrl, httpVersion: "2", sessionManager }));
}

/** The same with an access token. */
export function clientOf(publicUrl: string, accessToken: string, opened: AsyncDisposableStack): AuthClient {
  const sessionManager = new Http2SessionManager(publicUrl);
  opened.defer(() => sessionManager.abort());
  const authorize: Interceptor = (next) => (request) => {
    request.header.set("authorization", `Bearer ${accessToken}`);
    return next(request);
  };
  const interceptors = [authorize];
  const transport = createConnectTransport({ baseUrl: publicUrl, httpVersion: "2", sessionManager, interceptors });
  return createClient(AuthService, transport);
}

export async function outcomeOf<T>(call: Promise<T>): Promise<Outcome<T>> {
  try {
    return { kind: "done", answer: await call };
  } catch (thrown) {
    const { code, message } = ConnectError.from(thrown);
    return code === Code.Unauthenticated ? { kind: "refused" } : { kind: "failed", why: message };
  }
}

export function newKey(): string {
  return randomUUID();
}
