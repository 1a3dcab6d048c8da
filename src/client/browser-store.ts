/**
 * A session in a browser, shared by all tabs of an origin: kept in localStorage, with turns by Web Locks. Where a page has no
 * Web Locks (http but on localhost), or its view of localStorage lags behind another process of the browser, tabs may refresh
 * at once, with the same idempotency key, and get the same answer. Scripts of the page can read what is stored, so a page that
 * runs scripts of strangers is better off with memoryStore().
 */
import { parseStored, type SessionStore } from "./session-store.ts";

/** What is used of the browser; Node's types do not have it. */
interface Page {
  localStorage: { getItem(key: string): string | null; setItem(key: string, value: string): void };
  navigator: { locks?: { request<Result>(name: string, work: () => Promise<Result>): Promise<Result> } };
  addEventListener(type: string, listener: (event: { key?: string | null }) => void): void;
  removeEventListener(type: string, listener: (event: { key?: string | null }) => void): void;
}

/** The session of this name. Errors of localStorage, such as a full one, come as they are. */
export function browserStore(name = "concierge.session"): SessionStore {
  const page = globalThis as unknown as Page;
  return {
    read: async () => parseStored(page.localStorage.getItem(name)),
    write: async (stored) => page.localStorage.setItem(name, JSON.stringify(stored)),
    exclusively(work) {
      const { locks } = page.navigator;
      return locks ? locks.request(name, work) : work();
    },
    onChange(listener) {
      // Another tab wrote this, or cleared everything; or the page comes back, and has heard nothing for a while.
      const changed = ({ key = null }: { key?: string | null }) => (key === null || key === name) && listener();
      const types = ["storage", "pageshow"];
      for (const type of types) page.addEventListener(type, changed);
      return () => {
        for (const type of types) page.removeEventListener(type, changed);
      };
    },
  };
}
