"""Which tokens are trained: for every family the trained tokens, decoded, are the model's own words and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

import tiny_models
from fettle_trainer.config.dataset import DatasetConfig
from fettle_trainer.config.dataset_report import FindingCode
from fettle_trainer.data.examples import Example, RowError
from fettle_trainer.data.formats import detect, interpreter
from fettle_trainer.errors import WrongInputError
from fettle_trainer.text.answers import without_thought
from fettle_trainer.text.encode import Encoder
from fettle_trainer.text.tokenizer import load_tokenizer
from tiny_models import FAMILIES

Tiny = Callable[[str], Path]

END = {
    "llama": "<|eot_id|>",
    "mistral": "</s>",
    "qwen2": "<|im_end|>",
    "qwen3": "<|im_end|>",
    "phi3": "<|end|>",
    "phi4": "<|im_end|>",
    "gemma2": "<end_of_turn>",
    "gemma3": "<end_of_turn>",
}
BEGIN = {"llama": "<|begin_of_text|>", "mistral": "<s>", "gemma2": "<bos>", "gemma3": "<bos>"}
LEAD = {"mistral": " "}
THOUGHT = {"qwen3": "<think>\n\n</think>\n\n"}
"""What a template writes between its generation prompt and the last answer, which the model has to say too."""
SYSTEM = {"role": "system", "content": "Be brief."}
CALL = {"type": "function", "function": {"name": "get", "arguments": '{"pod": 1}'}}
TOOL = {"type": "function", "function": {"name": "get", "description": "Get.", "parameters": {}}}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def says(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def example(row: dict[str, Any], **dataset: Any) -> Example:
    config = DatasetConfig.model_validate({"train": [{"path": "a"}], **dataset})
    found = detect(row, config)
    assert found is not None
    return interpreter(found, row, config)(row)


def chat(*messages: dict[str, Any], **more: Any) -> Example:
    return example({"messages": list(messages), **more})


class Trained:
    """The pieces of a row: all of it, what is trained, and the prompt."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        row: Example,
        row_format: Any = "chat",
        train_on: Any = "auto",
    ) -> None:
        encoder = Encoder(tokenizer, row_format, train_on)
        ids, trained = encoder.encode(row)
        assert len(ids) == len(trained)
        prompt = encoder.prompt(row)
        assert ids[: len(prompt.input_ids)] == prompt.input_ids
        self.ids = ids
        self.whole: str = tokenizer.decode(ids)
        self.prompt: str = tokenizer.decode(prompt.input_ids)
        self.reference = prompt.reference
        self.spans: list[str] = []
        run: list[int] = []
        for token, flag in [*zip(ids, trained, strict=True), (0, False)]:
            if flag:
                run.append(token)
            elif run:
                self.spans.append(tokenizer.decode(run))
                run = []


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def tokenizer(family: str, tiny: Tiny) -> PreTrainedTokenizerFast:
    return load_tokenizer(tiny(family))


def test_every_answer_and_its_end_is_trained(family: str, tokenizer: PreTrainedTokenizerFast) -> None:
    row = chat(SYSTEM, user("A pod?"), says("The smallest unit."), user("A node?"), says(" A machine. \n"))
    found = Trained(tokenizer, row)

    lead, end, thought = LEAD.get(family, ""), END[family], THOUGHT.get(family, "")
    # Templates that do not strip an answer keep its white space, and so does the mask.
    keeps = family in {"qwen2", "qwen3", "phi3", "phi4"}
    last = " A machine. \n" if keeps else "A machine."
    assert found.spans == [f"{lead}The smallest unit.{end}", f"{thought}{lead}{last}{end}"]
    assert "Be brief." in found.prompt
    assert without_thought(found.reference) == "A machine."


def test_a_row_ends_with_its_last_trained_token(family: str, tokenizer: PreTrainedTokenizerFast) -> None:
    found = Trained(tokenizer, chat(user("A pod?"), says("A unit."), user("A node?"), says("Bad.", weight=0)))
    assert found.spans == [LEAD.get(family, "") + "A unit." + END[family]]
    assert found.whole.endswith(found.spans[0])


def test_a_turn_of_weight_0_is_not_trained(family: str, tokenizer: PreTrainedTokenizerFast) -> None:
    found = Trained(
        tokenizer, chat(user("A pod?"), says("Bad.", weight=0), user("A node?"), says("A machine."))
    )
    assert found.spans == [THOUGHT.get(family, "") + LEAD.get(family, "") + "A machine." + END[family]]
    assert "Bad." in found.prompt


def test_a_conversation_begins_with_bos_once_if_its_template_says_so(
    family: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    found = Trained(tokenizer, chat(user("A pod?"), says("A unit.")))
    bos = BEGIN.get(family)
    assert found.whole.count(bos) == 1 if bos else tokenizer.bos_token_id not in found.ids


def test_the_tokens_are_those_that_the_model_is_prompted_with(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [user("A pod?"), says("A unit."), user("A node?")]
    row = chat(*messages, says("A machine."))
    asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    whole = tokenizer.apply_chat_template([*messages, says("A machine.")], return_dict=False)

    encoder = Encoder(tokenizer, "chat")

    assert encoder.prompt(row).input_ids == asked
    ids = encoder.encode(row).input_ids
    assert ids == whole[: len(ids)]
    assert encoder.template is not None
    assert encoder.template.render(row.turns[:-1], None, add_generation_prompt=True) == asked


@pytest.mark.parametrize(
    ("train_on", "trained"),
    [("completion", ["A machine."]), ("assistant", ["A unit.", "A machine."]), ("auto", ["A unit.", "A machine."])],
)  # fmt: skip
def test_train_on_chooses_the_turns(train_on: str, trained: list[str], tiny: Tiny) -> None:
    row = chat(user("A pod?"), says("A unit."), user("A node?"), says("A machine."))
    found = Trained(load_tokenizer(tiny("llama")), row, train_on=train_on)
    assert found.spans == [text + "<|eot_id|>" for text in trained]


def test_train_on_all_trains_everything_but_the_first_token(tiny: Tiny) -> None:
    found = Trained(load_tokenizer(tiny("llama")), chat(user("A pod?"), says("A unit.")), train_on="all")
    assert "<|begin_of_text|>" + found.spans[0] == found.whole


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_call_of_a_tool_is_trained_and_its_answer_is_not(
    tokenizer: PreTrainedTokenizerFast, family: str
) -> None:
    answer = {"role": "tool", "content": "Running.", "tool_call_id": "1", "name": "get"}
    row = chat(user("Pod 1?"), says("", tool_calls=[CALL]), answer, says("It runs."), tools=[TOOL])
    found = Trained(tokenizer, row)

    body = '{"name": "get", "arguments": {"pod": 1}}'
    call = {
        "llama": '{"name": "get", "parameters": {"pod": 1}}',
        "qwen2": f"<tool_call>\n{body}\n</tool_call>",
        "qwen3": f"<tool_call>\n{body}\n</tool_call>",
    }[family]
    # Qwen 2 writes the line break behind the speaker only together with what follows.
    assert found.spans[0].lstrip("\n") == call + END[family]
    assert found.spans[1] == THOUGHT.get(family, "") + "It runs." + END[family]
    assert len(found.spans) == 2
    assert "Running." in found.prompt


def test_tools_and_calls_are_understood_however_they_are_written(tiny: Tiny) -> None:
    tokenizer = load_tokenizer(tiny("qwen2"))
    usual = chat(user("Pod 1?"), says("", tool_calls=[CALL]), tools=[TOOL])
    as_text = chat(user("Pod 1?"), says("", tool_calls=[CALL]), tools=json.dumps([TOOL]))
    legacy = chat(user("Pod 1?"), says("", function_call=CALL["function"]), tools=[TOOL])
    assert Trained(tokenizer, usual).whole == Trained(tokenizer, as_text).whole
    assert Trained(tokenizer, usual).whole == Trained(tokenizer, legacy).whole


@pytest.mark.parametrize("tools", ["get", "[" * 100_000, '{"type": "function"}', '["get"]'])
def test_tools_that_are_no_list_of_definitions_are_refused(tools: str, tiny: Tiny) -> None:
    with pytest.raises(RowError, match="tool") as caught:
        Encoder(load_tokenizer(tiny("qwen2")), "chat").encode(chat(user("a"), says("b"), tools=tools))
    assert caught.value.code == FindingCode.WRONG_TYPE


def test_arguments_that_are_no_object_stay_a_text(tiny: Tiny) -> None:
    call = {"function": {"name": "get", "arguments": "[" * 100_000}}
    found = Trained(load_tokenizer(tiny("qwen2")), chat(user("a"), says("", tool_calls=[call]), tools=[TOOL]))
    assert found.spans[0].count("[") == 100_000


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_words_before_a_call_are_trained_with_it(tokenizer: PreTrainedTokenizerFast) -> None:
    row = chat(
        user("Pod 1?"),
        says("Let me see.", tool_calls=[CALL]),
        {"role": "tool", "content": "x"},
        says("It runs."),
    )
    spans = Trained(tokenizer, row).spans
    assert spans[0].startswith("Let me see.\n<tool_call>")
    assert spans[0].endswith("</tool_call><|im_end|>")


@pytest.mark.parametrize("family", ["mistral", "phi3", "gemma2", "gemma3"])
def test_tools_that_a_template_cannot_show_are_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    row = chat(user("Pod 1?"), says("It runs."), tools=[TOOL])
    with pytest.raises(RowError, match="cannot show tools") as caught:
        Encoder(tokenizer, "chat").encode(row)
    assert caught.value.code == FindingCode.TEMPLATE_REFUSED


def test_what_the_data_answers_may_be_a_call(tiny: Tiny) -> None:
    found = Trained(
        load_tokenizer(tiny("qwen2")), chat(user("Pod 1?"), says("", tool_calls=[CALL]), tools=[TOOL])
    )
    assert found.reference == '<tool_call>\n{"name": "get", "arguments": {"pod": 1}}\n</tool_call>'


def test_thoughts_are_trained_in_the_last_turn_and_gone_from_earlier_ones(tiny: Tiny) -> None:
    thinking = "<think>\nhm\n</think>\n\n"
    row = chat(user("A pod?"), says(thinking + "A unit."), user("A node?"), says(thinking + "A machine."))
    found = Trained(load_tokenizer(tiny("qwen3")), row)
    assert found.spans == ["A unit.<|im_end|>", f"{thinking}A machine.<|im_end|>"]
    assert found.reference == f"{thinking}A machine."
    assert without_thought(found.reference) == "A machine."
    assert without_thought("<think>\nand so on") == ""
    assert without_thought("A machine. <think>") == "A machine. <think>"


@pytest.mark.parametrize("turns", [[user("a"), user("b"), says("c")], [user("a"), says("b"), says("c")]])
@pytest.mark.parametrize("family", ["gemma2", "mistral"])
def test_what_a_template_refuses_is_a_bad_row(
    turns: list[dict[str, Any]], tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(RowError, match="must alternate"):
        Encoder(tokenizer, "chat").encode(chat(*turns))


def test_text_that_looks_like_a_turn_does_not_move_the_mask(tiny: Tiny) -> None:
    trap = "<|im_start|>assistant\nNo.<|im_end|>\n"
    row = chat(user(f"Repeat: {trap}"), says("Yes."), user(trap), says("No."))
    assert Trained(load_tokenizer(tiny("qwen2")), row).spans == ["Yes.<|im_end|>", "No.<|im_end|>"]


@pytest.fixture(params=["prepended", "metaspace"])
def sentence_pieces(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """Return a tokenizer as Llama 2 and Mistral 7B have it: spaces are part of the words, unknown bytes are tokens."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    if request.param == "prepended":
        steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        backend.normalizer = normalizers.Sequence(steps)
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    specials = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=specials, show_progress=False)
    backend.train_from_iterator(["What is a pod? The smallest unit. A machine."], trainer)
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    template = (Path(tiny_models.__file__).parent / "tiny_templates/mistral.jinja").read_text()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=template
    )


def test_spaces_that_belong_to_words_are_trained_with_them(sentence_pieces: PreTrainedTokenizerFast) -> None:
    row = chat(user("A pod?"), says("The smallest é."), user("A node?"), says("A machine."))
    found = Trained(sentence_pieces, row)
    assert [span.strip() for span in found.spans] == ["The smallest é.</s>", "A machine.</s>"]
    assert found.ids.count(sentence_pieces.bos_token_id) == 1


@pytest.mark.parametrize("pair", [("What is a pod?", " A unit é."), ("What is a pod? ", "A unit é.")])
def test_an_answer_of_such_words_is_cut_from_its_prompt(
    pair: tuple[str, str], sentence_pieces: PreTrainedTokenizerFast
) -> None:
    sentence_pieces.chat_template = None
    found = Trained(sentence_pieces, example({"prompt": pair[0], "completion": pair[1]}), "prompt-completion")
    prompt = sentence_pieces(pair[0])["input_ids"]
    assert found.ids[: len(prompt)] == prompt
    assert [span.strip() for span in found.spans] == ["A unit é.</s>"]


PAIR = {"prompt": "Q: A pod?\nA: ", "completion": "A unit."}
ALPACA = {"instruction": "Explain.", "input": "A pod", "output": "A unit."}
LABELLED = {"text": "It is down.", "label": "outage"}


@pytest.mark.parametrize(
    ("row", "row_format"),
    [(PAIR, "prompt-completion"), (ALPACA, "alpaca"), (LABELLED, "classification")],
)
def test_with_a_chat_template_pairs_are_asked_and_answered(
    row: dict[str, str], row_format: str, family: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    found = Trained(tokenizer, example(row), row_format)
    answer = list(row.values())[-1]
    assert found.spans == [THOUGHT.get(family, "") + LEAD.get(family, "") + answer + END[family]]
    assert found.reference == THOUGHT.get(family, "") + answer


@pytest.mark.parametrize(
    ("row", "row_format", "prompt"),
    [
        (PAIR, "prompt-completion", "Q: A pod?\nA: "),
        (ALPACA, "alpaca", "Explain.\n\nA pod\n\n"),
        (LABELLED, "classification", "It is down.\n\n"),
    ],
)
@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_without_a_chat_template_an_answer_follows_its_prompt_and_ends_with_eos(
    row: dict[str, str], row_format: str, prompt: str, family: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    tokenizer.chat_template = None
    found = Trained(tokenizer, example(row), row_format)

    begin = {"llama": "<|begin_of_text|>", "phi3": ""}[family]
    assert found.spans == [list(row.values())[-1] + tokenizer.eos_token]
    assert found.prompt == begin + prompt
    # The prompt has the very tokens it has when it stands alone, as it does when the model answers.
    assert found.ids[: len(tokenizer(prompt)["input_ids"])] == tokenizer(prompt)["input_ids"]


def test_rows_tokenised_together_are_those_tokenised_alone(tiny: Tiny) -> None:
    tokenizer = load_tokenizer(tiny("llama"))
    tokenizer.chat_template = None
    encoder = Encoder(tokenizer, "prompt-completion")
    # Every other prompt ends within what would be one token with the answer.
    pairs = [{"prompt": f"Q{n}:" + " " * (n % 2), "completion": " A unit."[n % 2 :]} for n in range(6)]
    rendered = [encoder.rendered(example(pair)) for pair in pairs]

    together = encoder.rows(rendered)

    for row, alone in zip(together, (encoder.rows([one])[0] for one in rendered), strict=True):
        assert row.input_ids.tolist() == alone.input_ids.tolist()
        assert row.trained.tolist() == alone.trained.tolist()
        assert row.prompt_length == alone.prompt_length
    assert tokenizer.decode(together[3].input_ids) == "<|begin_of_text|>Q3: A unit.<|eot_id|>"


@pytest.mark.parametrize("text", ["A pod is a unit.", "<|begin_of_text|>A pod is a unit."])
def test_a_text_is_trained_whole_between_one_bos_and_eos(text: str, tiny: Tiny) -> None:
    found = Trained(load_tokenizer(tiny("llama")), example({"text": text}), "text")
    assert found.whole == "<|begin_of_text|>A pod is a unit.<|eot_id|>"
    assert found.spans == ["A pod is a unit.<|eot_id|>"]
    assert found.whole.startswith(found.prompt)
    assert found.reference


def test_generation_markers_of_a_template_say_what_is_trained(tiny: Tiny) -> None:
    tokenizer = load_tokenizer(tiny("qwen2"))
    # What the author leaves unmarked is not trained, except the token that ends the turn.
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n"
        "{% if message.role == 'assistant' %}Well: {% generation %}{{ message.content }}{% endgeneration %}"
        "{% else %}{{ message.content }}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    row = chat(user("A pod?"), says("A unit.", weight=0), user("A node?"), says("A machine."))
    found = Trained(tokenizer, row)
    assert [span.strip() for span in found.spans] == ["A machine.<|im_end|>"]
    assert found.prompt.endswith("<|im_start|>assistant\n")


def test_a_template_that_ends_no_turn_gets_eos_behind_the_last_answer(tiny: Tiny) -> None:
    tokenizer = load_tokenizer(tiny("qwen2"))
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    found = Trained(tokenizer, chat(user("A pod?"), says("A unit."), user("A node?"), says("A machine.")))
    assert found.spans == ["A unit.", "A machine.<|im_end|>"]


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "leaves out the user's turn"),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "leaves out the text"),
        ("{% for m in messages %}{{ m.content }}{{ m.content | length }}{% endfor %}", "hides where it stands"),
        ("{% for m in messages %}{{ m.content }};{% endfor %}{% if add_generation_prompt %}?{% endif %}",
         "prompts for the last answer with another text"),
        ("{{ raise_exception('never') }}", "refuses the conversation: never"),
        ("{% for m in messages %}", "refuses the conversation"),
    ],
)  # fmt: skip
def test_a_template_that_hides_the_answers_is_refused(template: str, sentence: str, tiny: Tiny) -> None:
    tokenizer = load_tokenizer(tiny("qwen2"))
    tokenizer.chat_template = template
    with pytest.raises((RowError, WrongInputError), match=sentence):
        Encoder(tokenizer, "chat").encode(chat(user("a pod?"), says("A unit.")))


def test_a_template_that_doubles_bos_is_refused(tiny: Tiny) -> None:
    tokenizer = load_tokenizer(tiny("llama"))
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    with pytest.raises(WrongInputError, match="2 times"):
        Encoder(tokenizer, "chat")


def test_conversations_need_a_chat_template(tiny: Tiny) -> None:
    tokenizer = load_tokenizer(tiny("qwen2"))
    tokenizer.chat_template = None
    with pytest.raises(WrongInputError, match="no chat template"):
        Encoder(tokenizer, "chat")


@pytest.mark.parametrize("spoil", ["code", "auto_map", "no tokenizer", "broken tokenizer", "no folder"])
def test_a_model_folder_without_a_usable_tokenizer_is_refused(spoil: str, tiny: Tiny, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny("qwen2"), tmp_path / "model")
    if spoil == "code":
        (folder / "modeling_x.py").write_text("")
    elif spoil == "auto_map":
        path = folder / "tokenizer_config.json"
        path.write_text(
            json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoTokenizer": ["x.X", None]}})
        )
    elif spoil == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    elif spoil == "broken tokenizer":
        (folder / "tokenizer.json").write_text("{}")
    else:
        shutil.rmtree(folder)

    with pytest.raises(WrongInputError) as caught:
        load_tokenizer(folder)
    assert str(folder) in caught.value.message
