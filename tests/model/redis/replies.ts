/** The replies of connections to Python clients. */

import { reply } from "./python.ts";
import {
  type Configuration,
  connectionAt,
  memberOf,
  type Mode,
  operationOf,
  type State,
} from "./state.ts";

/** Replies to a ping with the record of a connection. */
export function replyToPing(
  config: Configuration,
  state: State,
  index: number,
  requester: number,
): void {
  const { without } = config;
  if (without === "no replies") return;
  const high = without === "pending with an ID that sorts high";
  const id = high ? 100 + index : index - 100;
  const mode = without === "pending for everything"
    ? "p"
    : modeOf(config, state, index);
  reply(state, requester, { id, mode, elected: null });
}

function modeOf(config: Configuration, state: State, index: number): Mode {
  const modes = connectionAt(state, index).tasks.map(
    ({ is, operation }, task) => {
      const { kind } = operationOf(config, memberOf(index, task, operation));
      return is === "f"
        ? undefined
        : is === "h" && kind !== "x"
        ? "s"
        : is === "h"
        ? "x"
        : "p";
    },
  ).filter((mode) => mode !== undefined);
  if (modes.includes("x")) return "x";
  if (modes.length === 0 && config.without === "shared without a member") {
    return "s";
  }
  return modes.length > 0 && modes.every((mode) => mode === "s") ? "s" : "p";
}
