/** The environment variables of a whole system, strong enough for production, over databases that a test has made. */
import { createServiceAccount } from "../dev/push-stand-in-account.ts";
import { systemVariables } from "../dev/variables.ts";
import type { ServiceDefinition } from "../service.ts";
import { services } from "../services.ts";
import { OPERATOR } from "../token/key-folder.ts";
import { calleesOf, createServiceKey, createSigningKeys, createTokenKeys, pairsOf } from "../token/key-making.ts";
import { type TestDatabase, testDatabase } from "./cluster.ts";

export interface TestEnvironment extends AsyncDisposable {
  /** Everything but mode and ports. */
  readonly variables: Record<string, string>;
  database(service: string): TestDatabase;
}

let serviceAccount: ReturnType<typeof createServiceAccount> | undefined;

/** Migrated databases for these services, and keys for all. Notifications go to Google, unless an endpoint is given. */
export async function testEnvironment(definitions: ServiceDefinition[], endpoint?: string): Promise<TestEnvironment> {
  await using opened = new AsyncDisposableStack();
  const databases: Record<string, TestDatabase> = {};
  for (const { name } of definitions.filter(({ hasDatabase }) => hasDatabase)) {
    databases[name] = opened.use(await testDatabase(["platform", name]));
  }
  const operator = calleesOf(services).map(({ name }) => createServiceKey(OPERATOR, name, "operator"));
  const pairs = pairsOf(services).map(({ caller, callee }) => createServiceKey(caller, callee, "service"));
  serviceAccount ??= createServiceAccount("concierge-test");
  const variables = systemVariables({
    definitions: services,
    databases,
    serviceKeys: [...pairs, ...operator],
    signingKeys: await createSigningKeys("ES256"),
    tokenKeys: createTokenKeys(),
    push: { credentials: JSON.stringify(await serviceAccount), endpoint: endpoint ?? "" },
  });
  const resources = opened.move();
  return {
    // Production's default would want a mail server.
    variables: { ...variables, CONCIERGE_AUTH_REQUIRE_EMAIL_VERIFICATION: "false" },
    database: (service) => databases[service]!,
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}
