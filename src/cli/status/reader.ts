/** What the kinds of locks have in common. */

/** Reads and formats the states of locks. */
export interface Reader<T> {
  /**
   * Returns the state of each lock.
   *
   * @param isFirst Whether a file that does not exist is an error. Later it is
   * a lock that is not held, because some files exist only while they are.
   * @throws {Failure} If they cannot be read.
   */
  read(isFirst: boolean): readonly T[] | Promise<readonly T[]>;
  format(state: T): string;
}
