/**
 * The state that all copies of this package in one thread share.
 *
 * A program may load the package several times: by `import` and by `require`,
 * in several chunks of a bundle, in two folders of `node_modules`, or again
 * after a reset of the module registry. Copies that do not know of each other
 * exclude each other, because the kernel does. But the thread would wait for
 * itself without noticing, tasks would overtake each other, and an earlier
 * write could replace a later one. Shared are:
 *
 * - `queues`: the waiters for a file, which a release wakes.
 * - `holds`: the locks of the thread, for `EDEADLK` and `unlock()`.
 * - `locked`: the descriptors that `lock()` has locked, because another copy may
 *   upgrade or unlock them.
 * - `writes`: the order of atomic writes.
 * - `updates`: the locks of `updateFile`, for its order.
 * - `callerErrors`: a copy may use the lock of another one for an update.
 * - `exit`: Deno lets only one listener find out that an error ends the thread.
 * - `inotify`: on Bun, each instance with waiters blocks a thread of the pool,
 *   which may have two.
 * - `denoScope`: Deno's FFI permission is the same for all copies, so that one
 *   warning says that it does not suffice.
 *
 * Everything else is harmless if each copy has its own: caches, other warnings,
 * listeners of signals, yields to the event loop, connections to Redis, and the
 * names that one copy could not delete on Windows. The mutex of an object such
 * as a `Lock` or an `RLock` belongs to the object.
 *
 * A value keeps the class of the copy that created it. So other copies call its
 * methods, and never use `instanceof` or a private field.
 *
 * Workers, and contexts of `node:vm` (such as the test files of Jest), have a
 * global object of their own, and so a state of their own.
 *
 * @module
 */

/**
 * The version of what is shared. Raise it if a shared value, or the meaning of
 * a part of it, changes. Copies with different versions share nothing.
 * `tests/copies_test.ts` lists the members.
 */
const LAYOUT = 1;

const KEY = Symbol.for(`@x/portalock state ${LAYOUT}`);

const state = findState(globalThis);

/** Returns the value of all copies. The first copy creates it. */
export function shared<T>(name: string, create: () => T): T {
  if (!state.has(name)) state.set(name, create());
  return state.get(name) as T;
}

/**
 * Returns the state of a global object. If that object is frozen, or has a
 * property with this key from elsewhere, this copy has a state of its own.
 */
export function findState(global: object): Map<string, unknown> {
  const created = new Map<string, unknown>();
  try {
    const found: unknown = Reflect.get(global, KEY);
    if (found instanceof Map) return found;
    // It is not enumerable.
    if (found === undefined) {
      Reflect.defineProperty(global, KEY, { value: created });
    }
  } catch {
    // A proxy or an accessor throws.
  }
  return created;
}
