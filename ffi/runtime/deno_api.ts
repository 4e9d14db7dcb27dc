/**
 * The part of the global `Deno` that this package uses. These types make the
 * package type-check without the types of Deno.
 */

import type { FileInfo, SelfLockingFile } from "../types.ts";

export interface DenoApi {
  readonly version: { readonly deno: string };
  readonly mainModule?: string;
  readonly permissions: {
    querySync(
      descriptor: { name: "ffi"; path?: string | undefined } | {
        name: DenoPermission;
      },
    ): { state: string; partial: boolean };
  };
  readonly errors: { readonly NotCapable: new () => Error };
  readonly FsFile: { readonly prototype: object };
  dlopen<Name extends string>(
    library: string,
    symbols: Record<Name, DenoSymbol>,
  ): {
    symbols: Record<Name, (...values: unknown[]) => unknown>;
    close(): void;
  };
  stat(path: string): Promise<{ isFifo: boolean | null }>;
  statSync(path: string): { isFifo: boolean | null };
  openSync(path: string, options: DenoOpenOptions): DenoFile;
  open(path: string, options: DenoOpenOptions): Promise<DenoFile>;
}

/** The name of a permission of Deno. */
export type DenoPermission =
  | "env"
  | "ffi"
  | "net"
  | "read"
  | "run"
  | "sys"
  | "write";

export interface DenoSymbol {
  parameters: string[];
  result: string;
  nonblocking?: boolean;
}

export interface DenoOpenOptions {
  read: boolean;
  write: boolean;
  append: boolean;
  create: boolean;
  createNew: boolean;
  mode?: number;
}

export interface DenoFile extends SelfLockingFile {
  read(into: Uint8Array): Promise<number | null>;
  readSync(into: Uint8Array): number | null;
  write(data: Uint8Array): Promise<number>;
  writeSync(data: Uint8Array): number;
  seekSync(offset: number, whence: number): number;
  truncate(length: number): Promise<void>;
  truncateSync(length: number): void;
  sync(): Promise<void>;
  syncSync(): void;
  syncData(): Promise<void>;
  syncDataSync(): void;
  stat(): Promise<FileInfo>;
  statSync(): FileInfo;
  close(): void;
}

/** Returns the global `Deno`, or `undefined` on another runtime. */
export function denoApi(): DenoApi | undefined {
  return (globalThis as { Deno?: DenoApi }).Deno;
}
