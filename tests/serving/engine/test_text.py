"""Tokens and texts: streams that say what the tokenizer says, prompts that read as training wrote them, stop strings."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from fettle_server.engine.answer_text import AnswerText
from fettle_server.engine.stop_strings import StopStrings
from fettle_server.engine.text_side import TextSide, load_text_side
from fettle_server.engine.token_bytes import TokenBytes
from fettle_server.engine.types import BaseRefusedError, WrongMessagesError
from fettle_trainer.data.examples import Turn
from fettle_trainer.text.template import ChatTemplate
from fettle_trainer.text.tokenizer import load_tokenizer
from tiny_models import FAMILIES

Tiny = Callable[[str], Path]


def streamed(tokens: TokenBytes, ids: list[int], stops: tuple[str, ...] = ()) -> list[str]:
    text = AnswerText(tokens, stops)
    return [text.push(token)[0] for token in ids]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stream_says_what_the_tokenizer_says(family: str, tiny: Tiny) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny(family))
    tokens = TokenBytes(tokenizer)
    for text in ("Grüße, 你好 🙂!", "  two spaces", "a\n\tb"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        pieces = streamed(tokens, ids)
        assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=True) == text
        assert all("\ufffd" not in piece for piece in pieces)
        assert b"".join(tokens.bytes_of(token) for token in ids).decode() == text
    chance = random.Random(3)  # noqa: S311 - chance, not secrets
    for _ in range(20):
        # Most random tokens are no valid UTF-8, and some steer the model; an unfinished end is left out.
        ids = [chance.randrange(384) for _ in range(30)]
        whole = tokenizer.decode(ids, skip_special_tokens=True)
        assert whole.rstrip("\ufffd") == "".join(streamed(tokens, ids)).rstrip("\ufffd")


def sentence_pieces(decoder: Any) -> PreTrainedTokenizerFast:
    pieces = ["<unk>", "▁the", "▁cat", "s", "<0xF0>", "<0x9F>", "<0x99>", "<0x82>", "▁"]
    backend = Tokenizer(
        models.BPE({piece: number for number, piece in enumerate(pieces)}, [], byte_fallback=True)
    )
    backend.decoder = decoder
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


@pytest.mark.parametrize(
    "decoder",
    [
        decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        ),
        decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]),
        decoders.Metaspace(),
    ],
    ids=["llama 2", "gemma", "metaspace"],
)
def test_pieces_with_spaces_and_bytes_are_streamed_too(decoder: Any) -> None:
    tokenizer = sentence_pieces(decoder)
    ids = [1, 2, 3, 8, 1] if isinstance(decoder, decoders.Metaspace) else [1, 2, 3, 4, 5, 6, 7, 1]
    pieces = streamed(TokenBytes(tokenizer), ids)
    assert "".join(pieces) == tokenizer.decode(ids)
    if len(ids) == 8:
        assert pieces[3:7] == ["", "", "", "🙂"]


def test_a_decoder_that_cannot_be_streamed_is_refused() -> None:
    with pytest.raises(BaseRefusedError, match="WordPiece"):
        TokenBytes(sentence_pieces(decoders.WordPiece()))


@pytest.mark.parametrize(
    ("stops", "pieces", "released", "found"),
    [
        ((), ["ab", "c"], ["ab", "c"], False),
        (("END",), ["a E", "N", "D b"], ["a ", "", ""], True),
        (("END",), ["a E", "N", "x"], ["a ", "", "ENx"], False),
        (("aab",), ["aa", "ab"], ["", "a"], True),
        (("\n\n", "."), ["one\n", "two. three"], ["one", "\ntwo"], True),
        (("stop",), ["st", "o"], ["", ""], False),
    ],
)
def test_text_is_held_back_while_it_may_become_a_stop_string(
    stops: tuple[str, ...], pieces: list[str], released: list[str], found: bool
) -> None:
    strings = StopStrings(stops)
    results = [strings.push(piece) for piece in pieces]
    assert [text for text, _ in results] == released
    assert any(hit for _, hit in results) == found
    if pieces == ["st", "o"]:
        assert (strings.holds, strings.rest(), strings.holds) == (True, "sto", False)


TURNS = tuple(
    Turn(role, text, trained=False)
    for role, text in (("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello."), ("user", "And you?"))
)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_is_what_training_was_prompted_with(family: str, tiny: Tiny) -> None:
    text = load_text_side(tiny(family), ())
    template = ChatTemplate(load_tokenizer(tiny(family)))
    for turns in (TURNS[1:2], TURNS[1:], TURNS):
        messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        assert text.chat(messages) == template.render(turns, add_generation_prompt=True)
    assert text.template_digest == template.digest


@pytest.mark.parametrize(
    ("family", "closing"),
    [
        ("llama", "<|eot_id|>"),
        ("mistral", "</s>"),
        ("qwen2", "<|im_end|>"),
        ("qwen3", "<|im_end|>"),
        ("phi3", "<|end|>"),
        ("gemma2", "<end_of_turn>"),
        ("gemma3", "<end_of_turn>"),
    ],
)
def test_the_token_behind_an_answer_ends_it_although_no_configuration_names_it(
    family: str, closing: str, tiny: Tiny
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny(family))
    expected = {tokenizer.convert_tokens_to_ids(closing), tokenizer.eos_token_id}
    assert TextSide(tokenizer, ()).stop_ids == expected
    assert TextSide(tokenizer, (9,)).stop_ids == expected | {9}


def test_what_a_template_refuses_is_told_with_its_own_words(tiny: Tiny) -> None:
    text = load_text_side(tiny("gemma2"), ())
    with pytest.raises(
        WrongMessagesError, match=r"The model's chat template refuses the messages: .*alternat"
    ):
        text.chat([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])
    tokenizer = AutoTokenizer.from_pretrained(tiny("gemma2"))
    tokenizer.chat_template = None
    with pytest.raises(WrongMessagesError, match="no chat template"):
        TextSide(tokenizer, ()).chat([{"role": "user", "content": "a"}])


def test_the_digest_of_a_template_is_that_of_its_bytes(tiny: Tiny, tmp_path: Path) -> None:
    for path in tiny("qwen2").iterdir():
        if path.name.startswith("tokenizer"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    template = b"{{ messages[0].content }}\r\n!"  # reading it as text would turn its line end into another
    (tmp_path / "chat_template.jinja").write_bytes(template)
    assert load_text_side(tmp_path, ()).template_digest == f"sha256:{hashlib.sha256(template).hexdigest()}"


ENDLESS = {
    "a loop in a loop": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a loop of filters": "{% for a in range(99999) %}{{ range(9999)|map('string')|list|length }}{% endfor %}",
    "macros that call themselves": "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(60) }}",
}


@pytest.mark.parametrize("program", ENDLESS.values(), ids=list(ENDLESS))
def test_a_template_that_does_not_end_is_ended_and_the_next_one_is_written(
    program: str, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fettle_server.engine.text_side._TEMPLATE_S", 0.2)
    tokenizer = AutoTokenizer.from_pretrained(tiny("llama"))
    plain = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    tokenizer.chat_template = f"{{% if messages[0]['content'] == 'loop' %}}{program}{{% endif %}}{plain}"
    text = TextSide(tokenizer, ())

    with pytest.raises(WrongMessagesError, match=r"needs more than 0\.2 s"):
        text.chat([{"role": "user", "content": "loop"}])

    expected = tokenizer("Hello", add_special_tokens=False)["input_ids"]
    assert text.chat([{"role": "user", "content": "Hello"}]) == expected


def test_a_template_that_makes_too_much_of_the_messages_is_refused(tiny: Tiny) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny("llama"))
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] * 9000000 }}{% endfor %}"

    with pytest.raises(WrongMessagesError, match="more than a prompt may have"):
        TextSide(tokenizer, ()).chat([{"role": "user", "content": "a"}])
