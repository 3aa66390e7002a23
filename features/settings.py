"""Typed settings that reject unknown keys and report every mistake at once."""

from __future__ import annotations

from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from features.errors import combined_error, nearest


class Settings(BaseModel):
    """Base of every block of parameters: frozen, no unknown keys, no silent conversions of type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())


S = TypeVar("S", bound=Settings)


def parse(model: type[S], values: object, where: str) -> S:
    """Create a `model` from plain YAML values.

    Args:
        model: The class to create.
        values: A mapping of keys to values, as YAML or JSON gives it.
        where: The place of the values, for the error message, such as `params.yaml: methods.coop`.

    Raises:
        InputError: Lists every key that is unknown, missing, of the wrong type or out of range.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [_describe(model, problem) for problem in error.errors(include_url=False)]
        raise combined_error(problems, f"{where} cannot be used") from None


def _describe(model: type[Settings], problem: Any) -> str:
    """Return one line for an error of pydantic."""
    key = ".".join(str(part) for part in problem["loc"]) or "(the block itself)"
    if problem["type"] == "extra_forbidden":
        owner = _owner(model, problem["loc"][:-1])
        return f"{key}: unknown key; {nearest(str(problem['loc'][-1]), owner.model_fields if owner else ())}"
    if problem["type"] == "missing":
        return f"{key}: missing"
    return f"{key}: invalid value {problem['input']!r}: {problem['msg']}"


def _owner(model: type[Settings], path: tuple[int | str, ...]) -> type[Settings] | None:
    """Return the nested model at a path of keys, so that its known keys can be listed."""
    owner: type[Settings] | None = model
    for part in path:
        field = owner.model_fields.get(str(part)) if owner else None
        # An index or a free key inside a list or mapping has no field: the owner is the element type.
        if field is None:
            continue
        candidates = [field.annotation, *get_args(field.annotation)]
        owner = next((c for c in candidates if isinstance(c, type) and issubclass(c, Settings)), None)
    return owner
