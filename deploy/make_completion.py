"""Writes what bash, zsh and fish complete of ``coldchain``, from the same source as ``--help``.

Run by ``python -m deploy.make_completion [FOLDER]``; a test compares the files with it. Plain words: nothing of Coldchain runs while
somebody presses TAB. What follows an option is completed by what its value is called in ``--help``: FILE, DIR, one of few words; a
URL may be a directory too. ``coldchain-server`` completes itself, as click programs do::

    eval "$(_COLDCHAIN_SERVER_COMPLETE=bash_source coldchain-server)"
"""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.command_lines import Command, Option, client

FOLDER = Path(__file__).with_name("completion")
_FILES = {"FILE": "file", "DIR|FILE": "file", "DIR": "folder", "URL": "folder"}


def kind(value: str) -> str:
    """What is completed where ``value`` stands: ``file``, ``folder``, or nothing."""
    return _FILES.get(value, "")


def files() -> dict[str, str]:
    """The three scripts by their files' names."""
    program = client()
    return {"coldchain.bash": bash(program), "_coldchain": zsh(program), "coldchain.fish": fish(program)}


# bash


def bash(program: Command) -> str:
    """A function for bash 4.4 and later; the package bash-completion is not needed."""
    name = program.path[0]
    cases = "\n".join(_bash_case(one) for one in program.commands)
    commands = " ".join(one.path[-1] for one in program.commands)
    return f"""# bash completion for {name}; made by deploy/make_completion.py
_{name}() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} options='' kind='' words=''
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W "{commands} {_flags(program)}" -- "$current")
        return
    fi
    case ${{COMP_WORDS[1]}} in
{cases}
    *) return ;;
    esac
    if [[ $kind != value* && $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
        return
    fi
    case $kind in
    *words) mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current") ;;
    *file) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
    *folder) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$current") ;;
    esac
}}
complete -F _{name} {name}
"""


def _flags(command: Command) -> str:
    return " ".join(flag for option in command.options for flag in option.flags)


def _bash_case(command: Command) -> str:
    lines = [f"    {command.path[-1]})", f'        options="{_flags(command)}"']
    kinds = [kind(one.name) for one in command.arguments]
    if any(kinds):
        lines.append(f'        kind="{next(filter(None, kinds))}"')
    cases = []
    for option in (one for one in command.options if one.value):
        words = f'value-words words="{" ".join(option.choices)}"' if option.choices else f"value-{kind(option.value)}"
        cases.append(f"        {' | '.join(option.flags)}) kind={words} ;;")
    if cases:
        lines += ["        case $before in", *cases, "        esac"]
    return "\n".join([*lines, "        ;;"])


# zsh


def zsh(program: Command) -> str:
    """A function of the new completion system: ``_coldchain`` in a directory of ``fpath``."""
    name = program.path[0]
    commands = "\n".join(f"        {_quoted(f'{one.path[-1]}:{one.about}')}" for one in program.commands)
    cases = "\n".join(_zsh_case(one) for one in program.commands)
    top = " \\\n".join(f"        {_zsh_option(option)}" for option in program.options)
    return f"""#compdef {name}
# zsh completion for {name}; made by deploy/make_completion.py
_{name}() {{
    local context state state_descr line
    typeset -A opt_args
    local -a commands=(
{commands}
    )
    _arguments -C \\
{top} \\
        '1:command:->command' \\
        '*::argument:->arguments'
    case $state in
    command) _describe command commands ;;
    arguments)
        case $words[1] in
{cases}
        esac ;;
    esac
}}
_{name} "$@"
"""


def _zsh_case(command: Command) -> str:
    words = [_zsh_option(option) for option in command.options]
    for number, argument in enumerate(command.arguments, 1):
        words.append(_quoted(f"{number}:{_bare(argument.name)}:{_zsh_action(argument.name)}"))
    body = " \\\n".join(f"                {word}" for word in words)
    return f"        {command.path[-1]})\n            _arguments \\\n{body} ;;"


def _zsh_option(option: Option) -> str:
    """E.g. ``'(-o --output)'{-o,--output}'[the pack to write]:FILE:_files'``."""
    about = option.about.replace("[", "(").replace("]", ")").replace(":", "\\:")
    told = f"[{about}]"
    if option.value:
        action = f"({' '.join(option.choices)})" if option.choices else _zsh_action(option.value)
        told += f":{_bare(option.value)}:{action}"
    if len(option.flags) == 1:
        return _quoted(f"*{option.flags[0]}{told}")
    return f"{_quoted('*')}{{{','.join(option.flags)}}}{_quoted(told)}"


def _zsh_action(value: str) -> str:
    return {"file": "_files", "folder": "_files -/"}.get(kind(value), " ")


def _bare(text: str) -> str:
    return text.replace(":", "").replace("|", " or ")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# fish


def fish(program: Command) -> str:
    """Lines of ``complete``."""
    name = program.path[0]
    none = "__fish_use_subcommand"
    lines = [f"# fish completion for {name}; made by deploy/make_completion.py", f"complete -c {name} -f"]
    lines += [f"complete -c {name} -n {none} {_fish_option(option)}" for option in program.options]
    for command in program.commands:
        word = command.path[-1]
        lines.append(f"complete -c {name} -n {none} -a {word} -d {_fish_quoted(command.about)}")
        seen = _fish_quoted(f"__fish_seen_subcommand_from {word}")
        lines += [f"complete -c {name} -n {seen} {_fish_option(option)}" for option in command.options]
        kinds = [kind(one.name) for one in command.arguments]
        if "file" in kinds:
            lines.append(f"complete -c {name} -n {seen} -F")
        elif "folder" in kinds:
            lines.append(f"complete -c {name} -n {seen} -a '(__fish_complete_directories)'")
    return "\n".join(lines) + "\n"


def _fish_option(option: Option) -> str:
    out = [f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags]
    if option.choices:
        out.append(f"-x -a {_fish_quoted(' '.join(option.choices))}")
    elif option.value:
        out.append({"file": "-r -F", "folder": "-x -a '(__fish_complete_directories)'"}.get(kind(option.value), "-x"))
    return " ".join([*out, "-d", _fish_quoted(option.about)])


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def write(folder: Path) -> None:
    """Writes the three files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
