"""``ScriptedModel``: a model whose replies are written down beforehand, strict about what is asked of it."""

from __future__ import annotations

from collegium.adapters.models.script import Script, Step, request_text
from collegium.adapters.models.script_file import load_script
from collegium.adapters.models.scripted import SCRIPTED_PROFILE, ScriptedModel

__all__ = ["SCRIPTED_PROFILE", "Script", "ScriptedModel", "Step", "load_script", "request_text"]
