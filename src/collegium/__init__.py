"""collegium: teams of LLM agents that can be trusted with real work.

The public names; each is loaded when it is first used, so that ``import collegium`` stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collegium.app import Collegium, Run
    from collegium.config import Settings, load_settings
    from collegium.domain.agent import Agent
    from collegium.domain.document import GivenFile
    from collegium.domain.errors import CollegiumError
    from collegium.domain.event import Event
    from collegium.domain.plan import Plan, Task
    from collegium.domain.report import RunReport
    from collegium.domain.tool import ToolResult
    from collegium.domain.usage import Limits, Usage
    from collegium.tools.context import ToolContext
    from collegium.tools.definition import tool
    from collegium.wiring import open_collegium

__version__ = "0.1.0"

_HOME = {
    "Agent": "collegium.domain.agent",
    "Collegium": "collegium.app",
    "CollegiumError": "collegium.domain.errors",
    "Event": "collegium.domain.event",
    "GivenFile": "collegium.domain.document",
    "Limits": "collegium.domain.usage",
    "Plan": "collegium.domain.plan",
    "Run": "collegium.app",
    "RunReport": "collegium.domain.report",
    "Settings": "collegium.config",
    "Task": "collegium.domain.plan",
    "ToolContext": "collegium.tools.context",
    "ToolResult": "collegium.domain.tool",
    "Usage": "collegium.domain.usage",
    "load_settings": "collegium.config",
    "open_collegium": "collegium.wiring",
    "tool": "collegium.tools.definition",
}

__all__ = [
    "Agent",
    "Collegium",
    "CollegiumError",
    "Event",
    "GivenFile",
    "Limits",
    "Plan",
    "Run",
    "RunReport",
    "Settings",
    "Task",
    "ToolContext",
    "ToolResult",
    "Usage",
    "__version__",
    "load_settings",
    "open_collegium",
    "tool",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'collegium' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return __all__
