/**
 * Named places where a test may stop, fail or hold the code, to show that any moment is a good one to die. In
 * production they do nothing: a point is armed by calling armFailpoint() in the same process and in no other way, no
 * variable, file, header or signal.
 */

/** Every place, listed once, so that a proof can go through them all. */
export const failpointNames = [
  "emit.after_insert",
  "feed.before_stamp",
  "feed.after_stamp",
  "follower.before_commit",
  "follower.after_commit",
  "relay.before_publish",
  "relay.after_publish",
  "relay.after_move",
  "sender.after_claim",
  "sender.before_push",
  "sender.after_push",
  "sender.after_mark",
  "mailer.after_send",
] as const;

export type FailpointName = (typeof failpointNames)[number];

/** What happens to code that comes by: it fails, or waits for (and fails with) the function. */
export type FailpointAction = "error" | (() => Promise<void>);

const armed = new Map<FailpointName, FailpointAction>();

/** Marks a place: `await failpoint("sender.after_push")`. */
export function failpoint(name: FailpointName): Promise<void> | undefined {
  if (armed.size === 0) return undefined;
  const action = armed.get(name);
  if (action === "error") return Promise.reject(new Error(`failpoint ${name}`));
  return action?.();
}

/** Arms a place until it is disposed of. One at a time: arming it again is a mistake in the test, and throws. */
export function armFailpoint(name: FailpointName, action: FailpointAction): Disposable {
  if (armed.has(name)) throw new Error(`failpoint ${name} is already armed`);
  armed.set(name, action);
  let disposed = false;
  return {
    [Symbol.dispose]() {
      if (!disposed) armed.delete(name);
      disposed = true;
    },
  };
}

export interface HeldFailpoint extends Disposable {
  /** Resolves when code has come to the place for the first time. */
  readonly reached: Promise<void>;
  /** Lets go on what is held, and everything that comes later. Disposing does the same. */
  release(): void;
}

/** Holds whatever comes to the place until it is released. */
export function heldFailpoint(name: FailpointName): HeldFailpoint {
  const reached = Promise.withResolvers<void>();
  const released = Promise.withResolvers<void>();
  const point = armFailpoint(name, () => {
    reached.resolve();
    return released.promise;
  });
  const release = () => {
    point[Symbol.dispose]();
    released.resolve();
  };
  return { reached: reached.promise, release, [Symbol.dispose]: release };
}
