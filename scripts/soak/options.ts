/** The command line of `scripts/soak.ts`. */

import { parseArgs } from "node:util";

export const USAGE = `\
Locks files and Redis with many processes while some of them are killed.

node scripts/soak.mjs [OPTION]...

  --seconds=N            how long files are locked; 0 for not at all (30)
  --redis-seconds=N      how long each part locks in Redis (11)
  --redis-parts=NAME,... the parts: alone, python, chaos, few, transfers
  --redis-clients=RUNTIME/CLIENT,... which of them lock in Redis; all by default
  --redis-sections=N     end a part after N sections, not by time
  --help
`;

export interface SoakOptions {
  help: boolean;
  seconds: number;
  redisSeconds: number;
  redisSections: number;
  redisParts: string[];
  redisClients: string[];
}

/** @throws {Error} If an argument is not an option or has a wrong value. */
export function parseOptions(args: string[]): SoakOptions {
  const { values } = parseArgs({
    args,
    options: {
      seconds: { type: "string", default: "30" },
      "redis-seconds": { type: "string", default: "11" },
      "redis-sections": { type: "string", default: "0" },
      "redis-parts": { type: "string", default: "alone,python,chaos" },
      "redis-clients": { type: "string", default: "" },
      help: { type: "boolean", default: false },
    },
  });
  const number = (name: keyof typeof values) => {
    const value = Number(values[name]);
    if (value >= 0) return value;
    throw new RangeError(
      `--${name} must be a number, 0 or more, not "${values[name]}"`,
    );
  };
  return {
    help: values.help,
    seconds: number("seconds"),
    redisSeconds: number("redis-seconds"),
    redisSections: number("redis-sections"),
    redisClients: values["redis-clients"].split(",").filter(Boolean),
    redisParts: values["redis-parts"].split(",").filter(Boolean),
  };
}
