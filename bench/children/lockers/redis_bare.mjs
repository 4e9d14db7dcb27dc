/**
 * The two scripts that an uncontended acquire and release send, by a client
 * alone: what this package's locks in Redis cannot be faster than.
 *
 * @param {any} library The module with the scripts.
 * @param {(command: string[]) => Promise<unknown>} send
 * @returns {Promise<(name: string) => import("../types.ts").Locker>}
 */
export async function bare({ commandOf, LOCK_SCRIPT }, send) {
  await send(["SCRIPT", "LOAD", LOCK_SCRIPT.text]);
  const session = "0".repeat(32);
  let count = 0;
  return (name) => {
    const key = `portalock:v1:{${name}}`;
    const keys = [key, `${key}:queue`, "portalock:v1:clock", `${key}:info`];
    let member = "";
    const step = (/** @type {string} */ operation) =>
      send(commandOf(LOCK_SCRIPT, keys, [operation, member, name]));
    return {
      async acquire() {
        member = `x:${session}:${++count}:1`;
        await step("wait");
      },
      async release() {
        await step("release");
      },
    };
  };
}
