"""The receipt of a run: its first rows as the model sees them, with what is trained marked token by token."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from fettle_trainer.atomic import write_atomically
from fettle_trainer.config.base import ContractModel

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from fettle_trainer.config.dataset import RowFormat
    from fettle_trainer.text.prepared import Prepared

RECEIPT_JSON: Final = "receipt.json"
RECEIPT_MARKDOWN: Final = "receipt.md"

_SAMPLES: Final = 3
_MOST_TOKENS: Final = 2048
_OPEN, _CLOSE = "⟦", "⟧"
_CHATS: Final = frozenset({"chat", "sharegpt"})


class ReceiptToken(ContractModel):
    """One token of a sample."""

    id: int
    text: str
    trained: bool


class ReceiptSample(ContractModel):
    """One row as the model sees it."""

    file: str
    line: int
    tokens: tuple[ReceiptToken, ...]
    """At most the first 2,048."""


class Receipt(ContractModel):
    """What was trained, to be looked at."""

    format: str
    rows: int
    tokens: int
    trained_tokens: int
    trained_token_share: float
    template_digest: str | None = None
    warnings: tuple[str, ...] = ()
    samples: tuple[ReceiptSample, ...]


def write_receipt(prepared: Prepared, tokenizer: PreTrainedTokenizerBase, work: Path) -> Receipt:
    """Write `receipt.json` and `receipt.md` into the work folder and return what they say."""
    receipt = make_receipt(prepared, tokenizer)
    work.mkdir(parents=True, exist_ok=True)
    data = receipt.model_dump_json(by_alias=True, exclude_none=True, indent=1)
    write_atomically(work / RECEIPT_JSON, data.encode() + b"\n")
    write_atomically(work / RECEIPT_MARKDOWN, as_markdown(receipt, tokenizer).encode())
    return receipt


def make_receipt(prepared: Prepared, tokenizer: PreTrainedTokenizerBase) -> Receipt:
    """Look at the first rows to train on."""
    facts = prepared.facts
    samples = [_sample(prepared, tokenizer, number) for number in range(min(_SAMPLES, len(prepared.train)))]
    return Receipt(
        format=prepared.row_format,
        rows=facts.rows,
        tokens=facts.tokens,
        trained_tokens=facts.trained_tokens,
        trained_token_share=facts.trained_token_share,
        template_digest=prepared.template_digest,
        warnings=_warnings(prepared.row_format, facts.tokens - facts.rows, facts.trained_tokens),
        samples=tuple(samples),
    )


def as_markdown(receipt: Receipt, tokenizer: PreTrainedTokenizerBase) -> str:
    """Show the samples as text; what is trained stands in brackets."""
    share = f"{receipt.trained_tokens} of {receipt.tokens} tokens ({receipt.trained_token_share:.1%})"
    summary = f"{share} in {receipt.rows} rows of format {receipt.format}. Trained stands between {_OPEN} and {_CLOSE}."
    lines = ["# What this run trains", "", summary]
    lines += [line for warning in receipt.warnings for line in ("", f"**Warning:** {warning}")]
    for sample in receipt.samples:
        text = "".join(
            f"{_OPEN}{part}{_CLOSE}" if trained else part for part, trained in _parts(sample, tokenizer)
        )
        # Indented, a text stays as it is, whatever marks it holds itself.
        lines += ["", f"## {sample.file}, line {sample.line}", ""]
        lines += [f"    {line}" for line in text.split("\n")]
    return "\n".join(lines) + "\n"


def _sample(prepared: Prepared, tokenizer: PreTrainedTokenizerBase, number: int) -> ReceiptSample:
    file, line = prepared.train.place(number)
    row = prepared.train.row(number)
    ids, labels = row.input_ids[:_MOST_TOKENS].tolist(), row.labels[:_MOST_TOKENS].tolist()
    tokens = tuple(
        ReceiptToken(id=token, text=tokenizer.decode([token]), trained=label >= 0)
        for token, label in zip(ids, labels, strict=True)
    )
    return ReceiptSample(file=file, line=line, tokens=tokens)


def _parts(sample: ReceiptSample, tokenizer: PreTrainedTokenizerBase) -> list[tuple[str, bool]]:
    runs = groupby(sample.tokens, key=lambda token: token.trained)
    return [(tokenizer.decode([token.id for token in run]), trained) for trained, run in runs]


def _warnings(row_format: RowFormat, trainable: int, trained: int) -> tuple[str, ...]:
    if row_format not in _CHATS or trained < trainable:
        return ()
    warning = "Every token of these conversations is trained, the user's too. Unless that is meant, leave training.loss.trainOn out."
    return (warning,)
