"""Formats without speakers: pairs, alpaca, text, templates, classification."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

from fettle_trainer.config.dataset_report import FindingCode
from fettle_trainer.data.examples import Example, Turn, refuse

if TYPE_CHECKING:
    from fettle_trainer.config.dataset import Columns
    from fettle_trainer.data.examples import Interpreter


def pair_interpreter(prompt: str, completion: str) -> Interpreter:
    """Return what understands rows of a prompt and its completion."""

    def interpret(value: dict[str, Any]) -> Example:
        asked = Turn("user", _text(value, prompt), trained=False)
        return Example((asked, Turn("assistant", _text(value, completion), trained=True)))

    return interpret


def alpaca_interpreter(columns: Columns) -> Interpreter:
    """Return what understands rows of an instruction, an optional input and an output."""
    instruction, extra = columns.instruction or "instruction", columns.input or "input"
    output, system = columns.output or "output", columns.system or "system"

    def interpret(value: dict[str, Any]) -> Example:
        asked = _text(value, instruction)
        given = _text(value, extra, optional=True)
        prompt = _text(value, system, optional=True)
        turns = [Turn("system", prompt, trained=False)] if prompt.strip() else []
        turns.append(Turn("user", f"{asked}\n\n{given}" if given.strip() else asked, trained=False))
        return Example((*turns, Turn("assistant", _text(value, output), trained=True)))

    return interpret


def text_interpreter(columns: Columns) -> Interpreter:
    """Return what understands rows of one text, all of it trained."""
    name = columns.text or "text"
    return lambda value: Example((Turn("", _text(value, name), trained=True),))


def classification_interpreter(columns: Columns) -> Interpreter:
    """Return what understands rows of a text and its class."""
    text, label = columns.text or "text", columns.label or "label"

    def interpret(value: dict[str, Any]) -> Example:
        found = _label(value, label)
        return Example((Turn("", _text(value, text), trained=True),), label=found)

    return interpret


def labelled(interpreter: Interpreter, label: str) -> Interpreter:
    """Let rows of another format carry a label, by which they are split for validation."""
    return lambda value: interpreter(value)._replace(label=_label(value, label))


def _label(value: dict[str, Any], label: str) -> str:
    found = value.get(label)
    if isinstance(found, bool) or not isinstance(found, str | int):
        code = FindingCode.FIELD_MISSING if found is None else FindingCode.WRONG_TYPE
        refuse(
            code, label, f"{label} is {'missing' if found is None else 'neither a text nor a whole number'}."
        )
    if not str(found).strip():
        refuse(FindingCode.EMPTY_TEXT, label, f"{label} is empty.")
    return str(found)


def template_interpreter(template: str) -> Interpreter:
    """Return what makes one text of a row's columns."""
    pieces = template_pieces(template)

    def interpret(value: dict[str, Any]) -> Example:
        text = "".join(literal + (_filled(value, name) if name else "") for literal, name in pieces)
        return Example((Turn("", text, trained=True),))

    return interpret


def template_pieces(template: str) -> list[tuple[str, str]]:
    """Split a template into literal texts and the column that follows each; raise ValueError on a bad one."""
    pieces = []
    for literal, name, form, conversion in string.Formatter().parse(template):
        if form or conversion or (name is not None and not name.replace(".", "_").isidentifier()):
            msg = f"{{{name}}} is not a column name in braces"
            raise ValueError(msg)
        pieces.append((literal, name or ""))
    if not any(name for _, name in pieces):
        msg = "it names no column, such as {prompt}"
        raise ValueError(msg)
    return pieces


def _filled(value: dict[str, Any], name: str) -> str:
    found = value.get(name)
    if isinstance(found, int | float) and not isinstance(found, bool):
        return str(found)
    return _text(value, name)


def _text(value: dict[str, Any], name: str, *, optional: bool = False) -> str:
    found = value.get(name)
    if found is None and optional:
        return ""
    if found is None:
        state = "is null" if name in value else "is missing"
        refuse(FindingCode.FIELD_MISSING, name, f"{name} {state}; the row has {_columns(value)}.")
    if not isinstance(found, str):
        refuse(FindingCode.WRONG_TYPE, name, f"{name} is not a text.")
    if not optional and not found.strip():
        refuse(FindingCode.EMPTY_TEXT, name, f"{name} is empty.")
    return found


def _columns(value: dict[str, Any]) -> str:
    names = ", ".join(sorted(value)[:8])
    return (names if len(names) <= 100 else names[:100] + "…") or "no fields"
