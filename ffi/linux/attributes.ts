/**
 * Extended attributes of files: see xattr(7). macOS has functions of the same
 * names with more parameters, and does not keep its access lists there.
 */

import { cString } from "../runtime/memory.ts";
import type {
  FfiRuntime,
  FileAttributes,
  Signature,
  SystemError,
} from "../types.ts";

/** linux/limits.h: XATTR_SIZE_MAX and XATTR_LIST_MAX. */
const MAX_SIZE = 65_536;

/**
 * The sizes of the buffer to try. The kernel allocates and clears a buffer of
 * the same size, which takes longer than the rest of the call.
 */
const SIZES = [256n, BigInt(MAX_SIZE)] as const;

/** asm-generic/errno-base.h: the buffer is too small. */
const ERANGE = 34;

/** asm-generic/errno.h: the file does not have this attribute. */
const ENODATA = 61;

const GET: Signature = {
  parameters: ["buffer", "buffer", "buffer", "usize"],
  result: "i64",
};
const GET_FD: Signature = {
  parameters: ["i32", "buffer", "buffer", "usize"],
  result: "i64",
};
const LIST: Signature = {
  parameters: ["buffer", "buffer", "usize"],
  result: "i64",
};
const SET: Signature = {
  parameters: ["i32", "buffer", "buffer", "usize", "i32"],
  result: "i32",
};
const REMOVE: Signature = { parameters: ["i32", "buffer"], result: "i32" };

/** Names that were used before, as C strings. */
const names = new Map<string, Uint8Array>();

/** How many names are remembered before the map is cleared. */
const MAX_NAMES = 100;

function nameOf(text: string): Uint8Array {
  let name = names.get(text);
  if (name === undefined) {
    if (names.size >= MAX_NAMES) names.clear();
    names.set(text, name = cString(text));
  }
  return name;
}

/** Returns the extended attributes of files. Binds nothing before a call. */
export function fileAttributes(
  runtime: FfiRuntime,
  libc: string,
  errno: () => number,
  createError: (syscall: string, code: number) => SystemError,
): FileAttributes {
  const bind = () => ({
    ...runtime.bind(libc, {
      lgetxattr: GET,
      fgetxattr: GET_FD,
      llistxattr: LIST,
      fsetxattr: SET,
      fremovexattr: REMOVE,
    }),
    buffer: new Uint8Array(MAX_SIZE),
  });
  let bound: ReturnType<typeof bind> | undefined;

  /** Returns the size of the result, or `null` without the attribute. */
  function sized(
    syscall: string,
    read: (size: bigint) => number | bigint,
  ): number | null {
    for (const limit of SIZES) {
      const size = Number(read(limit));
      if (size >= 0) return size;
      const code = errno();
      if (code === ENODATA) return null;
      if (code !== ERANGE) throw createError(syscall, code);
    }
    throw createError(syscall, ERANGE);
  }

  return {
    list(path) {
      const { llistxattr, buffer } = bound ??= bind();
      const name = cString(path);
      const read = (size: bigint) => llistxattr(name, buffer, size);
      const size = sized("llistxattr", read) ?? 0;
      if (size === 0) return [];
      const text = new TextDecoder().decode(buffer.subarray(0, size));
      return text.slice(0, -1).split("\0");
    },
    get(file, name) {
      const { lgetxattr, fgetxattr, buffer } = bound ??= bind();
      const attribute = nameOf(name);
      const path = typeof file === "string" ? cString(file) : null;
      const size = sized(
        "getxattr",
        (size) =>
          path === null
            ? fgetxattr(file as number, attribute, buffer, size)
            : lgetxattr(path, attribute, buffer, size),
      );
      return size === null ? null : buffer.slice(0, size);
    },
    set(fd, name, value) {
      const { fsetxattr, buffer } = bound ??= bind();
      // Not every runtime passes the address of an empty array.
      const bytes = value.length > 0 ? value : buffer;
      const size = BigInt(value.length);
      if (fsetxattr(fd, nameOf(name), bytes, size, 0) === 0) return;
      throw createError("fsetxattr", errno());
    },
    remove(fd, name) {
      const { fremovexattr } = bound ??= bind();
      if (fremovexattr(fd, nameOf(name)) === 0) return;
      throw createError("fremovexattr", errno());
    },
  };
}
