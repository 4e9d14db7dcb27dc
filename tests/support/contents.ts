/** The contents that a killed process was writing. */

/** The sizes in bytes of the contents that it writes in turn. */
export const SIZES: readonly number[] = [300, 9000, 70_000, 400, 20_000];
