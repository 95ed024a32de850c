"""``quart-app completion``: the script of a shell, and the words that only the service knows.

Completion is quick and silent: nothing may live here that writes anything but words.
"""

from __future__ import annotations

import re
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_QUART_APP_COMPLETE"
QUICK = 0.7
"""Seconds for which the service is asked; who presses a key does not want to wait."""
SOUND = re.compile(r"[\w.-]{1,100}")
"""Names that a shell takes as one word, whatever it is."""
HOW = {
    "bash": 'eval "$(quart-app completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(quart-app completion zsh)" in ~/.zshrc',
    "fish": "quart-app completion fish > ~/.config/fish/completions/quart-app.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash: eval "$(quart-app completion bash)" in ~/.bashrc
    zsh:  eval "$(quart-app completion zsh)" in ~/.zshrc
    fish: quart-app completion fish > ~/.config/fish/completions/quart-app.fish
    """
    kind = get_completion_class(shell)
    root = click.get_current_context().find_root().command
    assert kind is not None  # noqa: S101 - click knows these three.
    script = kind(root, {}, "quart-app", VARIABLE)
    click.echo(script.source_template % script.source_vars())


def complete_task(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of tasks; none where the service does not tell them at once."""
    return [
        CompletionItem(name)
        for name in _names(ctx.params)
        if name.startswith(incomplete) and SOUND.fullmatch(name)
    ]


def _names(params: dict[str, Any]) -> list[str]:
    try:
        from quart_app.cli.remote import Remote, task_names

        remote = Remote(params.get("url"), params.get("headers") or {}, 0)
        try:
            return task_names(remote, QUICK)
        finally:
            remote.close()
    except Exception:  # noqa: BLE001 - whatever it is, the shell must not show it.
        return []
