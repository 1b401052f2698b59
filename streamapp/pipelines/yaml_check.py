"""Parts of a document against their models: every fault with its place, and what to write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

from pydantic import ValidationError

from streamapp.pipelines.yaml_schema import Model
from streamapp.pipelines.yaml_text import Document, Path, YamlError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

M = TypeVar("M", bound=Model)
#: Names in a hint: a module may have hundreds.
_MOST_TOLD: Final = 30


def checked(document: Document, path: Path, data: Any, model: type[M]) -> M:
    """Return a part as its model.

    Raises:
        YamlError: It is none; all faults are told, one in a line.
    """
    try:
        return model.model_validate(data)
    except ValidationError as exc:
        faults: dict[str, str] = {}
        for fault in exc.errors():
            place, told = _explained(document, path, fault, model)
            # Where several forms are allowed, each of them says why it is not that one.
            faults[place] = f"{faults[place]}; or: {told}" if place in faults else told
        raise YamlError("\n".join(f"{at}: {told}" for at, told in faults.items())) from None


def chosen(
    document: Document, path: Path, data: Any, words: Mapping[str, type[M]]
) -> tuple[str, M]:
    """Return the word of a part, and the part as the model of that word.

    The word may stand anywhere: entries that ``<<`` brings come first, and names of a mapping have
    no order. A word alone (``count``) is one without a value.

    Raises:
        YamlError: It has no known word, or two of them, or is not what the word asks for.
    """
    if isinstance(data, str) and data in words:
        data = {data: None}
    if not isinstance(data, dict) or not data:
        message = f"{data!r:.60} says nothing that is known here"
        raise document.fault(path, message, f"Write one of {', '.join(words)}, as `word: value`")
    word, *others = [name for name in data if name in words] or data
    if word not in words:
        raise document.fault((*path, word), f"{word} is not known here", near(word, words))
    for other in others:
        message = f"{other} stands beside {word}"
        raise document.fault((*path, other), message, "Begin another part with one of them")
    return word, checked(document, path, data, words[word])


def near(name: str, known: Iterable[str]) -> str:
    """Return the hint for a name that is not known."""
    close = get_close_matches(name, known := list(known), n=1)
    if close:
        return f"Did you mean {close[0]}?"
    more = f", and {len(known) - _MOST_TOLD} more" if len(known) > _MOST_TOLD else ""
    return f"Known: {', '.join(known[:_MOST_TOLD]) or 'none'}{more}"


def _explained(
    document: Document, path: Path, fault: ErrorDetails, model: type[Model]
) -> tuple[str, str]:
    place = (*path, *fault["loc"])
    while place not in document.lines and len(place) > len(path):
        place = place[:-1]
    match fault["type"]:
        case "extra_forbidden":
            *above, name = fault["loc"]
            known = _names(_model_at(model, above))
            return document.place(place), f"{name} is not known here. {near(str(name), known)}"
        case "missing":
            return document.place(place), f"{fault['loc'][-1]} is missing"
    reason = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return document.place(place), f"{reason}, not {fault['input']!r:.60}"


def _model_at(model: type[Model], loc: Iterable[str | int]) -> type[Model]:
    """Return the model of a part inside of a part."""
    for name in loc:
        for other, field in model.model_fields.items():
            if name in (other, field.alias):
                model = next(_models_in(field.annotation), model)
    return model


def _models_in(annotation: Any) -> Iterator[type[Model]]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _names(model: type[Model]) -> list[str]:
    """Return the fields of a model as they are written."""
    return [field.alias or name for name, field in model.model_fields.items()]
