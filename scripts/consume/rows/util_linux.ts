/**
 * The tests of flock(1) in util-linux, with `portalock` in its place. They are
 * under the GPL, so Debian's source package is fetched and unpacked, and nothing
 * of it is copied.
 */

import assert from "node:assert/strict";
import {
  chmodSync,
  existsSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { type Row, RUNTIMES } from "../row.ts";
import { type Workspace, writeFiles } from "../workspace.ts";

/**
 * How much slower the clock of the tests is. They hold a lock for three seconds,
 * and try to acquire it five times meanwhile, also where a process takes long to
 * start.
 */
const SLOWDOWN = 8;

/** The programs by which the tests measure time. */
const CLOCK: Readonly<Record<string, string>> = {
  date: `[ "$1" = +%s ] && exec echo $(($(/bin/date +%s) / ${SLOWDOWN}))
exec /bin/date "$@"`,
  sleep: `[ "$1" = 3 ] && set -- $((3 * ${SLOWDOWN}))
exec /bin/sleep "$@"`,
  timeout: `shift
exec /usr/bin/timeout 60 "$@"`,
};

/**
 * Starts the command, for `$TS_CMD_FLOCK`. The tests expect nothing on standard
 * error, where `portalock` reports a long wait.
 */
const wrapper = (command: string) =>
  `last= count=$#
while [ $count -gt 0 ]; do
  word=$1 count=$((count - 1)); shift
  [ "$last" = --timeout ] && set -- "$@" $((word * ${SLOWDOWN})) || set -- "$@" "$word"
  last=$word
done
exec ${command} --quiet "$@"`;

function writePrograms(
  folder: string,
  programs: Readonly<Record<string, string>>,
): void {
  for (const [name, text] of Object.entries(programs)) {
    writeFileSync(join(folder, name), `#!/bin/sh\n${text}\n`);
    chmodSync(join(folder, name), 0o755);
  }
}

/** Fetches the tests with apt-get(8), without a change of its settings. */
async function fetchTests(workspace: Workspace): Promise<string> {
  const folder = workspace.makeFolder("source");
  writeFiles(folder, {
    "parts/debian.sources": "Types: deb-src\nComponents: main\n" +
      "URIs: http://deb.debian.org/debian\nSuites: trixie\n" +
      "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
    "lists/partial/empty": "",
    "cache/archives/partial/empty": "",
  });
  const options = Object.entries({
    "Dir::Etc::SourceList": "/dev/null",
    "Dir::Etc::SourceParts": join(folder, "parts"),
    "Dir::State::Lists": join(folder, "lists"),
    "Dir::Cache": join(folder, "cache"),
    "APT::Sandbox::User": "root",
  }).map(([name, value]) => `--option=${name}=${value}`);
  const run = (...command: [string, ...string[]]) =>
    workspace.run(command, { cwd: folder });
  await run("apt-get", ...options, "update");
  await run("apt-get", ...options, "--download-only", "source", "util-linux");
  const archive = readdirSync(folder).find((name) =>
    name.includes(".orig.tar.")
  );
  assert.ok(archive, "apt-get has not fetched the source of util-linux");
  await run("tar", "xf", archive, "--wildcards", "*/tests");
  const source = readdirSync(folder).find((name) => /^util-linux-/.test(name));
  assert.ok(source, `${archive} does not contain util-linux`);
  return join(folder, source, "tests");
}

export const utilLinuxRows: readonly Row[] = [{
  tool: "util-linux",
  setting: "its tests of flock(1), with `portalock` in its place",
  runtimes: RUNTIMES,
  heavy: true,
  async prepare(workspace) {
    const tests = await fetchTests(workspace);
    // Since util-linux 2.42, `flock` is a component.
    const component = existsSync(join(tests, "ts", "flock")) ? "flock" : "misc";
    const project = workspace.project();
    const script = join(project, "node_modules/@x/portalock/dist/cli.js");
    return async ({ name, command }) => {
      const bin = workspace.makeFolder("bin");
      const deno = name === "Deno" ? ["run", "-A"] : [];
      const words = [...command.slice(0, 1), ...deno, script];
      const lock = wrapper(words.map((word) => `'${word}'`).join(" "));
      writePrograms(bin, { ...CLOCK, "flock-of-tests": lock });
      const text = await workspace.run(
        ["bash", join("ts", component, "flock"), "--noskip-commands"],
        {
          cwd: tests,
          env: {
            PATH: `${bin}:${process.env.PATH}`,
            TS_CMD_FLOCK: join(bin, "flock-of-tests"),
          },
        },
      );
      assert.match(
        text,
        /all \d+ sub-tests PASSED/,
        differences(join(tests, "diff", component)) + text,
      );
    };
  },
}];

/** Returns how the outputs of the tests differ from what they expect. */
function differences(folder: string): string {
  return readdirSync(folder).map((name) =>
    readFileSync(join(folder, name), "utf8")
  ).join("");
}
