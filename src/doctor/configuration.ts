/** The configuration, as `concierge serve` would take it or refuse it, and the risks that it takes. */
import type { Configuration, ServiceShapes } from "../config.ts";
import { StartupError } from "../errors.ts";
import { type Finding, type Line, ok, unfit, warning } from "./finding.ts";

const WHAT = "configuration";

/** What is to be said of a configuration that was loaded. */
export function configurationLines({ platform, acceptedRisks }: Configuration<ServiceShapes>): Line[] {
  const findings: Finding[] = [
    ok(`mode ${platform.mode}`),
    ...acceptedRisks.map(({ name, description }) => warning(`${name}: ${description}`, "unset it to end the risk")),
  ];
  return findings.map((finding) => ({ what: WHAT, ...finding }));
}

/** A line for each reason why a configuration was refused. Throws what is no refusal. */
export function refusalLines(error: unknown): Line[] {
  if (!(error instanceof StartupError)) throw error;
  const [first = "", ...problems] = error.message.split("\n").map((line) => line.trim());
  const findings = (problems.length > 0 ? problems : [first]).map((problem) => unfit(problem));
  return findings.map((finding) => ({ what: WHAT, ...finding }));
}
