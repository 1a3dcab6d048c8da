/**
 * `make bench/auth`: what it costs to verify an access token (P2), to log in (P4), to refresh and to register (P4b), each beside its
 * reference in the same run: the bare signature check, the bare hash, and pgbench with the same statements; and what the number of
 * people changes (P9). ONLY=<name> takes one part, QUICK=1 a tenth of the people. Ends with 1 if a goal is missed.
 */
import { openAuthSetting } from "../prove/auth-setting.ts";
import { Goals } from "../prove/figures.ts";
import { createServiceKey } from "../token/key-making.ts";
import { measureGrowth } from "./auth-growth.ts";
import { measureLogins } from "./auth-logins.ts";
import { measureRefreshes } from "./auth-refreshes.ts";
import { measureRegistrations } from "./auth-registrations.ts";
import { measureVerification } from "./auth-tokens.ts";
import { machineLine } from "./figures.ts";

async function main(): Promise<number> {
  const { ONLY, QUICK } = process.env;
  const goals = new Goals("auth");
  goals.info(machineLine());
  const wants = (name: string) => !ONLY || ONLY === name;
  if (wants("tokens")) await measureVerification(goals);
  if (["logins", "refreshes", "registrations"].some(wants)) {
    await using opened = new AsyncDisposableStack();
    const key = createServiceKey("user", "auth", "service");
    const setting = await openAuthSetting([key], opened);
    if (wants("logins")) await measureLogins(goals, setting, key);
    if (wants("refreshes")) await measureRefreshes(goals, setting);
    if (wants("registrations")) await measureRegistrations(goals, setting);
  }
  if (wants("growth")) await measureGrowth(goals, QUICK ? 100_000 : 1_000_000);
  goals.info(`at the end: ${machineLine()}`);
  return goals.missed === 0 ? 0 : 1;
}

process.exitCode = await main();
