/** Compiles programs against the declarations of the npm package. */

import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { npm, root, systemNode } from "../../setup/mod.ts";
import { check } from "./check.ts";

/** Without the redis package, so no declaration may need it. */
const TYPED = `
  import { Lock, type LockedFile, updateFile } from "@x/portalock";
  import { RedisLock, type RedisLease } from "@x/portalock/redis";
  const file: LockedFile = new Lock("a.lock", { mode: "a+" }).acquireSync();
  const size: number = file.statSync().size;
  const bytes: Uint8Array = file.readBytesSync();
  file.closeSync();
  // @ts-expect-error: not a mode.
  new Lock("a.lock", { mode: "rw" });
  export async function use(): Promise<bigint> {
    await using file = await new Lock("a.lock").acquire();
    using other = new Lock("b.lock").acquireSync();
    await updateFile(file.path + other.path, (content) => content, {
      encoding: null,
    });
    const lease: RedisLease = await new RedisLock("a").acquire();
    return lease.fencingToken;
  }
  export { bytes, size };
`;

const WITH_REDIS = `
  import { RedisLock, RedisSemaphore } from "@x/portalock/redis";
  import { createClient, createCluster } from "redis";
  import { Cluster, Redis } from "ioredis";
  const client = createClient({ url: "redis://127.0.0.1:1", RESP: 2 });
  new RedisLock("a", { client });
  new RedisSemaphore("a", 2, { client: createCluster({ rootNodes: [] }) });
  new RedisLock("a", { client: new Redis({ lazyConnect: true }) });
  new RedisLock("a", { client: new Cluster([], { lazyConnect: true }) });
`;

/** The oldest version, and a version of Node's types that supports it. */
const OLDEST = ["typescript@5.2.2", "@types/node@20.19.43"];

/** Files, and the options of the compiler that resolve their imports. */
type Modes = readonly (readonly [
  readonly string[],
  Readonly<Record<string, string>>,
])[];

const BOTH = ["typed.mts", "typed.cts"];
const MODES: Modes = [
  [BOTH, { module: "node16" }],
  [BOTH, { module: "nodenext" }],
  [["typed.ts"], { module: "esnext", moduleResolution: "bundler" }],
];

/** Before `bundler` was permitted with it, and after `node10` was removed. */
const OLD_COMMON: Modes = [
  [["typed.ts"], { module: "commonjs", moduleResolution: "node10" }],
];
const NEW_COMMON: Modes = [
  [["typed.ts"], { module: "commonjs", moduleResolution: "bundler" }],
];

const newest = join(root, "node_modules", "typescript", "bin", "tsc");

/** Checks the declarations with the newest and the oldest TypeScript. */
export function checkTypes(project: string): void {
  checkModes("newest", project, newest, [...MODES, ...NEW_COMMON]);
  const folder = join(project, "oldest");
  const oldest = join(folder, "node_modules", "typescript", "bin", "tsc");
  mkdirSync(folder);
  writeFileSync(join(folder, "package.json"), '{ "private": true }');
  npm(["install", "--prefer-offline", "--no-audit", ...OLDEST], {
    cwd: folder,
  });
  checkModes("oldest", folder, oldest, [...MODES, ...OLD_COMMON]);
}

/** Checks that the types of the redis package fit. */
export function checkRedisTypes(project: string): void {
  writeFileSync(join(project, "typed.ts"), WITH_REDIS);
  compile("the npm package's types with redis", newest, project, {
    module: "nodenext",
  }, ["typed.ts"]);
}

function checkModes(
  version: string,
  folder: string,
  compiler: string,
  modes: Modes,
): void {
  for (const name of [...BOTH, "typed.ts"]) {
    writeFileSync(join(folder, name), TYPED);
  }
  for (const [files, options] of modes) {
    const mode = Object.values(options).join(", ");
    const name = `the npm package's types, ${version} TypeScript, ${mode}`;
    compile(name, compiler, folder, options, files);
  }
}

/** Compiles without `ESNext.Disposable`, which the declarations refer to. */
function compile(
  name: string,
  compiler: string,
  folder: string,
  options: Readonly<Record<string, string>>,
  files: readonly string[],
): void {
  const compilerOptions = {
    ...options,
    target: "ES2022",
    lib: ["ES2022"],
    types: ["node"],
    strict: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: false,
    noEmit: true,
  };
  const config = join(folder, "tsconfig.json");
  writeFileSync(config, JSON.stringify({ compilerOptions, files }));
  check(name, dirname(config), [systemNode(), compiler, "-p", "."]);
}
