/** Who makes the calls of a mixed load: people with sessions, each the owner of an organization, and one backend. */
import { randomBytes } from "node:crypto";
import type { Client } from "@connectrpc/connect";
import { AccessInternalService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { AuthInternalService, AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import {
  NotificationInternalService,
  NotificationService,
} from "../../gen/concierge/notification/v1/notification_service_pb.ts";
import { OrganizationService } from "../../gen/concierge/organization/v1/organization_service_pb.ts";
import { UserInternalService, UserService } from "../../gen/concierge/user/v1/user_service_pb.ts";
import { connectService } from "../client/service-client.ts";
import { systemClock as clock } from "../clock.ts";
import { PublicClients } from "../dev/journey-steps.ts";
import type { ServiceProcesses } from "./service-processes.ts";

export interface Person {
  userId: string;
  email: string;
  password: string;
  /** Of the organization that the person owns. */
  accessToken: string;
  branchId: string;
  /** Of another session: what its next refresh is made with. */
  chain: { refreshToken: string; idempotencyKey: string };
}

export interface LoadClients {
  login: Client<typeof AuthService>;
  auth: Client<typeof AuthInternalService>;
  access: Client<typeof AccessInternalService>;
  users: Client<typeof UserInternalService>;
  notifications: Client<typeof NotificationInternalService>;
  /** As somebody. */
  of(accessToken: string): {
    users: Client<typeof UserService>;
    inbox: Client<typeof NotificationService>;
    organizations: Client<typeof OrganizationService>;
  };
  /** A role of the platform, and the permission that it has. */
  role: string;
  permission: string;
}

export function openClients({ urls, keys }: Pick<ServiceProcesses, "urls" | "keys">): LoadClients {
  const people = new PublicClients((service) => urls[service]!.publicUrl);
  const backend = (service: string) =>
    connectService({ baseUrl: urls[service]!.internalUrl, key: keys[service]!, clock });
  const known = new Map<string, ReturnType<LoadClients["of"]>>();
  return {
    login: people.client(AuthService, "auth"),
    auth: backend("auth").client(AuthInternalService),
    access: backend("access").client(AccessInternalService),
    users: backend("user").client(UserInternalService),
    notifications: backend("notification").client(NotificationInternalService),
    of(accessToken) {
      const mine = known.get(accessToken) ?? {
        users: people.client(UserService, "user", accessToken),
        inbox: people.client(NotificationService, "notification", accessToken),
        organizations: people.client(OrganizationService, "organization", accessToken),
      };
      known.set(accessToken, mine);
      return mine;
    },
    role: "waiters",
    permission: "tables:read",
  };
}

/** Registers them by the public API, one after the other: passwords are hashed one by one anyway. */
export async function makePeople(clients: LoadClients, count: number): Promise<Person[]> {
  await clients.access.createPermission({ name: clients.permission });
  await clients.access.createRole({ name: clients.role, permissions: [clients.permission] });
  const people: Person[] = [];
  while (people.length < count) people.push(await makePerson(clients));
  return people;
}

async function makePerson(clients: LoadClients): Promise<Person> {
  const login = { email: `${crypto.randomUUID()}@example.com`, password: `pass-${crypto.randomUUID()}` };
  await clients.login.registerUser({ ...login, firstName: "0", lastName: "Lee" });
  const [first, second] = [await clients.login.login(login), await clients.login.login(login)];
  const { organization } = await clients
    .of(first.accessToken)
    .organizations.createOrganization({ name: "Bakery", slug: `bakery-${crypto.randomUUID().slice(0, 13)}` });
  const { organizationId } = organization!;
  const { accessToken, userId } = await clients.login.refreshToken({
    refreshToken: first.refreshToken,
    organizationId,
  });
  const { branch } = await clients.of(accessToken).organizations.createBranch({ name: "0" });
  await clients.of(accessToken).users.getMe({});
  const chain = { refreshToken: second.refreshToken, idempotencyKey: randomBytes(16).toString("hex") };
  return { ...login, userId, accessToken, branchId: branch!.branchId, chain };
}
