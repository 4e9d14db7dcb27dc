/** Encodes states in few characters, because encoding takes most of the time. */

import type { Connection, Python, State } from "./state.ts";

/** Returns a string that is equal for equal states only. */
export function keyOf(state: State): string {
  let key = `${state.queue}|`;
  for (const [member, token] of state.holders) key += `${member}:${token} `;
  key += `|${state.lastExclusive},${state.largest}`;
  if (state.flushed) key += "flushed";
  if (state.wrong) key += state.wrong;
  for (const connection of state.connections) key += connectionKey(connection);
  for (const python of state.pythons) key += pythonKey(python);
  return key;
}

function connectionKey(
  { subscribed, commands, messages, tasks, process }: Connection,
): string {
  let key = `|S${subscribed}${process[0]}`;
  for (const [name, member, count] of commands) {
    key += ` ${name} ${member} ${count}`;
  }
  for (const [name, id, count, mode] of messages) {
    key += `,${name} ${id} ${count}${mode}`;
  }
  for (const { operation, is, asked, sharing, token, beaten } of tasks) {
    key += `;${operation}${is}${asked}:${sharing}`;
    if (token !== undefined) key += `${beaten ? "b" : "t"}${token}`;
  }
  return key;
}

function pythonKey(own: Python): string {
  const { subscribed, elected, confirms, leaves } = own;
  const flags = +subscribed + 2 * +elected + 4 * +confirms + 8 * +leaves;
  let key = `|P${flags}${own.mode}${own.at}${own.expected}`;
  for (const { id, mode, elected } of own.replies) {
    key += `,${id}${mode}${elected}`;
  }
  return `${key};${own.questions}`;
}
