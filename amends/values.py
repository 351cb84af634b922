"""Values: what messages are made of; immutable, closed, and told as `InvalidInput` when they can't be."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from amends.errors import InvalidInput

__all__ = ["Value", "problems_of"]


class Value(BaseModel):
    """Immutable data; unknown fields are refused, and bad input raises `InvalidInput` that names each field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise InvalidInput(problems_of(error)) from None

    # pydantic then reads nested and received values without this constructor, and names the whole path itself
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]


def problems_of(error: ValidationError) -> dict[str, str]:
    """What pydantic found, as field path → complaint; the refused value itself stays out of it."""
    return {".".join(map(str, found["loc"])) or "input": found["msg"] for found in error.errors(include_input=False)}
