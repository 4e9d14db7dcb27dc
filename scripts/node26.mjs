// @ts-check
/**
 * `npm run test:node`: runs the test runner of Node 26, which npm installs
 * because an older Node does not run TypeScript. Without a file, it runs all
 * tests.
 */

import process from "node:process";
import { installAll, installedNode } from "./setup/install.mjs";
import { become } from "./setup/start.mjs";

installAll();
const args = process.argv.slice(2);
const namesFile = args.some((argument) => argument.endsWith(".ts"));
await become(installedNode(26), [
  "--test",
  "--test-concurrency=1",
  ...args,
  ...namesFile ? [] : ["tests/**/*_test.ts"],
]);
