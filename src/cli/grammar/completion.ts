/**
 * `portalock completion`: prints what makes a shell complete the command line.
 *
 * @module
 */

import type { Host } from "../../../ffi/runtime/host.ts";
import { usageError } from "../exit_status.ts";
import type { Option } from "./getopt.ts";
import { OPTIONS } from "./options.ts";

const SHELLS: Readonly<Record<string, () => string>> = { bash, zsh, fish };

/** Runs the subcommand and returns the exit status. */
export function run(
  host: Host,
  [shell = "", ...rest]: readonly string[],
): Promise<number> {
  if (!Object.hasOwn(SHELLS, shell) || rest.length > 0) {
    const names = Object.keys(SHELLS).join(", ");
    throw usageError(`completion requires the name of a shell: ${names}`);
  }
  host.write(1, SHELLS[shell]!());
  return Promise.resolve(0);
}

/** The words of an option on a command line, such as `-n` and `--nonblock`. */
function words({ names, letters }: Option): string[] {
  return [
    ...letters.map((letter) => `-${letter}`),
    ...names.map((name) => `--${name}`),
  ];
}

/** What follows FILE is completed as a command of its own. */
function bash(): string {
  const withValue = OPTIONS.filter(({ value }) => value !== undefined);
  return `# bash completion: source <(portalock completion bash)
_portalock() {
  local word=\${COMP_WORDS[COMP_CWORD]} at
  for ((at = 1; at < COMP_CWORD; at++)); do
    case \${COMP_WORDS[at]} in
      ${withValue.flatMap(words).join(" | ")}) ((at++)) ;;
      -*) ;;
      *) break ;;
    esac
  done
  COMPREPLY=()
  if ((at < COMP_CWORD)); then
    if declare -F _command_offset >/dev/null; then
      _command_offset $((at + 1))
    elif ((at + 1 == COMP_CWORD)); then
      mapfile -t COMPREPLY < <(compgen -c -- "$word")
    else
      mapfile -t COMPREPLY < <(compgen -f -- "$word")
    fi
  elif [[ $word == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W '${
    OPTIONS.flatMap(words).join(" ")
  }' -- "$word")
  else
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
  fi
}
complete -o filenames -F _portalock portalock
`;
}

function zsh(): string {
  const specs = OPTIONS.map((option) => {
    const all = words(option);
    const help = option.help.replaceAll(/['[\]:]/g, "\\$&");
    const value = option.value === undefined ? "" : `:${option.value}:`;
    return `  '(${all.join(" ")})'{${all.join(",")}}'[${help}]${value}' \\`;
  });
  return `#compdef portalock
# zsh completion: portalock completion zsh > _portalock, in a folder of $fpath
_arguments -s -S \\
${specs.join("\n")}
  '1:file:_files' '*::command:_normal'
`;
}

function fish(): string {
  const lines = OPTIONS.map(({ names, letters, value, help }) =>
    [
      "complete -c portalock",
      ...letters.map((letter) => `-s ${letter}`),
      ...names.map((name) => `-l ${name}`),
      ...value === undefined ? [] : ["-x"],
      `-d '${help.replaceAll("'", "\\'")}'`,
    ].join(" ")
  );
  return `# fish completion: portalock completion fish | source
${lines.join("\n")}
complete -c portalock -n 'test (count (commandline -opc)) -gt 1' -a '(__fish_complete_subcommand)'
`;
}
