/**
 * Keys: whether every call of the contract finds a key on both sides, as far as the configuration shows both, and
 * whether a change of keys was left half-way. Names of keys are told, never their secrets.
 */
import type { KeyRing, ServiceKey } from "../config.ts";
import { keysOf, missingKeys } from "../peers.ts";
import type { ServiceDefinition } from "../service.ts";
import { services as allServices } from "../services.ts";
import { madeAt, pairsOf } from "../token/key-making.ts";
import type { KeySet } from "../token/signing-keys.ts";
import { type Check, type DoctorContext, type Finding, ok, unfit, warning } from "./finding.ts";

export function keyChecks(context: DoctorContext): Check[] {
  const { definitions, services } = context;
  const checks = definitions
    .filter(({ config }) => "serviceKeys" in config)
    .map((definition) => ({
      what: `${definition.name} service keys`,
      run: async () => pairFindings(definition, context),
    }));
  return [...checks, ...("auth" in services ? ownKeyChecks(services.auth as unknown as OwnKeys) : [])];
}

interface OwnKeys {
  signingKeys: KeySet;
  tokenKeys: KeyRing;
}

function ownKeyChecks({ signingKeys, tokenKeys }: OwnKeys): Check[] {
  const check = (what: string, { keys }: { keys: { kid: string }[] }, command: string): Check => ({
    what,
    run: async () => [ringFinding(keys, command)],
  });
  return [check("auth signing keys", signingKeys, "rotate"), check("auth token keys", tokenKeys, "rotate-tokens")];
}

/** The first key is in use; others are there because a change of keys goes on. */
function ringFinding(keys: { kid: string }[], command: string): Finding {
  if (keys.length === 1) return ok("1 key");
  const finding = `${keys.length} keys: a change of keys was not ended`;
  return warning(finding, `\`concierge keys ${command} activate\` and \`retire\`, as \`publish\` said`);
}

function pairFindings(definition: ServiceDefinition, { services }: DoctorContext): Finding[] {
  const { name } = definition;
  const keys = keysOf(services[name]!);
  const findings = [
    ...missingKeys(definition, services[name]!).map((problem) => unfit(problem)),
    ...strangerFindings(name, keys),
    ...unendedFindings(name, keys),
    ...unknownFindings(name, keys, services),
  ];
  return findings.length > 0 ? findings : [ok(`one for each pair, ${keys.length} in all`)];
}

/** Callers that the contract names, and whose key is not here. */
function strangerFindings(name: string, keys: ServiceKey[]): Finding[] {
  return pairsOf(allServices)
    .filter(
      ({ caller, callee }) => callee === name && !keys.some((key) => key.caller === caller && key.callee === name),
    )
    .map(({ caller }) => warning(`no key of ${caller}, which is refused`, "run `concierge keys init`"));
}

function unendedFindings(name: string, keys: ServiceKey[]): Finding[] {
  const pairs = [...Map.groupBy(keys, pairName)].filter(([, ring]) => ring.length > 1);
  if (pairs.length === 0) return [];
  const isPublished = pairs.some(([, [first, ...others]]) =>
    others.some(({ kid }) => madeAt(kid) > madeAt(first!.kid)),
  );
  const names = pairs.map(([pair]) => pair).join(", ");
  const step = isPublished ? "activate" : "retire";
  const finding = `more than one key of ${names}: a change of keys was not ended`;
  return [
    warning(finding, `restart what the last step named, then \`concierge keys rotate-pairs ${step} --of ${name}\``),
  ];
}

/** Keys that this service signs with, and that the callee's configuration, where it is here, does not have. */
function unknownFindings(name: string, keys: ServiceKey[], services: DoctorContext["services"]): Finding[] {
  const signing = [...Map.groupBy(keys, pairName).values()].map(([first]) => first!);
  return signing
    .filter(({ caller, callee }) => caller === name && callee in services)
    .filter(
      ({ callee, kid, secret }) => !keysOf(services[callee]!).some((key) => key.kid === kid && key.secret === secret),
    )
    .map(({ callee, kid }) => unfit(`signs with ${kid}, which ${callee} does not have`, `give ${callee} its key file`));
}

const pairName = ({ caller, callee }: ServiceKey) => `${caller}:${callee}`;
