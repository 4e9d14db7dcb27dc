/** Encodes states in few characters, because encoding takes most of the time. */

import type {
  Command,
  Connection,
  Message,
  Python,
  State,
  Task,
} from "./state.ts";

/** Returns a string that is equal for equal states only. */
export function keyOf(state: State): string {
  let key = `${state.queue}|`;
  for (const [member, token] of state.holders) key += `${member}:${token} `;
  key += `|${state.clock},${state.last}`;
  if (state.flushed) key += "flushed";
  if (state.behind) key += "behind";
  if (state.offer !== undefined) key += `offer ${state.offer}`;
  if (state.wrong) key += state.wrong;
  for (const connection of state.connections) key += connectionKey(connection);
  for (const python of state.pythons) key += pythonKey(python);
  return key;
}

function connectionKey(connection: Connection): string {
  const { subscribed, listens, process, commandsEnded } = connection;
  let key = `|S${subscribed}${process[0]}${listens[0]}`;
  if (commandsEnded) key += "e";
  key += commandsKey(connection.commands) + messagesKey(connection.messages);
  const { subscriptions, replies } = connection;
  if (subscriptions.length > 0) key += `/${commandsKey(subscriptions)}`;
  if (replies.length > 0) key += `\\${messagesKey(replies)}`;
  for (const task of connection.tasks) key += taskKey(task);
  return key;
}

function commandsKey(commands: Command[]): string {
  let key = "";
  for (const [name, member, count] of commands) {
    key += ` ${name} ${member} ${count}`;
  }
  return key;
}

function messagesKey(messages: Message[]): string {
  let key = "";
  for (const [name, id, count, mode] of messages) {
    key += `,${name} ${id} ${count}${mode}`;
  }
  return key;
}

function taskKey(task: Task): string {
  const { operation, is, unsent, near, asked, hears, sharing, token } = task;
  let key = `;${operation}${is}${asked}:${sharing}`;
  if (unsent || near || hears) key += `${+!!unsent}${+!!near}${+!!hears}`;
  if (token !== undefined) key += `${task.beaten ? "b" : "t"}${token}`;
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
