/** Appending where a file that the system appends to could not be locked. */

/**
 * Makes a function that writes at the end of a file. The end is looked for
 * before each write and only once the one before has ended: Windows asks for
 * the size first and moves the position then, so a write in between would be
 * written over. Nobody else can write, who would need the lock.
 */
export function appending(
  toEnd: () => void,
  write: (data: Uint8Array) => Promise<number>,
): (data: Uint8Array) => Promise<number> {
  let before: Promise<unknown> = Promise.resolve();
  return (data) => {
    const mine = before.then(() => {
      toEnd();
      return write(data);
    });
    before = mine.catch(() => {});
    return mine;
  };
}
