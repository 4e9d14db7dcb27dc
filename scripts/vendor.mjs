// @ts-check
import { start } from "./setup/start.mjs";

await start("vendor");
