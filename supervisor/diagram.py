"""``python -m supervisor.diagram``: the state tables as mermaid diagrams, for README.

In README each diagram stands between the markers ``begin(name)`` and ``end(name)``, which are
comments of Markdown; ``diagrams()`` has the text between them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

from supervisor import child, roll

_State = TypeVar("_State", bound=Enum)
_Event = TypeVar("_Event", bound=Enum)


def begin(name: str) -> str:
    """The line before the diagram of this name."""
    return f"<!-- {name}: python -m supervisor.diagram -->"


def end(name: str) -> str:
    """The line after the diagram of this name."""
    return f"<!-- end of {name} -->"


def mermaid(table: Mapping[tuple[_State, _Event], _State]) -> str:
    """A state diagram in a Markdown fence; it begins in the state of the table's first entry."""
    first = next(state for state, _ in table)
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first.name}"]
    for (state, event), after in table.items():
        lines.append(f"    {state.name} --> {after.name}: {event.name}")
    return "\n".join([*lines, "```"])


def diagrams() -> dict[str, str]:
    """Every diagram by its name."""
    return {
        "a child's life": mermaid(child.TABLE),
        "a worker's replacement": mermaid(roll.TABLE),
    }


def main() -> int:
    """Print every diagram between its markers; returns the exit status."""
    for name, diagram in diagrams().items():
        sys.stdout.write(f"{begin(name)}\n{diagram}\n{end(name)}\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
