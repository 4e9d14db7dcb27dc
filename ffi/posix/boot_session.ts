/** The id of the boot on macOS. */

import { cString } from "../runtime/memory.ts";
import type { FfiRuntime } from "../types.ts";

/** Longer than a UUID. */
const BUFFER_SIZE = 64;

/** Returns the UUID of this boot, or `null` if the system does not have one. */
export function bootSession(runtime: FfiRuntime, libc: string): string | null {
  try {
    // sysctl(3). The last two arguments would set a new value.
    const { sysctlbyname } = runtime.bind(libc, {
      sysctlbyname: {
        parameters: ["buffer", "buffer", "buffer", "usize", "usize"],
        result: "i32",
      },
    });
    const value = new Uint8Array(BUFFER_SIZE);
    const length = new BigUint64Array([BigInt(BUFFER_SIZE)]);
    const failed = sysctlbyname(
      cString("kern.bootsessionuuid"),
      value,
      new Uint8Array(length.buffer),
      0n,
      0n,
    );
    if (failed) return null;
    return new TextDecoder().decode(value.subarray(0, value.indexOf(0))) ||
      null;
  } catch {
    return null;
  }
}
