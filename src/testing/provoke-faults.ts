/**
 * Loaded before `src/main.ts` (`--import`), this makes Logout of a real process misbehave when it is given certain refresh
 * tokens: faults that nobody awaits, which no test could make happen otherwise. The code is changed while it is loaded.
 */
import { registerHooks } from "node:module";
import { setTimeout as delay } from "node:timers/promises";

const CHANGED_FILE = "/services/auth/handlers.ts";
const START_OF_LOGOUT = "async logout({ refreshToken }, context) {";
const SLOW_MS = 500;

async function misbehave(refreshToken: string): Promise<void> {
  const fault = () => new Error(`password=${refreshToken} in a handler`);
  switch (refreshToken.split("-")[0]) {
    case "unhandled":
      void Promise.reject(fault());
      return;
    case "uncaught":
      setImmediate(() => {
        throw fault();
      });
      return new Promise(() => {});
    case "slow":
      await delay(SLOW_MS);
  }
}

Object.assign(globalThis, { misbehave });
registerHooks({
  load(url, context, next) {
    const loaded = next(url, context);
    if (!url.endsWith(CHANGED_FILE)) return loaded;
    const source = String(loaded.source);
    if (!source.includes(START_OF_LOGOUT)) throw new Error("Logout is not what it was");
    return { ...loaded, source: source.replace(START_OF_LOGOUT, (start) => `${start} await misbehave(refreshToken);`) };
  },
});
