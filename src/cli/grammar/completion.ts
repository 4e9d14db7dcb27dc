/**
 * `portalock completion`: prints what makes a shell complete the command line.
 *
 * The scripts know the grammar of flock(1): options end at FILE, and a command
 * line of its own follows. The generators of npm (omelette, tab) run the program
 * at each key, and know neither of the two.
 *
 * @module
 */

import type { Host } from "../../../ffi/runtime/host.ts";
import { usageError } from "../exit_status.ts";
import { getopt } from "./getopt.ts";
import type { Option } from "./getopt.ts";
import { OPTIONS } from "./options.ts";
import { SHELLS, SUBCOMMANDS } from "./subcommands.ts";
import type { Subcommand } from "./subcommands.ts";

type Shell = typeof SHELLS[number];

const SCRIPTS: Readonly<Record<Shell, () => string>> = { bash, zsh, fish };

/** Runs the subcommand and returns the exit status. */
export async function run(
  host: Host,
  args: readonly string[],
): Promise<number> {
  const { options, rest } = getopt(args, SUBCOMMANDS.completion.options);
  if (options.length > 0) {
    const { subcommandHelp } = await import("./help.ts");
    host.write(1, subcommandHelp("completion"));
    return 0;
  }
  const [name, ...others] = rest;
  const shell = SHELLS.find((each) => each === name);
  if (shell === undefined || others.length > 0) {
    throw usageError(
      `completion requires the name of a shell: ${SHELLS.join(", ")}`,
    );
  }
  host.write(1, completionScript(shell));
  return 0;
}

/** Returns what makes a shell complete the command line. */
export function completionScript(shell: Shell): string {
  return SCRIPTS[shell]();
}

const subcommands: readonly (readonly [string, Subcommand])[] = Object.entries(
  SUBCOMMANDS,
);

/** The words of an option on a command line, such as `-n` and `--nonblock`. */
function words({ names, letters }: Option): string[] {
  return [
    ...letters.map((letter) => `-${letter}`),
    ...names.map((name) => `--${name}`),
  ];
}

const takesValue = ({ value }: Option) => value !== undefined;

/** The letters of the options that take a value. */
function lettersWithValue(options: readonly Option[]): string {
  return options.filter(takesValue).flatMap(({ letters }) => letters).join("");
}

/**
 * Long options as bash and zsh look them up by their prefixes: the first one
 * that begins with the word. `=` marks those that take a value.
 */
function longOptions(options: readonly Option[]): string {
  const sorted = [...options].sort((one, other) =>
    Number(one.isAddition ?? false) - Number(other.isAddition ?? false)
  );
  return sorted.flatMap((option) =>
    option.names.map((name) => `--${name}${takesValue(option) ? "=" : ""}`)
  ).join(" ");
}

/**
 * Bash splits `--timeout=5` into three words, because `=` breaks words. So an
 * option takes the two words behind it in this form, and the one in the other.
 */
function bash(): string {
  const cases = subcommands.map(([name, { options, words: operands }]) =>
    `\
      ${name})
        _portalock_options '${longOptions(options)}' '${
      lettersWithValue(options)
    }' 2
        _portalock_reply '${options.flatMap(words).join(" ")}' ${
      operands === undefined ? "-f" : `-W '${operands.join(" ")}'`
    }
        return ;;`
  );
  return `# bash completion: source <(portalock completion bash)

# Whether a word is an option whose value is the next word.
_portalock_awaits() {
  local option
  if [[ $1 == --* ]]; then
    for option in $2; do
      if [[ $option == "$1"* ]]; then
        [[ $option == *= ]]
        return
      fi
    done
    return 1
  fi
  [[ -n $3 && $1 =~ ^-[^$3]*[$3]$ ]]
}

# Sets "at" to the first word behind the options, and "kind" to what the cursor
# is in: "word" (maybe an option), "value" (of an option) or "operand".
_portalock_options() {
  kind=word
  for ((at = $3; at < COMP_CWORD; at++)); do
    if [[ \${COMP_WORDS[at]} == -- ]]; then
      kind=operand
      ((at++))
      return
    fi
    if [[ \${COMP_WORDS[at]} != -?* ]]; then
      kind=operand
      return
    fi
    if [[ \${COMP_WORDS[at + 1]} == = ]]; then
      ((at += 2))
      ((at < COMP_CWORD)) || kind=value
    elif _portalock_awaits "\${COMP_WORDS[at]}" "$1" "$2"; then
      ((++at < COMP_CWORD)) || kind=value
    fi
  done
}

# Completes an option, or an operand: by -f (files), or -W and words.
_portalock_reply() {
  local word=\${COMP_WORDS[COMP_CWORD]} options=$1
  shift
  if [[ $kind == value ]]; then
    compopt +o filenames 2>/dev/null
  elif [[ $kind == word && $word == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
  else
    mapfile -t COMPREPLY < <(compgen "$@" -- "$word")
  fi
}

_portalock() {
  local at kind word=\${COMP_WORDS[COMP_CWORD]}
  COMPREPLY=()
  if ((COMP_CWORD > 1)); then
    case \${COMP_WORDS[1]} in
${cases.join("\n")}
    esac
  fi
  _portalock_options '${longOptions(OPTIONS)}' '${lettersWithValue(OPTIONS)}' 1
  if ((at >= COMP_CWORD)); then
    _portalock_reply '${OPTIONS.flatMap(words).join(" ")}' -f
    if ((COMP_CWORD == 1)); then
      mapfile -t -O \${#COMPREPLY[@]} COMPREPLY < <(
        compgen -W '${Object.keys(SUBCOMMANDS).join(" ")}' -- "$word")
    fi
  elif [[ $word == -* && at+1 -eq COMP_CWORD ]]; then
    mapfile -t COMPREPLY < <(compgen -W '-c --command' -- "$word")
  elif declare -F _command_offset >/dev/null; then
    _command_offset $((at + 1))
  elif ((at + 1 == COMP_CWORD)); then
    mapfile -t COMPREPLY < <(compgen -c -- "$word")
  else
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
  fi
}
complete -o filenames -F _portalock portalock
`;
}

/** Quotes a text for zsh and fish. */
const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

/** An option for `_arguments` of zsh. */
function zshOption(option: Option): string {
  const all = words(option);
  const help = option.help.replaceAll(/[[\]:]/g, "\\$&");
  const value = takesValue(option) ? `:${option.value}: ` : "";
  // -w takes its value attached or in the next word, and --timeout also by "=".
  const forms = all.map((word) =>
    !takesValue(option) ? word : word.startsWith("--") ? `${word}=` : `${word}+`
  );
  const names = forms.length > 1 ? `{${forms.join(",")}}` : forms[0]!;
  return `${quote(`(${all.join(" ")})`)}${names}${quote(`[${help}]${value}`)}`;
}

function zsh(): string {
  const list = (options: readonly Option[]) =>
    options.map((option) => `    ${zshOption(option)} \\`).join("\n");
  const cases = subcommands.map(([name, { options, words: operands }]) =>
    `\
      ${name})
        shift words
        ((CURRENT--))
        _arguments -s -S -A '-*' \\
${list(options)}
          '*:operand:${
      operands === undefined ? "_files" : `(${operands.join(" ")})`
    }'
        return ;;`
  );
  const names = subcommands.map(([name, { summary }]) =>
    `      ${quote(`${name}:${summary}`)}`
  );
  return `#compdef portalock
# zsh completion: portalock completion zsh > _portalock, in a folder of $fpath

_portalock_first() {
  local -a subcommands=(
${names.join("\n")}
  )
  ((CURRENT == 2)) && _describe subcommand subcommands
  _files
}

_portalock_command() {
  if ((CURRENT == 1)) && [[ $PREFIX == -* ]]; then
    compadd -- -c --command
  else
    _normal
  fi
}

_portalock() {
  if ((CURRENT > 2)); then
    case $words[2] in
${cases.join("\n")}
    esac
  fi
  _arguments -s -S \\
${list(OPTIONS)}
    '1:file:_portalock_first' \\
    '*:::command:_portalock_command'
}

if [[ $funcstack[1] == _portalock ]]; then
  _portalock "$@"
else
  compdef _portalock portalock
fi
`;
}

/** An option for `argparse` of fish: a letter and a name, or one of the two. */
function fishSpecs(option: Option): string[] {
  const { names: [name, ...otherNames], letters: [letter, ...others] } = option;
  const first = letter === undefined ? name : `${letter}/${name}`;
  const value = takesValue(option) ? "=" : "";
  return [first, ...otherNames, ...others].map((spec) => `${spec}${value}`);
}

/** Without conditions, fish would offer the options behind FILE, too. */
function fish(): string {
  const line = (place: string, ...words: string[]) =>
    `complete -c portalock -n '__portalock_is ${place}' ${words.join(" ")}`;
  const optionLine = (place: string) => (option: Option) =>
    line(
      place,
      ...option.letters.map((letter) => `-s ${letter}`),
      ...option.names.map((name) => `-l ${name}`),
      ...takesValue(option) ? ["-x"] : [],
      `-d ${quote(option.help)}`,
    );
  const lines = subcommands.flatMap(
    ([name, { summary, options, words: operands }]) => [
      line("first", `-a ${name} -d ${quote(summary)}`),
      ...options.map(optionLine(name)),
      ...operands ? [line(name, `-f -a '${operands.join(" ")}'`)] : [],
    ],
  );
  return `# fish completion: portalock completion fish | source

# Prints the words from FILE on. Fails if an option lacks its value.
function __portalock_rest
    argparse -s ${OPTIONS.flatMap(fishSpecs).join(" ")} -- $argv 2>/dev/null
    or return
    string join \\n -- $argv
end

# Whether the cursor is in a place: the first word, the options or FILE, the
# command, or a subcommand.
function __portalock_is -a place
    set -l words (commandline -opc)
    set -e words[1]
    if contains -- "$words[1]" ${Object.keys(SUBCOMMANDS).join(" ")}
        test $place = $words[1]
        return
    end
    set -l rest (__portalock_rest $words)
    switch $place
        case first
            test (count $words) -eq 0
        case options
            test (count $rest) -eq 0
        case command
            test (count $rest) -gt 0
        case '*'
            return 1
    end
end

# Completes the command that follows FILE.
function __portalock_command
    set -l words (commandline -opc)
    set -e words[1]
    set -l rest (__portalock_rest $words)
    set -e rest[1]
    set -l word (commandline -ct)
    if test (count $rest) -eq 0; and string match -q -- '-*' "$word"
        printf '%s\\n' -c --command
        return
    end
    __fish_complete_subcommand --commandline $rest "$word"
end

${line("command", "-f -a '(__portalock_command)'")}
${lines.join("\n")}
${OPTIONS.map(optionLine("options")).join("\n")}
`;
}
