/**
 * Extended attributes of files: see xattr(7). macOS has functions of the same
 * names with more parameters, and does not keep its access lists there.
 */

import { cString } from "../runtime/memory.ts";
import type { CreateError } from "../posix/fcntl.ts";
import type { FfiRuntime, FileAttributes, Signature } from "../types.ts";

/** linux/limits.h: XATTR_SIZE_MAX and XATTR_LIST_MAX. */
const MAX_SIZE = 65_536;

/** asm-generic/errno.h: the file does not have this attribute. */
const ENODATA = 61;

const GET: Signature = {
  parameters: ["buffer", "buffer", "buffer", "usize"],
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

/** Returns the extended attributes of files. Binds nothing before a call. */
export function fileAttributes(
  runtime: FfiRuntime,
  libc: string,
  errno: () => number,
  createError: CreateError,
): FileAttributes {
  const bind = () => ({
    ...runtime.bind(libc, {
      lgetxattr: GET,
      llistxattr: LIST,
      fsetxattr: SET,
      fremovexattr: REMOVE,
    }),
    buffer: new Uint8Array(MAX_SIZE),
  });
  let bound: ReturnType<typeof bind> | undefined;
  return {
    list(path) {
      const { llistxattr, buffer } = bound ??= bind();
      const size = llistxattr(cString(path), buffer, BigInt(MAX_SIZE));
      if (size < 0) throw createError("llistxattr", errno());
      if (Number(size) === 0) return [];
      const names = new TextDecoder().decode(buffer.subarray(0, Number(size)));
      return names.slice(0, -1).split("\0");
    },
    get(path, name) {
      const { lgetxattr, buffer } = bound ??= bind();
      const size = Number(
        lgetxattr(cString(path), cString(name), buffer, BigInt(MAX_SIZE)),
      );
      if (size >= 0) return buffer.slice(0, size);
      const code = errno();
      if (code === ENODATA) return null;
      throw createError("lgetxattr", code);
    },
    set(fd, name, value) {
      const { fsetxattr, buffer } = bound ??= bind();
      // Not every runtime passes the address of an empty array.
      const bytes = value.length > 0 ? value : buffer;
      const size = BigInt(value.length);
      if (fsetxattr(fd, cString(name), bytes, size, 0) === 0) return;
      throw createError("fsetxattr", errno());
    },
    remove(fd, name) {
      const { fremovexattr } = bound ??= bind();
      if (fremovexattr(fd, cString(name)) === 0) return;
      throw createError("fremovexattr", errno());
    },
  };
}
