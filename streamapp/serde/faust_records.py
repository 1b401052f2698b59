"""``faust.Record`` classes as value types, told by their marks so that Faust is never imported.

A message must never choose the class it becomes: Faust's ``__faust`` namespace, which can name any
registered model, is dropped at every level before Faust sees the data. Names that the class does
not declare are dropped too, since Faust would set them as attributes, over its own methods.
"""

from __future__ import annotations

from typing import Any

_NAMESPACE = "__faust"


def is_faust_record(value: object) -> bool:
    """Say whether this class, or the instance's class, is a Faust model."""
    return hasattr(value, "__is_model__") and hasattr(value, "to_representation")


def declared_codec(model: Any) -> str | None:  # noqa: ANN401 - Faust is not imported here
    """Return the codec of ``class Order(faust.Record, serializer=...)``, where there is one."""
    options = getattr(model, "_options", None)
    codec: str | None = getattr(options, "serializer", None)
    return codec


def from_data(model: Any, data: object) -> object:  # noqa: ANN401 - Faust is not imported here
    """Make a model of a decoded object.

    Faust converts nested fields when they are first read; here all are read at once, so that bad
    data is refused at the edge and not in the middle of an agent.

    Raises:
        TypeError: ``data`` is no object, or a required field is missing.
        Exception: Whatever the model's own validation raises.
    """
    if not isinstance(data, dict):
        message = f"Expected an object, got {type(data).__name__}"
        raise TypeError(message)
    names = [field.input_name for field in model._options.descriptors.values()]  # noqa: SLF001 - documented by Faust
    declared = {name: _without_namespace(data[name]) for name in names if name in data}
    record: object = model.from_data(declared, preferred_type=model)
    _settle(record)
    return record


def to_data(record: Any) -> dict[str, Any]:  # noqa: ANN401 - Faust is not imported here
    """Return what Faust itself would write: fields, and its namespace unless turned off."""
    return dict(record.to_representation())


def _without_namespace(data: object) -> object:
    if isinstance(data, dict):
        return {k: _without_namespace(v) for k, v in data.items() if k != _NAMESPACE}
    if isinstance(data, list):
        return [_without_namespace(item) for item in data]
    return data


def _settle(value: Any) -> None:  # noqa: ANN401 - walks any decoded data
    """Read every field, which is when Faust converts it."""
    if is_faust_record(value):
        for name in value._options.descriptors:  # noqa: SLF001 - documented by Faust
            _settle(getattr(value, name))
    elif isinstance(value, dict):
        for item in value.values():
            _settle(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            _settle(item)
