import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { basename, dirname, join } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { unpack } from "../../ffi/addon/unpack.ts";
import type { TestRuntime } from "../support/env.ts";
import { addonRuntimes, fixtureCommand } from "../support/env.ts";
import { runScript } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

const target = `${process.platform}-${process.arch}`;
const isLinux = process.platform === "linux";

/** What a program reports that has loaded the addon, or has failed to. */
interface Loaded {
  /** The files that it passed to `process.dlopen`. */
  files: string[];
  error?: { name: string; message: string; code?: string };
}

/** A copy of the library, which a test may change, on a runtime. */
class Copy implements Disposable {
  readonly #dir = tempDir();
  readonly runtime: TestRuntime;
  /** The folder of `load.ts`, which contains `native/` after {@linkcode add}. */
  readonly folder: string = join(this.#dir.path, "copy", "ffi", "addon");
  readonly native: string = join(this.folder, "native");
  /** The temporary folder of its programs, and the home folder on Windows. */
  readonly temporary: string = join(this.#dir.path, "temporary");
  /** The working directory of its programs. */
  readonly working: string = join(this.#dir.path, "working");

  constructor(runtime: TestRuntime) {
    this.runtime = runtime;
    const root = join(this.#dir.path, "copy");
    for (const folder of ["ffi", "src"]) {
      fs.cpSync(join(runtime.directory, folder), join(root, folder), {
        recursive: true,
      });
    }
    const mod = `mod${runtime.extension}`;
    fs.copyFileSync(join(runtime.directory, mod), join(root, mod));
    fs.writeFileSync(join(root, "package.json"), '{ "type": "module" }');
    fs.mkdirSync(this.temporary);
    fs.mkdirSync(this.working);
  }

  /** Writes the addon of this system beside `load.ts`, as the package does. */
  add(bytes: Uint8Array = unpack(target)!, folder = this.native): string {
    fs.mkdirSync(folder, { recursive: true });
    const file = join(folder, `${target}.node`);
    fs.writeFileSync(file, bytes);
    return file;
  }

  /** Runs a program that can call `loadAddon` and `Lock`. */
  async run(
    body: string,
    { options = [], temporary = this.temporary }: {
      options?: string[];
      temporary?: string;
    } = {},
  ): Promise<Loaded> {
    const { command, extension } = this.runtime;
    const url = (path: string) => JSON.stringify(pathToFileURL(path).href);
    const load = join(this.folder, `load${extension}`);
    const mod = join(this.folder, "..", "..", `mod${extension}`);
    const script = join(this.#dir.path, "script.mjs");
    fs.writeFileSync(
      script,
      `
      import fs from "node:fs";
      import { syncBuiltinESMExports } from "node:module";
      const files = [];
      const existing = (file) => {
        try {
          return fs.realpathSync(file);
        } catch {
          return file;
        }
      };
      const { dlopen } = process;
      process.dlopen = (module, file, ...rest) => {
        files.push(existing(file));
        return dlopen.call(process, module, file, ...rest);
      };
      const { loadAddon } = await import(${url(load)});
      const { Lock } = await import(${url(mod)});
      const target = ${JSON.stringify(target)};
      let error;
      try {
        ${body}
      } catch ({ name, message, code }) {
        error = { name, message, code };
      }
      console.log(JSON.stringify({ files, error }));
      `,
    );
    const folders = { TMPDIR: temporary, TEMP: temporary, TMP: temporary };
    const homes = { HOME: this.temporary, USERPROFILE: this.temporary };
    const { stdout, stderr } = await runScript(
      [...command, ...options, script],
      { cwd: this.working, env: { ...process.env, ...folders, ...homes } },
    );
    assert.equal(stderr, "");
    return JSON.parse(stdout);
  }

  [Symbol.dispose](): void {
    this.#dir[Symbol.dispose]();
  }
}

/** Defines a test that runs with a copy of the library on each Node. */
function testCopies(
  name: string,
  body: (copy: Copy) => Promise<void>,
  ...needs: Parameters<typeof test> extends [string, unknown, ...infer Rest]
    ? Rest
    : never
): void {
  test(
    name,
    async () => {
      for (const runtime of addonRuntimes) {
        using copy = new Copy(runtime);
        await body(copy);
      }
    },
    "Node",
    ...needs,
  );
}

/** Acquires a lock in the working directory and releases it. */
const LOCK = 'await new Lock("a.lock").run(() => {});';
const LOAD = 'loadAddon().bind("", "uv_err_name_r", "libu");';

test(
  "addon: C functions are called with integers and bytes, and everything else is refused",
  async () => {
    for (const runtime of addonRuntimes) {
      const command = fixtureCommand(runtime, "addon_calls");
      const { code, stdout, stderr } = await runScript(command);
      assert.equal(stderr, "");
      assert.equal(code, 0);
      assert.match(stdout, /^threads that load it at the same time and end$/m);
    }
  },
  "Node",
);

testCopies(
  "addon: the file beside the module is loaded, without a temporary folder",
  async (copy) => {
    const file = copy.add();
    const temporary = join(copy.temporary, "missing");
    assert.deepEqual(await copy.run(LOAD, { temporary }), { files: [file] });
    assert.deepEqual(fs.readdirSync(copy.temporary), []);
  },
);

testCopies(
  "addon: a file beside the module with other bytes is not loaded",
  async (copy) => {
    const file = copy.add(Buffer.concat([unpack(target)!, Buffer.alloc(1)]));
    const { files, error } = await copy.run(LOAD);
    assert.equal(error, undefined);
    assert.equal(files.length, 1);
    assert.notEqual(files[0], file);
  },
);

testCopies(
  "addon: a file beside the module is not loaded if other users may replace it",
  async (copy) => {
    const isRoot = process.getuid?.() === 0;
    const programs = {
      linux: LOAD,
      darwin: `${pretend("darwin")} loadAddon(undefined, target);`,
    };
    const changes: [
      systems: (keyof typeof programs)[],
      change: (file: string) => void,
    ][] = [
      [["linux", "darwin"], (file) => fs.chmodSync(file, 0o646)],
      [["linux", "darwin"], (file) => fs.chmodSync(file, 0o664)],
      [["darwin"], () => fs.chmodSync(copy.native, 0o757)],
      [["darwin"], () => fs.chmodSync(dirname(copy.folder), 0o775)],
    ];
    if (isRoot) {
      changes.push(
        [["linux", "darwin"], (file) => fs.chownSync(file, 4711, 4711)],
        [["darwin"], () => fs.chownSync(copy.native, 4711, 4711)],
        [["darwin"], () => fs.chownSync(dirname(copy.folder), 4711, 4711)],
      );
    }
    for (const [systems, change] of changes) {
      for (const system of systems) {
        const file = copy.add();
        change(file);
        const { files, error } = await copy.run(programs[system]);
        assert.equal(error, undefined);
        assert.equal(files.length, 1, `${change}`);
        assert.notEqual(files[0], file, `${change}`);
        const parents = [copy.native, dirname(copy.folder)];
        for (const folder of parents) {
          fs.chmodSync(folder, 0o755);
          if (isRoot) fs.chownSync(folder, 0, 0);
        }
        fs.rmSync(copy.native, { recursive: true });
      }
    }
    const file = copy.add();
    // As in /tmp, other users may create files, but not replace this one.
    fs.chmodSync(copy.native, 0o1777);
    for (const program of Object.values(programs)) {
      assert.deepEqual(await copy.run(program), { files: [file] });
    }
  },
  "permission bits",
  "/proc",
);

testCopies(
  "addon: a file that is replaced after the comparison is not loaded",
  async (copy) => {
    const file = copy.add();
    const other = copy.add(Buffer.from("not an addon"), copy.temporary);
    // The path leads to the other file as soon as the right one was read.
    const replaced = `
      const { readFileSync } = fs;
      fs.readFileSync = (...rest) => {
        const bytes = readFileSync(...rest);
        fs.renameSync(${JSON.stringify(other)}, ${JSON.stringify(file)});
        return bytes;
      };
      syncBuiltinESMExports();
    `;
    const { files, error } = await copy.run(replaced + LOAD);
    assert.equal(error, undefined);
    assert.deepEqual(files.map((name) => name.startsWith("/proc/")), [true]);
  },
  "/proc",
);

/** Makes the file system one that does not have files without names. */
const WITHOUT_UNNAMED_FILES = `
  const { openSync } = fs;
  fs.openSync = (path, flags, ...rest) => {
    if (flags & 0o20000000) throw new Error("EOPNOTSUPP");
    return openSync(path, flags, ...rest);
  };
  syncBuiltinESMExports();
`;

const pretend = (platform: NodeJS.Platform) =>
  `Object.defineProperty(process, "platform", { value: "${platform}" });
  const load = () => loadAddon(import.meta.url, target).bind("libc.so.6", "abs", "ii");`;

testCopies(
  "addon: the embedded copy leaves nothing in the temporary folder of Linux and macOS",
  async (copy) => {
    const ways = [LOAD, WITHOUT_UNNAMED_FILES + LOAD];
    for (const way of [...ways, `${pretend("darwin")} load();`]) {
      const { files, error } = await copy.run(way);
      assert.equal(error, undefined);
      assert.equal(files.length, 1);
      assert.match(files[0]!, /^\/proc\/self\/fd\/|\/portalock-\w+\/addon/);
      assert.deepEqual(fs.readdirSync(copy.temporary), []);
    }
  },
  "/proc",
);

testCopies(
  "addon: macOS refuses a temporary folder in which other users may rename folders",
  async (copy) => {
    fs.chmodSync(copy.temporary, 0o777);
    const { files, error } = await copy.run(`${pretend("darwin")} load();`);
    // A file that is not an addon, to ask whether addons are enabled.
    assert.equal(files.length, 1);
    assert.doesNotMatch(files[0]!, /portalock-/);
    assert.match(error!.message, /other users may replace.*set TMPDIR/);
    fs.chmodSync(copy.temporary, 0o1777);
    const sticky = await copy.run(`${pretend("darwin")} load();`);
    assert.equal(sticky.error, undefined);
  },
  "/proc",
);

testCopies(
  "addon: Windows keeps one file with the embedded copy, and replaces a broken one",
  async (copy) => {
    const way = isLinux ? `${pretend("win32")} load();` : LOAD;
    const { files: [file], error } = await copy.run(way);
    assert.equal(error, undefined);
    assert.equal(dirname(file!), join(copy.temporary, "AppData/Local/Temp"));
    const { ino } = fs.statSync(file!);
    assert.deepEqual(await copy.run(way), {
      files: [file],
    });
    assert.equal(fs.statSync(file!).ino, ino);
    fs.truncateSync(file!, 100);
    assert.deepEqual(await copy.run(way), { files: [file] });
    assert.deepEqual(fs.readFileSync(file!), Buffer.from(unpack(target)!));
    assert.deepEqual(fs.readdirSync(dirname(file!)), [basename(file!)]);
  },
);

testCopies(
  "addon: without a usable temporary folder, the error says what to do, and the file beside the module still works",
  async (copy) => {
    const options = ["-t", "tmpfs", "-o", "noexec"];
    await runScript(["mount", ...options, "none", copy.temporary]);
    try {
      const missing = join(copy.temporary, "missing");
      for (const temporary of [copy.temporary, missing]) {
        const { error } = await copy.run(LOCK, { temporary });
        const { name, code, message } = error!;
        assert.equal(name, "LockUnsupported");
        assert.equal(code, "ERR_LOCK_UNSUPPORTED");
        assert.ok(message.includes(JSON.stringify(temporary)), message);
        assert.match(message, /; set TMPDIR .* or copy the folder dist.native/);
        assert.deepEqual(fs.readdirSync(copy.working), []);
        assert.deepEqual(fs.readdirSync(copy.temporary), []);
      }
      const files = [copy.add()];
      assert.deepEqual(await copy.run(LOCK), { files });
    } finally {
      await runScript(["umount", copy.temporary]);
    }
  },
  "root that can mount",
  "/proc",
);

testCopies(
  "addon: nothing is loaded from the working directory",
  async (copy) => {
    const executed = join(copy.working, "executed");
    const program = `require("fs").writeFileSync(${
      JSON.stringify(executed)
    }, "")`;
    for (const name of ["koffi", "ffi-napi", "@x/portalock", "bindings"]) {
      const folder = join(copy.working, "node_modules", name);
      fs.mkdirSync(folder, { recursive: true });
      fs.writeFileSync(join(folder, "index.js"), program);
    }
    for (const folder of ["", "native", "dist/native", "ffi/addon/native"]) {
      copy.add(unpack(target), join(copy.working, folder));
    }
    const { files, error } = await copy.run(LOCK);
    assert.equal(error, undefined);
    assert.equal(files.length, 1);
    assert.ok(!files[0]!.startsWith(copy.working), `${files[0]}`);
    assert.equal(fs.existsSync(executed), false);
  },
);

testCopies(
  "addon: a process that may not load addons gets an error that names the flag",
  async (copy) => {
    const options = ["--no-addons"];
    for (const add of [false, true]) {
      if (add) copy.add();
      const { error } = await copy.run(LOCK, { options });
      assert.equal(error?.name, "LockUnsupported");
      assert.match(error!.message, /do not pass --no-addons$/);
      assert.deepEqual(fs.readdirSync(copy.working), []);
    }
  },
);

testCopies(
  "addon: an unknown system gets an error that names it",
  async (copy) => {
    const { files, error } = await copy.run(
      'loadAddon(import.meta.url, "aix-ppc64");',
    );
    assert.deepEqual(files, []);
    assert.equal(error?.name, "Unsupported");
    assert.match(error!.message, /native code for aix-ppc64; use Node 26/);
  },
);

testCopies(
  "addon: workers that are terminated while they load it do not end the process",
  async (copy) => {
    for (const add of [false, true]) {
      if (add) copy.add();
      const { error } = await copy.run(`
        const { Worker } = await import("node:worker_threads");
        const { once } = await import("node:events");
        const load = ${
        JSON.stringify(
          pathToFileURL(join(copy.folder, `load${copy.runtime.extension}`)),
        )
      };
        const source = \`
          const { parentPort } = require("node:worker_threads");
          import("\${load}").then(({ loadAddon }) => {
            parentPort.postMessage("loading");
            loadAddon().bind("", "uv_err_name_r", "libu");
            // A thread that compresses may abort the process.
            const { moduleLoadList } = process;
            if (moduleLoadList.includes("NativeModule zlib")) throw "zlib";
            setTimeout(() => {}, 1000);
          });
        \`;
        for (let i = 0; i < 50; i++) {
          const worker = new Worker(source, { eval: true });
          worker.on("error", (cause) => error = { name: "" + cause });
          await once(worker, "message");
          const end = performance.now() + Math.random() * 5;
          while (performance.now() < end);
          await worker.terminate();
        }
      `);
      assert.equal(error, undefined);
      if (isLinux) assert.deepEqual(fs.readdirSync(copy.temporary), []);
    }
  },
);
