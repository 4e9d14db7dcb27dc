/** The replies of sessions to Python clients. */

import { reply } from "./python.ts";
import {
  type Configuration,
  connectionAt,
  isActive,
  memberOf,
  type Mode,
  operationOf,
  type State,
} from "./state.ts";

/**
 * Replies to a ping. Returns `true` if the session leaves the channel instead,
 * because it does not have an acquisition.
 */
export function replyToPing(
  config: Configuration,
  state: State,
  index: number,
  requester: number,
): boolean {
  const { without } = config;
  const { tasks, listens } = connectionAt(state, index);
  if (without === "no replies") return false;
  const isIdle = without === "a request is not an acquisition"
    ? tasks.every(({ is }) => is !== "h")
    : !tasks.some(isActive);
  if (isIdle && without !== "shared without an acquisition") {
    return listens === "yes" && without !== "silent without an acquisition";
  }
  const high = without === "pending with an ID that sorts high";
  const id = high ? 100 + index : index - 100;
  const mode = modeOf(config, state, index);
  reply(state, requester, { id, mode, elected: null });
  return false;
}

function modeOf(config: Configuration, state: State, index: number): Mode {
  const { without } = config;
  if (without === "pending for everything") return "p";
  if (without === "shared for everything") return "s";
  const modes = connectionAt(state, index).tasks.flatMap(
    (own, task): Mode[] => {
      if (!isActive(own)) return [];
      if (own.is === "w") {
        return without === "shared beside a request" ? [] : ["p"];
      }
      const { kind } = operationOf(
        config,
        memberOf(index, task, own.operation),
      );
      return kind === "x" ? ["x"] : ["s"];
    },
  );
  if (modes.includes("x")) return "x";
  const shares = modes.every((mode) => mode === "s") &&
    (modes.length > 0 || without === "shared without an acquisition");
  return shares ? "s" : "p";
}
