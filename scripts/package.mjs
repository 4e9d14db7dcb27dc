/**
 * Uses the package as a stranger would: installs the tarball into an empty
 * project and locks with it, and rehearses publishing it to JSR.
 */

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { npm, root, runtimes, tarball } from "./setup.mjs";

const MODULE = `
  import { Lock, LOCK_EX } from "@x/portalock";
  const lock = new Lock("a.lock", { flags: LOCK_EX });
  console.log(await lock.run((file) => typeof file.fd));
`;
const COMMON = `
  const { Lock } = require("@x/portalock");
  using_(new Lock("a.lock").acquireSync());
  function using_(file) { console.log(typeof file.fd); file.closeSync(); }
`;
const TYPED = `
  import { Lock, type LockedFile } from "@x/portalock";
  const file: LockedFile = new Lock("a.lock", { mode: "a+" }).acquireSync();
  const size: number = file.statSync().size;
  file.closeSync();
  // @ts-expect-error: it is no mode.
  new Lock("a.lock", { mode: "rw" });
  export { size };
`;

/** Runs every check and returns how many passed, failed and were skipped. */
export function checkPackage() {
  const project = mkdtempSync(join(tmpdir(), "portalock project-"));
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const check = (name, command, args, expected) => {
    const { status, stdout, stderr } = spawnSync(command, args, {
      cwd: name.includes("JSR") ? root : project,
      encoding: "utf8",
    });
    const good = status === 0 && expected(stdout, stderr);
    counts[good ? "passed" : "failed"]++;
    console.log(`${good ? "ok" : "FAILED"} ${name}`);
    if (!good) console.log(`${stdout}${stderr}`);
  };
  try {
    prepare(project);
    const locks = (stdout, stderr) => stdout === "number\n" && stderr === "";
    for (const { name, command } of runtimes()) {
      if (name === "deno") continue;
      const [program] = command;
      for (const script of ["module.mjs", "common.cjs"]) {
        check(`the npm package, ${script}, ${name}`, program, [script], locks);
      }
    }
    const typescript = join(root, "node_modules", "typescript", "bin", "tsc");
    check(
      "the npm package's types",
      process.execPath,
      [typescript, "-p", "."],
      () => true,
    );
    const deno = runtimes().find(({ name }) => name === "deno").command[0];
    check(
      "publishing to JSR, rehearsed, without slow types",
      deno,
      ["publish", "--dry-run", "--allow-dirty"],
      (_, stderr) => !/slow-types|warning/i.test(stderr),
    );
  } finally {
    rmSync(project, { recursive: true, force: true });
  }
  return counts;
}

function prepare(project) {
  const write = (name, content) => writeFileSync(join(project, name), content);
  const { devDependencies } = JSON.parse(
    readFileSync(join(root, "package.json"), "utf8"),
  );
  const wanted = ["koffi", "@types/node"].map((name) =>
    `${name}@${devDependencies[name]}`
  );
  write("package.json", `{ "private": true, "type": "module" }`);
  write("module.mjs", MODULE);
  write("common.cjs", COMMON);
  write("typed.ts", TYPED);
  write(
    "tsconfig.json",
    JSON.stringify({
      compilerOptions: {
        module: "NodeNext",
        target: "ES2022",
        lib: ["ES2022", "ESNext.Disposable"],
        types: ["node"],
        strict: true,
        noEmit: true,
      },
      files: ["typed.ts"],
    }),
  );
  npm(["install", "--prefer-offline", "--no-audit", tarball(), ...wanted], {
    cwd: project,
  });
}
