"""A corpus of data files, wrong ones and odd ones, each with the findings that it must give.

A finding is written `Code@line`, or `Code` where there is no line; no findings at all means that the file passes.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from dataclasses import dataclass, field
from typing import Any, Final

OK: Final = b'{"prompt": "What is a pod?", "completion": "The smallest unit."}'
OK_TEXT: Final = b'{"text": "A sentence."}'
BOM: Final = b"\xef\xbb\xbf"
MIB: Final = 2**20


@dataclass(frozen=True)
class CorpusFile:
    """One file, the settings it is read with, and what must be found."""

    name: str
    content: bytes
    expected: tuple[str, ...] = ()
    file: str = "data.jsonl"
    dataset: dict[str, Any] = field(default_factory=dict)
    rows: int | None = None
    """How many rows are usable, where the findings do not say it."""


def lines(*rows: bytes | str | dict[str, Any]) -> bytes:
    """Return JSON Lines of raw lines and objects."""
    return b"".join(line + b"\n" for line in map(_line, rows))


def _line(row: bytes | str | dict[str, Any]) -> bytes:
    if isinstance(row, bytes):
        return row
    return row.encode() if isinstance(row, str) else json.dumps(row).encode()


def chat(*turns: tuple[Any, Any] | dict[str, Any], **extra: Any) -> dict[str, Any]:
    """Return a row of messages, each a pair of role and content or an object."""
    return {"messages": [_message(turn, "role", "content") for turn in turns], **extra}


def sharegpt(*turns: tuple[Any, Any]) -> dict[str, Any]:
    """Return a row of conversations."""
    return {"conversations": [_message(turn, "from", "value") for turn in turns]}


def _message(turn: tuple[Any, Any] | dict[str, Any], role: str, content: str) -> dict[str, Any]:
    return turn if isinstance(turn, dict) else {role: turn[0], content: turn[1]}


ASKED: Final = ("user", "What is a pod?")
ANSWERED: Final = ("assistant", "The smallest unit.")
CALL: Final = {"type": "function", "function": {"name": "get", "arguments": "{}"}}
CHAT: Final = chat(ASKED, ANSWERED)


def one_bad_line(
    name: str, bad: bytes | str | dict[str, Any], code: str, good: bytes | dict[str, Any] = OK
) -> CorpusFile:
    """Return a file whose third line is bad and whose others are not."""
    return CorpusFile(name, lines(good, b"", bad, good), (f"{code}@3", "DuplicateRow@4"))


def chat_line(name: str, code: str, *turns: Any, **extra: Any) -> CorpusFile:
    """Return a file of conversations, the third line of which is bad."""
    return one_bad_line(name, chat(*turns, **extra), code, CHAT)


def clean(name: str, content: bytes, rows: int, **settings: Any) -> CorpusFile:
    """Return an odd file that is right all the same."""
    return CorpusFile(name, content, rows=rows, **settings)


ENCODING: Final = [
    CorpusFile("no bytes", b"", ("FileEmpty",)),
    CorpusFile("only a byte order mark", BOM, ("FileEmpty",)),
    CorpusFile("only blank lines", b"\n \n\t\r\n", ("NoRows",)),
    CorpusFile("UTF-16 little-endian", OK.decode().encode("utf-16"), ("NotUtf8@1",)),
    CorpusFile("UTF-16 big-endian", b"\xfe\xff" + OK.decode().encode("utf-16-be"), ("NotUtf8@1",)),
    CorpusFile("UTF-16 without its mark", OK.decode().encode("utf-16-le"), ("NotUtf8@1",)),
    CorpusFile("UTF-32", OK.decode().encode("utf-32"), ("NotUtf8@1",)),
    CorpusFile("zeros", bytes(4096), ("NotUtf8@1",)),
    one_bad_line("Latin-1", '{"prompt": "Größe?", "completion": "x"}'.encode("latin-1"), "NotUtf8"),
    one_bad_line("an invalid byte first", b"\xff" + OK, "NotUtf8"),
    one_bad_line("an invalid byte last", OK + b"\xc3", "NotUtf8"),
    one_bad_line("an overlong slash", OK.replace(b"What", b"\xc0\xaf"), "NotUtf8"),
    one_bad_line("a surrogate in UTF-8", OK.replace(b"What", b"\xed\xa0\x80"), "NotUtf8"),
    one_bad_line("a character beyond Unicode", OK.replace(b"What", b"\xf5\x80\x80\x80"), "NotUtf8"),
    one_bad_line("half a surrogate pair escaped", OK.replace(b"What", b"\\ud800"), "NotUtf8"),
    one_bad_line("the other half", OK.replace(b"What", b"\\udfff"), "NotUtf8"),
    one_bad_line("halves in the wrong order", OK.replace(b"What", b"\\udfff\\ud800"), "NotUtf8"),
    one_bad_line("a byte order mark inside", BOM + OK, "InvalidJson"),
    clean("a byte order mark in front", BOM + lines(OK), 1),
    clean("carriage returns", OK + b"\r\n" + OK.replace(b"pod", b"node") + b"\r\n", 2),
    clean("no line break at the end", OK, 1),
    clean("blank lines between", b"\n\n" + lines(OK) + b"   \n\n", 1),
    clean("an escaped surrogate pair", lines(OK.replace(b"What", b"\\ud83d\\ude00")), 1),
    clean("emoji, right to left, combining", lines({"text": "😀 שלום e\u0301 \u202e x"}), 1),
    clean("an escaped NUL", lines(OK.replace(b"What", b"\\u0000What")), 1),
    clean("line separators of Unicode", lines(OK.replace(b"What", "\u2028\u2029\x85".encode())), 1),
]

JSON_LINES: Final = [
    one_bad_line("a raw NUL", OK.replace(b"What", b"\0"), "InvalidJson"),
    one_bad_line("a raw tab in a text", OK.replace(b"What", b"\t"), "InvalidJson"),
    one_bad_line("a trailing comma", b'{"prompt": "a", "completion": "b",}', "InvalidJson"),
    one_bad_line("a missing comma", b'{"prompt": "a" "completion": "b"}', "InvalidJson"),
    one_bad_line("single quotes", b"{'prompt': 'a', 'completion': 'b'}", "InvalidJson"),
    one_bad_line("no quotes", b"{prompt: a}", "InvalidJson"),
    one_bad_line("a cut line", OK[:30], "InvalidJson"),
    one_bad_line("a comment", b"// " + OK, "InvalidJson"),
    one_bad_line("a comment behind", OK + b" // x", "InvalidJson"),
    one_bad_line("two objects", OK + OK, "InvalidJson"),
    one_bad_line("two objects and a comma", OK + b"," + OK, "InvalidJson"),
    one_bad_line("a comma behind", OK + b",", "InvalidJson"),
    one_bad_line("words", b"lorem ipsum", "InvalidJson"),
    one_bad_line("a bad escape", OK.replace(b"What", b"\\x41"), "InvalidJson"),
    one_bad_line("half an escape", OK.replace(b"What", b"\\u12"), "InvalidJson"),
    one_bad_line("NaN", b'{"prompt": NaN}', "InvalidJson"),
    one_bad_line("Infinity", b'{"prompt": -Infinity}', "InvalidJson"),
    one_bad_line("a leading zero", b'{"prompt": 01}', "InvalidJson"),
    one_bad_line("hexadecimal", b'{"prompt": 0x1}', "InvalidJson"),
    one_bad_line("a number of 5,000 digits", b'{"prompt": ' + b"9" * 5000 + b"}", "InvalidJson"),
    one_bad_line("a key twice", b'{"prompt": "a", "prompt": "b", "completion": "c"}', "InvalidJson"),
    one_bad_line(
        "a key twice inside", b'{"prompt": "a", "completion": "b", "x": {"y": 1, "y": 2}}', "InvalidJson"
    ),
    one_bad_line("nesting of 10,000", b'{"prompt": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "InvalidJson"),
    one_bad_line("nesting never closed", b"[" * 100_000, "InvalidJson"),
    one_bad_line("objects never closed", b'{"a":' * 50_000, "InvalidJson"),
    one_bad_line("Python's True", b'{"prompt": True}', "InvalidJson"),
    one_bad_line("a list", b'["a", "b"]', "NotAnObject"),
    one_bad_line("a text", b'"a"', "NotAnObject"),
    one_bad_line("a number", b"1", "NotAnObject"),
    one_bad_line("a large exponent", b"1e999", "NotAnObject"),
    one_bad_line("null", b"null", "NotAnObject"),
    one_bad_line("true", b"true", "NotAnObject"),
    one_bad_line("a line of 7 MiB", b'{"prompt": "' + b"a" * (7 * MIB) + b'"}', "LineTooLong"),
    CorpusFile("a line of 64 MiB", b"a" * (64 * MIB), ("LineTooLong@1",)),
    CorpusFile("every line bad", lines(*["{"] * 30), tuple(f"InvalidJson@{line}" for line in range(1, 21))),
    clean("a line of 5 MiB", lines({"text": "a" * (5 * MIB)}), 1),
    clean("20,000 short lines", b"".join(b'{"text": "%d"}\n' % number for number in range(20_000)), 20_000),
    clean("blanks around", lines(b"  " + OK + b" \t"), 1),
    clean(
        "large numbers elsewhere",
        lines(b'{"text": "a", "id": 123456789012345678901234567890, "x": 1e308}'),
        1,
    ),
]

JSON_LISTS: Final = [
    CorpusFile(name, content, expected, file="data.json")
    for name, content, expected in (
        ("an empty list", b"[]", ("NoRows",)),
        ("a list never closed", b"[" + OK, ("FileMalformed@1",)),
        ("a list cut in an item", b"[\n" + OK + b",\n" + OK[:20], ("InvalidJson@3", "FileMalformed@3")),
        ("a list with a comma behind", b"[\n" + OK + b",\n]", ("FileMalformed@3",)),
        ("a list without commas", b"[" + OK + b"\n" + OK + b"]", ("FileMalformed@2",)),
        ("a list with two commas", b"[" + OK + b",," + OK + b"]", ("InvalidJson@1", "FileMalformed@1")),
        ("something behind the list", b"[" + OK + b"]\n[]", ("FileMalformed@2",)),
        ("a list of texts", b'["a",\n"b"]', ("NotAnObject@1", "NotAnObject@2")),
        ("a list in a list", b"[[" + OK + b"]]", ("NotAnObject@1",)),
        ("a list with a number", b"[" + OK + b",\n12]", ("NotAnObject@2",)),
        ("a list with NaN", b'[\n{"prompt": NaN}]', ("InvalidJson@2", "FileMalformed@2")),
        ("a list with a key twice", b'[\n{"a": 1, "a": 2}]', ("InvalidJson@2", "FileMalformed@2")),
        ("a list nested deeply", b"[" * 100_000, ("InvalidJson@1", "FileMalformed@1")),
        ("a list not in UTF-8", b"[" + OK + b',\n{"prompt": "\xff"}]', ("NotUtf8@2",)),
        ("a list cut in a character", b'["' + "é".encode()[:1], ("NotUtf8@1",)),
        ("one object over several lines", b'{\n  "prompt": "a"\n}\n', ("FileMalformed@1",)),
        (
            "an item of 7 MiB",
            b'[{"text": "' + b"a" * (7 * MIB) + b'"}]',
            ("LineTooLong@1", "FileMalformed@1"),
        ),
        ("a bad row in a good list", b"[" + OK + b',\n{"prompt": "a"}]', ("FieldMissing@2",)),
        ("a text never closed", b'[{"text": "a', ("InvalidJson@1", "FileMalformed@1")),
        (
            "an error in a long item",
            b'[{"text": "' + b"a" * MIB + b'" "b"}]',
            ("InvalidJson@1", "FileMalformed@1"),
        ),
    )
]
JSON_LISTS += [
    clean(
        "a list over lines",
        b"[\n" + OK + b",\n" + OK.replace(b"pod", b"node") + b"\n]\n",
        2,
        file="data.json",
    ),
    clean(
        "a pretty list",
        json.dumps([CHAT, chat(("user", "b"), ANSWERED)], indent=4).encode(),
        2,
        file="data.json",
    ),
    clean("a list with a byte order mark", BOM + b"[" + OK + b"]", 1, file="data.json"),
    clean("JSON Lines called .json", lines(OK, OK.replace(b"pod", b"node")), 2, file="data.json"),
    clean("one object on one line", OK, 1, file="data.json"),
    clean(
        "a list of 3 MiB",
        json.dumps([{"text": f"{n} " + "é" * 300} for n in range(1500)]).encode(),
        1500,
        file="data.json",
    ),
    clean(
        "an item of 2 MiB",
        json.dumps([{"text": "x" * (2 * MIB)}, {"text": "y"}]).encode(),
        2,
        file="data.json",
    ),
]

CSV: Final = [
    CorpusFile(name, content, expected, file="data.csv")
    for name, content, expected in (
        ("only a header", b"prompt,completion\n", ("NoRows",)),
        ("too few fields", b"prompt,completion\na\nb,c\n", ("ColumnCount@2",)),
        ("too many fields", b"prompt,completion\na,b,c\nb,c\n", ("ColumnCount@2",)),
        ("a column twice", b"text,text\na,b\n", ("FileMalformed@1",)),
        ("a column without a name", b"text,\na,b\n", ("FileMalformed@1",)),
        ("1,001 columns", b",".join(b"c%d" % n for n in range(1001)) + b"\n", ("FileMalformed@1",)),
        ("a quote never closed", b'prompt,completion\n"a,b\nc,d\n', ("InvalidCsv@2",)),
        ("text behind a quote", b'prompt,completion\n"a"b,c\nd,e\n', ("InvalidCsv@2",)),
        ("a bad header", b'"prompt"x,completion\na,b\n', ("InvalidCsv@1",)),
        ("Latin-1", "prompt,completion\nGröße,b\nc,d\n".encode("latin-1"), ("NotUtf8@2",)),
        ("UTF-16", "prompt,completion\na,b\n".encode("utf-16"), ("NotUtf8@1",)),
        ("UTF-16 without its mark", "prompt,completion\na,b\n".encode("utf-16-le"), ("NotUtf8@1",)),
        ("an empty field", b"prompt,completion\na,\nb,c\n", ("EmptyText@2",)),
        ("other columns", b"a,b\n1,2\n", ("FormatUnknown@2",)),
        ("an empty label", b"text,label\na,\nb,good\n", ("EmptyText@2",)),
        ("a bad row behind a quoted break", b'prompt,completion\n"a\nb",c\nd\n', ("ColumnCount@4",)),
        ("JSON Lines called .csv", lines(OK), ("FileKindMismatch@1",)),
        ("a field of 7 MiB", b"text\n" + b"a" * (7 * MIB) + b"\n", ("LineTooLong@2",)),
        ("an open quote over 7 MiB", b'text\n"' + (b"a" * 1023 + b"\n") * (7 * 1024), ("FileMalformed@2",)),
    )
]
CSV += [
    clean("quoted breaks, commas and quotes", b'prompt,completion\n"a,\n""b""",c\n', 1, file="data.csv"),
    clean("semicolons", b"prompt;completion\na;b\n", 1, file="data.csv"),
    clean("tabs", b"prompt\tcompletion\na\tb\n", 1, file="data.csv"),
    clean("carriage returns in CSV", b"prompt,completion\r\na,b\r\n", 1, file="data.csv"),
    clean("a byte order mark from Excel", BOM + b"prompt,completion\na,b\n", 1, file="data.csv"),
    clean("blank lines in CSV", b"text\n\na\n\n", 1, file="data.csv"),
    clean("blanks around names", b"text , label\na,b\n", 1, file="data.csv"),
]

CHATS: Final = [
    one_bad_line("no messages", {"message": []}, "FieldMissing", CHAT),
    one_bad_line("messages that are null", {"messages": None}, "FieldMissing", CHAT),
    one_bad_line("messages that are a text", {"messages": "hi"}, "WrongType", CHAT),
    one_bad_line("messages that are an object", {"messages": {}}, "WrongType", CHAT),
    one_bad_line("no turn", {"messages": []}, "EmptyText", CHAT),
    chat_line("a role that is unknown", "RoleUnknown", ("narrator", "x"), ANSWERED),
    chat_line("a role in capitals", "RoleUnknown", ("User", "x"), ANSWERED),
    chat_line("a role that is null", "FieldMissing", (None, "x"), ANSWERED),
    chat_line("a role that is a number", "RoleUnknown", (3, "x"), ANSWERED),
    chat_line("a role that is a list", "RoleUnknown", (["user"], "x"), ANSWERED),
    chat_line("no role", "FieldMissing", {"content": "x"}, ANSWERED),
    chat_line("no content", "FieldMissing", {"role": "user"}, ANSWERED),
    chat_line("content that is null", "FieldMissing", ASKED, ("assistant", None)),
    chat_line("content that is a number", "WrongType", ASKED, ("assistant", 3)),
    chat_line("content that is an object", "WrongType", ASKED, ("assistant", {"text": "x"})),
    chat_line("content that is empty", "EmptyText", ASKED, ("assistant", "")),
    chat_line("content that is blank", "EmptyText", ("user", " \n\t\u00a0"), ANSWERED),
    chat_line("an empty system message", "EmptyText", ("system", ""), ASKED, ANSWERED),
    chat_line("an image", "WrongType", ("user", [{"type": "image_url", "image_url": {"url": "x"}}]), ANSWERED),
    chat_line("a part that is a number", "WrongType", ("user", [1]), ANSWERED),
    chat_line("no part at all", "EmptyText", ("user", []), ANSWERED),
    one_bad_line("a message that is a text", {"messages": ["hi"]}, "WrongType", CHAT),
    one_bad_line("a message that is null", {"messages": [None]}, "WrongType", CHAT),
    chat_line("the assistant first", "RoleOrder", ANSWERED, ASKED, ANSWERED),
    chat_line("only a system message", "RoleOrder", ("system", "x")),
    chat_line("two system messages", "RoleOrder", ("system", "x"), ("system", "y"), ASKED, ANSWERED),
    chat_line("a system message in the middle", "RoleOrder", ASKED, ("system", "x"), ANSWERED),
    chat_line("the user last", "RoleOrder", ASKED, ANSWERED, ASKED),
    chat_line("only the user", "RoleOrder", ASKED),
    chat_line("a tool that nobody called", "RoleOrder", ASKED, ("tool", "x"), ANSWERED),
    chat_line("a tool first", "RoleOrder", ("tool", "x"), ANSWERED),
    chat_line("nothing trained", "NothingToTrain", ASKED, {"role": "assistant", "content": "x", "weight": 0}),
    *(
        chat_line(f"a weight of {weight!r}", "WeightInvalid", ASKED, {"role": "assistant", "content": "x", "weight": weight})
        for weight in (2, -1, 0.5, "1", True, [1])
    ),
    chat_line("a weight on the user", "WeightInvalid", {"role": "user", "content": "x", "weight": 1}, ANSWERED),
    chat_line("calls of the user", "ToolCallInvalid", {"role": "user", "content": "x", "tool_calls": [CALL]}, ANSWERED),
    chat_line("calls that are a text", "ToolCallInvalid", ASKED, {"role": "assistant", "content": "x", "tool_calls": "get"}),
    chat_line("a call that is null", "ToolCallInvalid", ASKED, {"role": "assistant", "content": "x", "tool_calls": [None]}),
    chat_line("a call without a function", "ToolCallInvalid", ASKED, {"role": "assistant", "tool_calls": [{}]}),
    chat_line("a call without a name", "ToolCallInvalid", ASKED, {"role": "assistant", "tool_calls": [{"function": {"name": ""}}]}),
    chat_line("arguments that are a number", "ToolCallInvalid", ASKED, {"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": 1}}]}),
    chat_line("a function call that is a text", "ToolCallInvalid", ASKED, {"role": "assistant", "function_call": "get"}),
    chat_line("a function call of the user", "ToolCallInvalid", {"role": "user", "content": "x", "function_call": {"name": "a"}}, ANSWERED),
    clean("a function call", lines(chat(ASKED, {"role": "assistant", "function_call": {"name": "a", "arguments": "{}"}})), 1),
    chat_line("tools that are a number", "WrongType", ASKED, ANSWERED, tools=3),
    clean("a system message", lines(chat(("system", "x"), ASKED, ANSWERED)), 1),
    clean("a developer message", lines(chat(("developer", "x"), ASKED, ANSWERED)), 1),
    clean("several turns with weights", lines(chat(ASKED, {"role": "assistant", "content": "a", "weight": 0}, ASKED, {"role": "assistant", "content": "b", "weight": 1})), 1),
    clean("a tool call and its answer", lines(chat(ASKED, {"role": "assistant", "content": None, "tool_calls": [CALL]}, ("tool", ""), ANSWERED, tools=[])), 1),
    clean("content in parts", lines(chat(("user", [{"type": "text", "text": "a"}, "b"]), ANSWERED)), 1),
    clean("fields that are null", lines(chat({"role": "user", "content": "a", "weight": None, "tool_calls": None, "name": None}, ANSWERED)), 1),
    clean("chat as Azure writes it", BOM + lines(chat(("system", "s"), ASKED, ANSWERED)), 1),
    clean("named roles and columns", lines({"dialog": [{"who": "Q", "says": "a"}, {"who": "A", "says": "b"}]}), 1,
          dataset={"columns": {"messages": "dialog", "role": "who", "content": "says", "roles": {"user": "Q", "assistant": "A"}}}),
    clean("ShareGPT", lines(sharegpt(("system", "s"), ("human", "a"), ("gpt", "b"))), 1),
    one_bad_line("ShareGPT with an unknown speaker", sharegpt(("alien", "a"), ("gpt", "b")), "RoleUnknown", sharegpt(("human", "a"), ("gpt", "b"))),
    one_bad_line("ShareGPT with an empty value", sharegpt(("human", ""), ("gpt", "b")), "EmptyText", sharegpt(("human", "a"), ("gpt", "b"))),
]  # fmt: skip

PLAIN: Final = [
    one_bad_line("no completion", {"prompt": "a"}, "FieldMissing"),
    one_bad_line("a completion that is null", {"prompt": "a", "completion": None}, "FieldMissing"),
    one_bad_line("a completion that is empty", {"prompt": "a", "completion": ""}, "EmptyText"),
    one_bad_line("a prompt that is a list", {"prompt": ["a"], "completion": "b"}, "WrongType"),
    one_bad_line("a prompt that is a number", {"prompt": 1, "completion": "b"}, "WrongType"),
    one_bad_line("an empty object", {}, "FieldMissing"),
    one_bad_line("columns in capitals", {"Prompt": "a", "Completion": "b"}, "FieldMissing"),
    one_bad_line("a chat among pairs", CHAT, "MixedFormats"),
    one_bad_line("a text among pairs", OK_TEXT, "MixedFormats"),
    one_bad_line("a pair among chats", OK, "MixedFormats", CHAT),
    one_bad_line("no output", {"instruction": "a"}, "FieldMissing", {"instruction": "a", "output": "b"}),
    one_bad_line("an input that is a list", {"instruction": "a", "input": [], "output": "b"}, "WrongType", {"instruction": "a", "output": "b"}),
    one_bad_line("an empty output", {"instruction": "a", "output": " "}, "EmptyText", {"instruction": "a", "output": "b"}),
    one_bad_line("an empty text", {"text": ""}, "EmptyText", OK_TEXT),
    one_bad_line("a text that is an object", {"text": {}}, "WrongType", OK_TEXT),
    one_bad_line("no label", {"text": "a"}, "MixedFormats", {"text": "a", "label": "b"}),
    one_bad_line("a label that is a list", {"text": "a", "label": ["b"]}, "WrongType", {"text": "a", "label": "b"}),
    one_bad_line("a label that is true", {"text": "a", "label": True}, "WrongType", {"text": "a", "label": "b"}),
    one_bad_line("a label that is a fraction", {"text": "a", "label": 0.5}, "WrongType", {"text": "a", "label": "b"}),
    CorpusFile("columns that fit nothing", lines({"a": "b"}), ("FormatUnknown@1",)),
    CorpusFile("the wrong column map", lines(OK), ("FormatUnknown@1",), dataset={"columns": {"prompt": "frage"}}),
    CorpusFile("the wrong format named", lines(OK), ("FieldMissing@1",), dataset={"format": "chat"}),
    CorpusFile("a template column missing", lines({"q": "a"}), ("FieldMissing@1",), dataset={"template": "{q} {a}"}),
    CorpusFile("a template column empty", lines({"q": ""}), ("EmptyText@1",), dataset={"template": "{q}"}),
    CorpusFile("a template column that is a list", lines({"q": []}), ("WrongType@1",), dataset={"template": "{q}"}),
    CorpusFile("the same row twice", lines(OK, OK), ("DuplicateRow@2",), rows=2),
    CorpusFile("the same row in another spelling", lines(OK, b'{"completion":"The smallest unit.","prompt":"What is a\\u0020pod?"}'), ("DuplicateRow@2",), rows=2),
    clean("alpaca", lines({"instruction": "a", "input": "", "output": "b"}), 1),
    clean("input and output", lines({"input": "a", "output": "b"}), 1),
    clean("prompt and response", lines({"prompt": "a", "response": "b"}), 1),
    clean("classification with numbers", lines({"text": "a", "label": 0}, {"text": "b", "label": 1}), 2),
    clean("a template", lines({"prompt": "a", "response": 3}), 1, dataset={"template": "### Q: {prompt}\n### A: {response}"}),
    clean("columns of one's own", lines({"frage": "a", "antwort": "b"}), 1, dataset={"columns": {"prompt": "frage", "completion": "antwort"}}),
    clean("surplus columns", lines({"prompt": "a", "completion": "b", "id": 1, "meta": {"x": []}}), 1),
]  # fmt: skip

GOOD: Final = lines(OK)
PACKED: Final = [
    CorpusFile("gzip cut off", gzip.compress(GOOD * 99)[:-20], ("CompressionBroken",), file="data.jsonl.gz"),
    CorpusFile("gzip with a flipped bit", gzip.compress(GOOD)[:-6] + b"\0\0\0\0\0\0", ("CompressionBroken",), file="data.jsonl.gz"),
    CorpusFile("text called .gz", GOOD, ("CompressionBroken",), file="data.jsonl.gz"),
    CorpusFile("gzip called .jsonl", gzip.compress(GOOD), ("FileKindMismatch",)),
    CorpusFile("gzip in gzip", gzip.compress(gzip.compress(GOOD)), ("FileKindMismatch",), file="data.jsonl.gz"),
    CorpusFile("a gzip bomb", gzip.compress(bytes(96 * MIB)), ("NotUtf8@1",), file="data.jsonl.gz"),
    CorpusFile("a gzip bomb of text", gzip.compress(b"a" * (96 * MIB)), ("CompressionBomb",), file="data.jsonl.gz"),
    CorpusFile("empty gzip", gzip.compress(b""), ("FileEmpty",), file="data.jsonl.gz"),
    CorpusFile("bzip2 cut off", bz2.compress(GOOD * 99)[:-20], ("CompressionBroken",), file="data.jsonl.bz2"),
    CorpusFile("xz cut off", lzma.compress(GOOD)[:-20], ("CompressionBroken",), file="data.jsonl.xz"),
    CorpusFile("xz with noise behind", lzma.compress(GOOD) + b"x", ("CompressionBroken",), file="data.jsonl.xz"),
    CorpusFile("xz of another dictionary", lzma.compress(GOOD, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 2**28}]), ("CompressionBroken",), file="data.jsonl.xz"),
    CorpusFile("a pickle", b"\x80\x04\x95" + bytes(20), ("FileKindMismatch",)),
    CorpusFile("a zip archive", b"PK\x03\x04" + bytes(20), ("FileKindMismatch",), file="data.json"),
    CorpusFile("Parquet called .csv", b"PAR1" + bytes(40) + b"PAR1", ("FileKindMismatch",), file="data.csv"),
    CorpusFile("compressed Parquet", gzip.compress(b"PAR1"), ("FileKindUnknown",), file="data.parquet.gz"),
    CorpusFile("an unknown suffix", GOOD, ("FileKindUnknown",), file="data.txt"),
    CorpusFile("no suffix", GOOD, ("FileKindUnknown",), file="data"),
    clean("gzip", gzip.compress(GOOD), 1, file="data.jsonl.gz"),
    clean("gzip in two members", gzip.compress(GOOD) + gzip.compress(lines(OK_TEXT.replace(b"text", b"prompt").replace(b"}", b', "completion": "x"}'))), 2, file="data.jsonl.gz"),
    clean("bzip2", bz2.compress(b"[" + OK + b"]"), 1, file="data.json.bz2"),
    clean("xz", lzma.compress(b"text\na\n"), 1, file="data.csv.xz"),
    clean("xz in two streams", lzma.compress(lines(OK_TEXT)) + lzma.compress(lines(b'{"text": "b"}')), 2, file="DATA.JSONL.XZ"),
]  # fmt: skip

PARQUET: Final = [
    CorpusFile("text called .parquet", GOOD, ("FileMalformed",), file="data.parquet"),
    CorpusFile("an empty Parquet file", b"PAR1PAR1", ("FileMalformed",), file="data.parquet"),
    CorpusFile("Parquet with a lying footer", b"PAR1" + bytes(40) + b"\xff\xff\xff\x7fPAR1", ("FileMalformed",), file="data.parquet"),
]  # fmt: skip

CORPUS: Final = [*ENCODING, *JSON_LINES, *JSON_LISTS, *CSV, *CHATS, *PLAIN, *PACKED]
