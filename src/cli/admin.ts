/** `concierge admin bootstrap`: makes an account the first administrator. */
import { AccessInternalService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { answerTo } from "./call.ts";
import type { Host } from "./host.ts";
import type { CallSettings } from "./internal-calls.ts";

export interface BootstrapSettings extends CallSettings {
  /** UUID of the account. */
  userId: string;
}

export async function bootstrapAdmin(host: Host, settings: BootstrapSettings): Promise<void> {
  const { userId } = settings;
  const method = `${AccessInternalService.typeName}/${AccessInternalService.method.bootstrapAdmin.name}`;
  await answerTo(host, method, JSON.stringify({ userId }), settings);
  host.print(`${userId} is the first administrator\n`);
}
