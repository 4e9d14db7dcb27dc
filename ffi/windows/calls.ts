/** Binds the functions of Windows, and converts their errors. */

import { constants } from "node:os";
import process from "node:process";
import type { CFunction, FfiRuntime, SystemError } from "../types.ts";
import { ERROR_NAMES, INVALID_HANDLE_VALUE } from "./constants.ts";

/** Larger than any message of libuv. */
const MESSAGE_SIZE = 256;

/** The bound functions, and their helpers. */
export interface WindowsCalls {
  readonly kernel: Record<keyof typeof KERNEL | keyof typeof NT, CFunction>;
  /**
   * Returns the handle of a descriptor.
   *
   * @throws With code `EBADF` if the descriptor is not open.
   */
  handle(fd: number): bigint;
  /**
   * Returns the error number of the previous call. No other code may run
   * between the two calls.
   */
  lastError(): number;
  /** Creates an error from its Windows number. */
  createError(syscall: string, error: number): SystemError;
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
  // It does not have parameters. For the reason, see errno() in node.ts.
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

/** Binds the functions. */
export function windowsCalls(runtime: FfiRuntime): WindowsCalls {
  const kernel = {
    ...runtime.bind("kernel32.dll", KERNEL),
    ...runtime.bind("ntdll.dll", NT),
  };
  // node.exe and bun.exe export libuv, which manages their descriptors.
  const libuv = runtime.bind(process.execPath, LIBUV);
  const buffer = new Uint8Array(MESSAGE_SIZE);

  function errorText(format: CFunction, error: number): string {
    format(error, buffer, BigInt(MESSAGE_SIZE));
    return new TextDecoder().decode(buffer.subarray(0, buffer.indexOf(0)));
  }

  return {
    kernel,
    handle(fd) {
      const handle = BigInt(libuv.uv_get_osfhandle(fd));
      if (handle !== INVALID_HANDLE_VALUE) return BigInt.asUintN(64, handle);
      throw systemError("bad file descriptor", "EBADF", 0, "uv_get_osfhandle");
    },
    // The addon of Node keeps the number between two bound calls. The other
    // runtimes run nothing in between.
    lastError: () => Number(kernel.GetLastError(0)),
    createError(syscall, error) {
      const number = Number(libuv.uv_translate_sys_error(error));
      const code = ERROR_NAMES[syscall]?.[error] ??
        errorText(libuv.uv_err_name_r, number);
      const text = errorText(libuv.uv_strerror_r, number);
      const message = `${text}, Windows error ${error}`;
      return systemError(message, code, error, syscall);
    },
  };
}

/**
 * Creates an error. `number` replaces an errno that errno.h does not define.
 */
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
