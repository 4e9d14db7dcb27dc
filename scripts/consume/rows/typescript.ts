/** TypeScript, which checks the declarations, too, and what it emits. */

import { join } from "node:path";
import { root } from "../../setup/mod.ts";
import { type Command, toolFolder, toolNode } from "../programs.ts";
import { NODES, type Row } from "../row.ts";
import { playPrograms } from "../scenario.ts";
import { link, programTexts } from "../workspace.ts";

/** The folders of the compilers, and of the types of Node. */
const VERSIONS = {
  "5.2": [toolFolder("typescript-5.2"), toolFolder("@types/node-20")],
  "6.0": [toolFolder("typescript-6.0"), toolFolder("@types/node")],
  "7.0": [join(root, "node_modules", "typescript"), toolFolder("@types/node")],
} as const;

type Version = keyof typeof VERSIONS;

/** Uses the declarations. No client of Redis is installed. */
const TYPED = `
  import { AlreadyLocked, Lock, type LockedFile, updateFile } from "@x/portalock";
  import { lockAll, RedisLock, type RedisProbe } from "@x/portalock/redis";
  export async function redis(url?: string): Promise<bigint> {
    const lock = new RedisLock("a", { url, prefix: undefined, info: [1] });
    // @ts-expect-error: not a client.
    void (() => new RedisLock("a", { client: "redis://localhost" }));
    const probe: RedisProbe = await lock.probe();
    const { signal } = await lockAll([lock], { timeout: 10 });
    signal.throwIfAborted();
    return probe.holders[0]?.fencingToken ?? 0n;
  }
  export async function typed(path: string): Promise<number> {
    const lock = new Lock(path, { mode: "a+", timeout: 10 });
    // @ts-expect-error: not a mode.
    void (() => new Lock(path, { mode: "rw" }));
    const bytes: Uint8Array = await lock.run((file) => file.readBytes());
    await updateFile(path, (text: string) => text.toUpperCase());
    try {
      using file: LockedFile = lock.acquireSync();
      return file.statSync().size + bytes.length;
    } catch (error) {
      if (error instanceof AlreadyLocked) return error.holder?.pid ?? 0;
      throw error;
    }
  }
`;

/** The modes of modules, with the type of the package that uses them. */
const MODES = [
  { module: "node16", type: "module" },
  { module: "node16", type: "commonjs" },
  { module: "nodenext", type: "module" },
  { module: "nodenext", type: "commonjs" },
  { module: "esnext", moduleResolution: "bundler", type: "module" },
  { module: "commonjs", moduleResolution: "node10", type: "commonjs" },
  { module: "commonjs", moduleResolution: "bundler", type: "commonjs" },
] as const;

type Mode = typeof MODES[number];

/** Returns whether a version has a mode. */
function has(version: Version, mode: Mode): boolean {
  const resolution = "moduleResolution" in mode ? mode.moduleResolution : "";
  if (resolution === "node10") return version === "5.2";
  return !(mode.module === "commonjs" && version === "5.2");
}

function settingOf({ type, ...options }: Mode): string {
  const compiler = Object.entries(options).map(([name, value]) =>
    `\`${name}: "${value}"\``
  );
  return [...compiler, `\`"type": "${type}"\``].join(", ");
}

function compiled(version: Version, mode: Mode): Row {
  const { type, ...options } = mode;
  return {
    tool: `TypeScript ${version}`,
    setting: settingOf(mode),
    runtimes: NODES,
    async prepare(workspace) {
      const [typescript, types] = VERSIONS[version];
      const project = workspace.project({
        "package.json": JSON.stringify({ private: true, type }),
        "tsconfig.json": JSON.stringify({
          compilerOptions: {
            ...options,
            target: "es2022",
            lib: ["es2022"],
            types: ["node"],
            strict: true,
            exactOptionalPropertyTypes: true,
            esModuleInterop: true,
            skipLibCheck: false,
            rootDir: "source",
            outDir: "output",
          },
          include: ["source"],
        }),
        "source/typed.ts": TYPED,
        ...Object.fromEntries(
          Object.entries(programTexts()).filter(([name]) =>
            ["program.mjs", "roles.mjs"].includes(name)
          ).map(([name, text]) => [
            `source/${name.replace(/mjs$/, "ts")}`,
            // Checks only that they are modules.
            `// @ts-nocheck\n${text.replace("roles.mjs", "roles.js")}`,
          ]),
        ),
      });
      link(project, "@types/node", types);
      const tsc: Command = [toolNode(), join(typescript, "bin", "tsc")];
      await workspace.runSilently([...tsc, "-p", "."], { cwd: project });
      return async ({ command }) => {
        const program = join("output", "program.js");
        await playPrograms(workspace, [...command, program], { cwd: project });
      };
    },
  };
}

const versions: readonly Version[] = ["5.2", "6.0", "7.0"];

export const typescriptRows: readonly Row[] = versions.flatMap((version) =>
  MODES.filter((mode) => has(version, mode)).map((mode) =>
    compiled(version, mode)
  )
);
