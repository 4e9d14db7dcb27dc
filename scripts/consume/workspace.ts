/** The empty folders in which the package is consumed. */

import {
  closeSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { npm, tarball } from "../setup/mod.ts";
import { ProcessTree, TEMP_FOLDER_PREFIX } from "../test/process_tree.ts";
import { type Command, folder as consumeFolder } from "./programs.ts";

/** The longest time that one process may take. */
const TIMEOUT_MS = 4 * 60_000;

/** How a command runs. */
export interface RunOptions {
  cwd: string;
  env?: NodeJS.ProcessEnv;
  timeoutMs?: number;
}

/** A command that ended with a status, or was killed. */
export class CommandFailed extends Error {}

/**
 * All folders of one run, outside the checkout and its node_modules. The next
 * run removes them if this one is killed.
 */
export class Workspaces {
  readonly folder = mkdtempSync(
    join(tmpdir(), `${TEMP_FOLDER_PREFIX}${process.pid}-`),
  );
  readonly tarball = join(this.folder, "portalock.tgz");
  readonly #installed = join(this.folder, "installed");
  #count = 0;

  constructor() {
    cpSync(tarball(), this.tarball);
    mkdirSync(this.#installed);
    npm(["install", "--no-audit", "--no-fund", this.tarball], {
      cwd: this.#installed,
      env: environment(),
    });
  }

  /** Makes an empty folder for one row. */
  next(): Workspace {
    const name = `row${++this.#count}`;
    const folder = join(this.folder, name);
    mkdirSync(folder);
    return new Workspace(folder, this.#installed, this.tarball);
  }

  remove(): void {
    remove(this.folder);
  }
}

function remove(folder: string): void {
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}

/** The folder of one row. */
export class Workspace {
  readonly folder: string;
  readonly tarball: string;
  readonly #installed: string;
  #count = 0;

  constructor(folder: string, installed: string, tarball: string) {
    this.folder = folder;
    this.#installed = installed;
    this.tarball = tarball;
  }

  remove(): void {
    remove(this.folder);
  }

  /** Returns the path of something in this folder. */
  path(...names: string[]): string {
    return join(this.folder, ...names);
  }

  /** Makes an empty folder. */
  makeFolder(name: string): string {
    const folder = this.path(`${name}${++this.#count}`);
    mkdirSync(folder);
    return folder;
  }

  /**
   * Makes a project in which npm has installed the package, with the programs
   * of `tests/consume/programs` as ECMAScript modules.
   */
  project(files: Record<string, string> = {}): string {
    const project = this.makeFolder("project");
    cpSync(this.#installed, project, { recursive: true });
    addPrograms(project);
    writeFiles(project, files);
    return project;
  }

  /**
   * Moves a folder away, so that nothing that was built in it can still use
   * it.
   */
  moveAway(folder: string): void {
    renameSync(folder, `${folder}.moved`);
  }

  /**
   * Runs a command.
   *
   * @returns What it printed.
   * @throws {CommandFailed} If it fails, or leaves a process.
   */
  async run(
    command: Command,
    { cwd, env = {}, timeoutMs = TIMEOUT_MS }: RunOptions,
  ): Promise<string> {
    const file = this.path(`output${++this.#count}`);
    const output = openSync(file, "w");
    const tree = new ProcessTree(command, {
      cwd,
      env: { ...environment(), ...env },
      output,
      timeoutMs,
    });
    const { status, timedOut, leftovers } = await tree.ended;
    closeSync(output);
    const text = readFileSync(file, "utf8");
    if (status === 0 && !timedOut && leftovers.length === 0) return text;
    const how = timedOut ? "was killed at its time limit" : `status ${status}`;
    throw new CommandFailed(
      [`${command.join(" ")}: ${how}`, ...leftovers, text].join("\n"),
    );
  }

  /**
   * Runs a command that must not print anything.
   *
   * @throws {CommandFailed} If it prints something, such as a warning.
   */
  async runSilently(command: Command, options: RunOptions): Promise<void> {
    const output = await this.run(command, options);
    if (output !== "") {
      throw new CommandFailed(`${command.join(" ")} printed\n${output}`);
    }
  }
}

/** Returns the programs of `tests/consume/programs`, by name. */
export function programTexts(): Record<string, string> {
  const source = join(consumeFolder, "programs");
  return Object.fromEntries(
    readdirSync(source).map((name) => [
      name,
      readFileSync(join(source, name), "utf8"),
    ]),
  );
}

/** Adds the programs to a project, as ES modules and as CommonJS. */
export function addPrograms(project: string): void {
  for (const [name, text] of Object.entries(programTexts())) {
    writeFileSync(join(project, name), text);
    const common = name.replace(/\.mjs$/, ".cjs");
    writeFileSync(join(project, common), commonJs(text));
  }
}

/** Writes files, and the folders that they are in. */
export function writeFiles(
  folder: string,
  files: Record<string, string>,
): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
}

/** Makes an installed tool a dependency of a project. */
export function link(project: string, name: string, target: string): void {
  const path = join(project, "node_modules", name);
  mkdirSync(dirname(path), { recursive: true });
  symlinkSync(target, path);
}

/** Rewrites a program as a CommonJS module. */
export function commonJs(text: string): string {
  return text
    .replace(
      /^import (?:\* as )?(\w+|\{[^}]*\}) from ("[^"]*");$/gm,
      (_, names: string, from: string) =>
        `const ${names.replaceAll(" as ", ": ")} = require(${from});`,
    )
    .replace(/(?<=require\("\..*)\.mjs(?="\))/g, ".cjs")
    .replace(
      /^export (async )?function (\w+)/gm,
      "exports.$2 = $2;\n$1function $2",
    );
}

/** The environment of a user: nothing of npm, or of the test scripts. */
function environment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) =>
    !/^(npm_(?!config_registry)|PORTALOCK_|NODE_OPTIONS|INIT_CWD)/i.test(name)
  );
  return { ...Object.fromEntries(kept), NO_COLOR: "1", CI: "true" };
}
