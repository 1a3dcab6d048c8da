/** The SDK in a browser: a person's session over gRPC-Web, shared by the tabs of an origin, and the services that people call. */
import type { Transport } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { browserStore } from "./browser-store.ts";
import { openSession, type Session, type SessionOptions } from "./session.ts";

export { Code, ConnectError } from "@connectrpc/connect";
export { AccessService } from "../../gen/concierge/access/v1/access_service_pb.ts";
export { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
export { NotificationService } from "../../gen/concierge/notification/v1/notification_service_pb.ts";
export { OrganizationService } from "../../gen/concierge/organization/v1/organization_service_pb.ts";
export { UserService } from "../../gen/concierge/user/v1/user_service_pb.ts";
export { type Reason, reasonOf } from "../errors.ts";
export { browserStore } from "./browser-store.ts";
export { memoryStore, type SessionStore } from "./session-store.ts";
export type { Session, SessionOptions };

/** The public listener, such as "https://concierge.example.com", which has to allow the page's origin; or a transport of one's own. */
export type SessionAddress = { url: string } | { transport: Transport };

/** Opens the session of this origin, or one in which nobody is signed in yet. It is kept in browserStore() unless told otherwise. */
export function createSession(options: SessionOptions & SessionAddress): Promise<Session> {
  const transport = "transport" in options ? options.transport : createGrpcWebTransport({ baseUrl: options.url });
  return openSession(transport, { ...options, store: options.store ?? browserStore() });
}
