/** What is called on Windows, and how its errors become ours. */

import { constants } from "node:os";
import process from "node:process";
import type { CFunction, FfiRuntime, SystemError } from "../types.ts";
import { INVALID_HANDLE_VALUE, NAMES } from "./constants.ts";

/** Larger than every message. */
const ROOM = 256;

/** The functions of the system, and what goes with all of them. */
export interface WindowsCalls {
  readonly kernel: Record<keyof typeof KERNEL | keyof typeof NT, CFunction>;
  /** The handle behind a descriptor; throws if it is none. */
  handle(fd: number): bigint;
  /** The error of the call before. Nothing may run in between. */
  lastError(): number;
  /** Makes an error of its number. */
  failure(syscall: string, error: number): SystemError;
}

const KERNEL = {
  LockFileEx: {
    parameters: ["usize", "i32", "i32", "i32", "i32", "buffer"],
    result: "i32",
  },
  UnlockFileEx: {
    parameters: ["usize", "i32", "i32", "i32", "buffer"],
    result: "i32",
  },
  SetFilePointerEx: {
    parameters: ["usize", "i64", "buffer", "i32"],
    result: "i32",
  },
  GetFileInformationByHandle: {
    parameters: ["usize", "buffer"],
    result: "i32",
  },
  WriteFile: {
    parameters: ["usize", "buffer", "i32", "buffer", "buffer"],
    result: "i32",
  },
  // It takes none; but see node.ts of functions without parameters.
  GetLastError: { parameters: ["i32"], result: "i32" },
} as const;

const NT = {
  NtQueryVolumeInformationFile: {
    parameters: ["usize", "buffer", "buffer", "i32", "i32"],
    result: "i32",
  },
} as const;

const LIBUV = {
  uv_get_osfhandle: { parameters: ["i32"], result: "i64" },
  uv_translate_sys_error: { parameters: ["i32"], result: "i32" },
  uv_err_name_r: { parameters: ["i32", "buffer", "usize"], result: "i64" },
  uv_strerror_r: { parameters: ["i32", "buffer", "usize"], result: "i64" },
} as const;

/** Binds everything once. */
export function windowsCalls(runtime: FfiRuntime): WindowsCalls {
  const kernel = {
    ...runtime.bind("kernel32.dll", KERNEL),
    ...runtime.bind("ntdll.dll", NT),
  };
  // node.exe and bun.exe export libuv, whose descriptors theirs are.
  const libuv = runtime.bind(process.execPath, LIBUV);
  const buffer = new Uint8Array(ROOM);

  function errorText(by: CFunction, error: number): string {
    by(error, buffer, BigInt(ROOM));
    return new TextDecoder().decode(buffer.subarray(0, buffer.indexOf(0)));
  }

  return {
    kernel,
    handle(fd) {
      const handle = BigInt(libuv.uv_get_osfhandle(fd));
      if (handle !== INVALID_HANDLE_VALUE) return BigInt.asUintN(64, handle);
      throw systemError("bad file descriptor", "EBADF", 0, "uv_get_osfhandle");
    },
    // Koffi keeps it from V8's own calls; elsewhere nothing comes in between.
    lastError: () => Number(kernel.GetLastError(0)),
    failure(syscall, error) {
      const number = Number(libuv.uv_translate_sys_error(error));
      const code = NAMES[syscall]?.[error] ??
        errorText(libuv.uv_err_name_r, number);
      const words = errorText(libuv.uv_strerror_r, number);
      const message = `${words}, Windows error ${error}`;
      return systemError(message, code, error, syscall);
    },
  };
}

/** `number` is for errors that errno.h does not know. */
function systemError(
  message: string,
  code: string,
  number: number,
  syscall: string,
): SystemError {
  const known = constants.errno as Record<string, number>;
  const errno = known[code] ?? number;
  return Object.assign(new Error(message), { code, errno, syscall });
}
