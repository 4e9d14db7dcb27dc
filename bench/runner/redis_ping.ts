/**
 * What locks in Redis are compared with: PING by the client library of the
 * contender, on a connection that does nothing else, in the same process.
 *
 * By default node-redis sets a timer for each command. So there are two of
 * them: a client as users make it, and one without that timer.
 */

import { short } from "./format.mjs";

export const REFERENCES = [
  { name: "ping", title: "PING" },
  { name: "pingWithoutTimer", title: "PING without timer" },
];

/** What `ratio` makes of each reference that there is, by its name. */
export function referred(ratio, figures, references = REFERENCES) {
  return Object.fromEntries(
    references.filter(({ name }) => figures[name])
      .map(({ name }) => [name, ratio(figures[name])]),
  );
}

/** The aim that something of ours takes so many times as long as PING at most. */
export function timesPing(what, reference, most, figure) {
  return {
    kind: "redis",
    onlyWithFfi: true,
    text: `${what} within ${most} times ${reference}`,
    figure,
    most,
    shown: short,
  };
}
