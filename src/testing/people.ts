/** People of a test: registered and logged in over the public listener, as any app would do it. */
import type { Client, Interceptor, Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import type { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";

export interface TestUser {
  userId: string;
  email: string;
  password: string;
  sessionId: string;
  accessToken: string;
  refreshToken: string;
}

/** Chosen at random, or "Ann Lee", where not given. Whoever has a stage name is an artist. */
export interface UserDetails {
  email?: string;
  password?: string;
  firstName?: string;
  lastName?: string;
  stageName?: string;
}

/** Connect over HTTP/1.1, which leaves no connection open that a test would have to close. */
export function userTransport(baseUrl: string, accessToken?: string): Transport {
  const authorize: Interceptor = (next) => (request) => {
    if (accessToken !== undefined) request.header.set("authorization", `Bearer ${accessToken}`);
    return next(request);
  };
  return createConnectTransport({ baseUrl, httpVersion: "1.1", interceptors: [authorize] });
}

/** Registers somebody and logs in. */
export async function newUser(auth: Client<typeof AuthService>, details: UserDetails = {}): Promise<TestUser> {
  const { email, password, firstName = "Ann", lastName = "Lee", stageName } = details;
  const chosen = {
    email: email ?? `${crypto.randomUUID()}@example.com`,
    password: password ?? `pass-${crypto.randomUUID()}`,
  };
  const person = { ...chosen, firstName, lastName };
  await (stageName === undefined ? auth.registerUser(person) : auth.registerArtist({ ...person, stageName }));
  return logIn(auth, chosen);
}

/** A new session, in this organization or in none. */
export async function logIn(
  auth: Client<typeof AuthService>,
  { email, password }: Pick<TestUser, "email" | "password">,
  organizationId = "",
): Promise<TestUser> {
  const { userId, sessionId, accessToken, refreshToken } = await auth.login({ email, password, organizationId });
  return { email, password, userId, sessionId, accessToken, refreshToken };
}
