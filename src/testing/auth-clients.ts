/** The client that other teams use, of a system under test. */
import { decodeJwt } from "jose";
import { type AuthClient, type AuthClientOptions, createAuthClient } from "../client/auth-client.ts";
import type { TestSystem, TestUser } from "./system.ts";

/** As a backend, of the installation that has issued this user's token. */
export function createTestClient(
  system: TestSystem,
  { accessToken }: Pick<TestUser, "accessToken">,
  options: Partial<AuthClientOptions> = {},
): AuthClient {
  return createAuthClient({
    url: system.internalUrl,
    keys: { keys: ["auth", "access", "organization"].map((callee) => system.keyOf("backend", callee)) },
    issuer: decodeJwt(accessToken).iss!,
    clock: system.clock,
    ...options,
  });
}
