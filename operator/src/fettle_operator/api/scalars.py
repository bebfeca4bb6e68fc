"""The scalar types of the API: names, paths, digests, quantities.

Every pattern is anchored and free of look-around, so that it means the same in the API server and here.
"""

import re
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field

from fettle_operator.api.markers import IntOrString, Takes

__all__ = [
    "ConfigMapKey",
    "Count",
    "CpuQuantity",
    "Digest",
    "Duration",
    "GitRevision",
    "HttpUrl",
    "Label",
    "MetricName",
    "ObjectName",
    "Percent",
    "Port",
    "RelativeGlob",
    "RelativePath",
    "RepositoryId",
    "Seconds",
    "SecretKey",
    "Sha256",
    "ShortText",
    "SizeQuantity",
    "quantity_value",
]

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_PATH_PART = r"\.?[A-Za-z0-9_@+=,-][A-Za-z0-9._@+=,-]*"  # neither "." nor "..", no blanks, no escapes
_GLOB_PART = r"\.?[A-Za-z0-9_@+=,*?\[\]-][A-Za-z0-9._@+=,*?\[\]-]*"
_REPOSITORY_PART = r"[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*"

Label = Annotated[
    str,
    Field(max_length=63, pattern=rf"^{_LABEL}$"),
    Takes("a name of lower-case letters, digits and '-' that begins and ends with a letter or digit"),
]
"""A DNS label."""
ObjectName = Annotated[
    str,
    Field(max_length=253, pattern=rf"^{_LABEL}(\.{_LABEL})*$"),
    Takes("the name of an object: lower-case letters, digits, '-' and '.'"),
]
"""The name of a Secret, claim, ConfigMap or class in the object's own namespace: a DNS subdomain."""
SecretKey = Annotated[
    str,
    Field(max_length=253, pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$"),
    Takes("the name of an entry: letters, digits, '-', '_' and '.', not first"),
]

ConfigMapKey = SecretKey

RelativePath = Annotated[
    str,
    Field(max_length=512, pattern=rf"^(\.|{_PATH_PART}(/{_PATH_PART})*)$"),
    Takes("a path below the root, such as models/base, without '..', blanks or a leading '/'"),
]
"""A path below a volume's root that cannot leave it; `.` is the root itself."""
RelativeGlob = Annotated[
    str,
    Field(max_length=512, pattern=rf"^{_GLOB_PART}(/{_GLOB_PART})*$"),
    Takes("a path below the root, such as rows/*.jsonl, without '..', blanks or a leading '/'"),
]
"""A relative path in which `*`, `?`, `[…]` and `**` may stand."""

RepositoryId = Annotated[
    str,
    Field(max_length=193, pattern=rf"^{_REPOSITORY_PART}(/{_REPOSITORY_PART})?$"),
    Takes("a repository, as owner/name"),
]
"""`owner/name` on the Hugging Face hub."""
GitRevision = Annotated[
    str,
    Field(max_length=128, pattern=r"^[A-Za-z0-9_]+([./-][A-Za-z0-9_]+)*$"),
    Takes("a branch, tag or commit, such as main, v1.0 or refs/pr/7"),
]
"""A branch, tag or commit."""
HttpUrl = Annotated[
    str,
    Field(
        max_length=2048,
        pattern=r"^https?://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9._~%!$&'()*+,;=:@/?-]*)?$",
    ),
    Takes("an http or https address without user name and fragment"),
]
"""An http or https address without user name, fragment or blank."""

Count = Annotated[int, Field(ge=0, le=2**53)]
"""How many, of anything; within what JSON carries exactly."""
Seconds = Annotated[int, Field(ge=0, le=31_536_000)]
"""A length of time of at most a year."""
Port = Annotated[int, Field(ge=1, le=65535)]
ShortText = Annotated[str, Field(max_length=256)]
MetricName = Literal[
    "loss",
    "perplexity",
    "token-accuracy",
    "exact-match",
    "f1",
    "bleu",
    "rouge-l",
    "accuracy",
    "macro-f1",
]
"""What an evaluation measures; the last two on classification data only."""

Sha256 = Annotated[
    str,
    Field(max_length=64, pattern=r"^[0-9a-f]{64}$"),
    Takes("a SHA-256 of 64 hexadecimal digits in lower case"),
]
Digest = Annotated[
    str,
    Field(max_length=71, pattern=r"^sha256:[0-9a-f]{64}$"),
    Takes("a digest: sha256: and 64 hexadecimal digits"),
]

Duration = Annotated[
    str,
    Field(max_length=6, pattern=r"^[1-9][0-9]{0,4}(s|m|h)$"),
    Takes("a length of time in one unit, such as 30s, 5m or 2h"),
]
"""A length of time in one unit: `30s`, `5m`, `2h`."""
Percent = Annotated[
    str,
    Field(max_length=6, pattern=r"^(0|0\.[0-9]?[1-9]|[1-9][0-9]?(\.[0-9]{1,2})?|100)%$"),
    Takes("a share of a hundred, such as 5% or 2.5%"),
]
"""A share of a hundred, such as `5%` or `2.5%`; zero has one spelling."""

CpuQuantity = Annotated[
    Annotated[int, Field(ge=1, le=1024)]
    | Annotated[
        str,
        Field(
            max_length=8,
            pattern=r"^([1-9][0-9]{0,6}m|0\.[0-9]{0,2}[1-9]|[1-9][0-9]{0,3}(\.[0-9]{1,3})?)$",
        ),
    ],
    IntOrString("an amount of cores above zero, such as 2, 1.5 or 500m"),
]
SizeQuantity = Annotated[
    Annotated[int, Field(ge=1, le=2**53)]
    | Annotated[
        str, Field(max_length=20, pattern=r"^[1-9][0-9]{0,14}((\.[0-9]{1,3})?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi))?$")
    ],
    IntOrString("an amount of bytes above zero, such as 512Mi, 20Gi or a plain number"),
]

_QUANTITY = re.compile(r"([0-9.]+)(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?")
_FACTORS = {"": Decimal(1), "m": Decimal("0.001")} | {
    prefix + suffix: Decimal(base) ** exponent
    for exponent, prefix in enumerate("kMGTP", start=1)
    for suffix, base in (("", 1000), ("i", 1024))
}
_FACTORS["Ki"] = _FACTORS.pop("ki")


def quantity_value(quantity: int | str) -> Decimal:
    """Return the number that a CpuQuantity (cores) or SizeQuantity (bytes) stands for."""
    match = _QUANTITY.fullmatch(str(quantity))
    if match is None:
        raise ValueError(f"{quantity!r} is no quantity")
    return Decimal(match[1]) * _FACTORS[match[2] or ""]
