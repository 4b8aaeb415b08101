"""Arguments and results to JSON and back, by the function's own annotations.

A payload is one JSON object of named parameters, so that any language can enqueue. ``msgspec`` encodes and checks;
pydantic models go through their own validators. Never pickle.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import math
import typing
from typing import TYPE_CHECKING, Any

import msgspec

from windlass.errors import PayloadError, SignatureError

if TYPE_CHECKING:
    from collections.abc import Callable

_KINDS = inspect.Parameter


def _same(value: Any) -> Any:
    return value


def _encode_other(value: Any) -> Any:
    if hasattr(type(value), "model_dump"):  # pydantic, without importing it
        return value.model_dump(mode="json")
    raise NotImplementedError(f"{type(value).__qualname__} has no JSON form")


def _decode_other(kind: Any, value: Any) -> Any:
    if hasattr(kind, "model_validate"):
        return kind.model_validate(value)
    raise NotImplementedError(f"{kind!r} cannot be made from JSON")


_encoder = msgspec.json.Encoder(enc_hook=_encode_other)


def encode(value: Any, *, task: str, what: str, limit: int) -> bytes:
    """Encode *value* as JSON.

    Raises:
        PayloadError: it has no JSON form, or needs more than *limit* bytes.
    """
    try:
        data = _encoder.encode(value)
        if b"null" in data:  # which is what NaN and infinity would silently become
            _check_numbers(value)
    except (TypeError, ValueError, OverflowError, NotImplementedError, RecursionError) as error:
        raise PayloadError(f"the {what} of task {task!r} cannot be stored as JSON: {error}", task=task) from error
    if len(data) > limit:
        message = f"the {what} of task {task!r} needs {len(data):,} bytes, more than the {limit:,} allowed"
        raise PayloadError(f"{message}; store the data elsewhere and pass a reference", task=task)
    return data


def _check_numbers(value: Any) -> None:
    """Refuse numbers that JSON does not have, in plain containers; typed fields refuse the null that they became."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value!r} is not a JSON number")
    elif isinstance(value, dict):
        for inner in value.values():
            _check_numbers(inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            _check_numbers(inner)


class Codec:
    """How one function's arguments cross the store."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        task: str,
        context: type,
        raw: bool = False,
        payload_type: type | None = None,
        each: bool = False,
    ) -> None:
        self.task = task
        self.each = each
        """Whether a payload has one item of the list that the function takes."""
        raw = raw or payload_type is not None
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError) as error:
            raise SignatureError(f"task {task!r}: {function!r} has no signature that can be read") from error
        hints = _hints(function)
        returns = hints.pop("return", Any)
        # A handler that says it returns nothing may have a result all the same, from its transaction.
        self._returns = Any if returns is type(None) else returns
        self._results: msgspec.json.Decoder[Any] | None = None
        self.context_place: int | None = None
        parameters = []
        for place, parameter in enumerate(signature.parameters.values()):
            annotation = hints.get(parameter.name, parameter.annotation)
            if annotation is context or annotation in ("Context", "windlass.Context"):
                if self.context_place is not None:
                    raise SignatureError(f"task {task!r} takes more than one Context")
                self.context_place = place
                self.context_name = parameter.name
            else:
                parameters.append(parameter)
        self.raw = raw
        self._check(parameters)
        if each:
            self._check_each(parameters, hints)
        self._signature = signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
        self._open = any(p.kind is _KINDS.VAR_KEYWORD for p in parameters)
        unusual = raw or any(p.kind is not _KINDS.POSITIONAL_OR_KEYWORD for p in parameters)
        self._plain = () if unusual else tuple(p.name for p in parameters)
        self._known = frozenset(self._plain)
        self._required = frozenset(p.name for p in parameters if p.default is _KINDS.empty)
        self._defaults = {p.name: p.default for p in parameters if p.default is not _KINDS.empty}
        if raw:
            self.names = (parameters[0].name,)
            self._decoder = self._made(payload_type or Any)
        else:
            self._decoder = self._build(parameters, hints)

    def _check(self, parameters: list[inspect.Parameter]) -> None:
        for parameter in parameters:
            if parameter.kind in (_KINDS.POSITIONAL_ONLY, _KINDS.VAR_POSITIONAL):
                spelt = f"*{parameter.name}" if parameter.kind is _KINDS.VAR_POSITIONAL else f"{parameter.name}, /"
                raise SignatureError(
                    f"task {self.task!r} takes {spelt!r}: arguments are stored by name, so every parameter needs one"
                )
        required = [p for p in parameters if p.default is _KINDS.empty]
        if self.raw and (not parameters or len(required) > 1):
            raise SignatureError(f"raw task {self.task!r} must take exactly one parameter, the JSON value")

    def _check_each(self, parameters: list[inspect.Parameter], hints: dict[str, Any]) -> None:
        """Let the one parameter, a list, stand for its items."""
        wanted = f"task {self.task!r} takes chunks: it needs exactly one parameter, a list of what each job carries"
        if len(parameters) != 1 or parameters[0].kind is _KINDS.VAR_KEYWORD:
            raise SignatureError(wanted)
        [parameter] = parameters
        hint = hints.get(parameter.name, Any)
        origin = typing.get_origin(hint) or hint
        if parameter.default is not _KINDS.empty or (
            hint is not Any and origin not in (list, collections.abc.Sequence)
        ):
            raise SignatureError(f"{wanted}; {parameter.name!r} is not one")
        hints[parameter.name] = next(iter(typing.get_args(hint)), Any)

    def _build(self, parameters: list[inspect.Parameter], hints: dict[str, Any]) -> msgspec.json.Decoder[Any]:
        fields: list[Any] = []
        for parameter in parameters:
            if parameter.kind is _KINDS.VAR_KEYWORD:
                continue
            kind = hints.get(parameter.name, Any)
            kind = Any if kind is object else kind  # to msgspec ``object`` is a class of its own
            if parameter.default is _KINDS.empty:
                fields.append((parameter.name, kind))
                continue
            kind = kind | None if parameter.default is None and kind is not Any else kind
            default = parameter.default
            factory = msgspec.field(default_factory=functools.partial(_same, default))
            fields.append((parameter.name, kind, factory))
        self.names = tuple(field[0] for field in fields)
        name = f"{self.task} arguments"
        return self._made(lambda: msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=not self._open))

    def _made(self, kind: Any) -> msgspec.json.Decoder[Any]:
        try:
            kind = kind() if inspect.isfunction(kind) else kind
            return msgspec.json.Decoder(kind, dec_hook=_decode_other)
        except (TypeError, ValueError, NotImplementedError, RecursionError) as error:
            raise SignatureError(f"task {self.task!r}: its annotations cannot be read from JSON: {error}") from error

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Bind a call to the signature, without its Context.

        Raises:
            TypeError: the arguments do not fit, as the plain call would say it.
        """
        # Binding by inspect costs more than all the rest of an enqueue; it is kept for what is unusual or wrong.
        if not self._plain or len(args) > len(self._plain):
            return self._bind(args, kwargs)
        named = dict(zip(self._plain, args, strict=False))
        if kwargs:
            if not named.keys().isdisjoint(kwargs):
                return self._bind(args, kwargs)
            named.update(kwargs)
        if self._required <= named.keys() <= self._known:
            return named
        return self._bind(args, kwargs)

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.context_place is not None and self.context_name in kwargs:
            raise TypeError(f"{self.task}() is given its {self.context_name!r} by the worker")
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.task}() {error}") from None
        if self.raw:
            return next(iter(bound.arguments.values()), None)
        if not self._open:
            return bound.arguments
        flat: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            if self._signature.parameters[name].kind is _KINDS.VAR_KEYWORD:
                flat.update(value)
            else:
                flat[name] = value
        return flat

    def named(self, payload: bytes) -> Any:
        """Return a payload's JSON with the defaults of what it leaves out, for keys made of arguments."""
        given = msgspec.json.decode(payload)
        if self.raw or not isinstance(given, dict):
            return given
        left_out = {name: value for name, value in self._defaults.items() if name not in given}
        if not left_out:
            return given
        return {**msgspec.json.decode(encode(left_out, task=self.task, what="default", limit=1 << 20)), **given}

    def check(self, payload: bytes) -> None:
        """Check that *payload* fits the task.

        Raises:
            PayloadError: it does not.
        """
        try:
            self._decoder.decode(payload)
        except Exception as error:
            raise self._misfit(error) from error

    def _misfit(self, error: Exception) -> PayloadError:
        return PayloadError(f"the payload does not fit task {self.task!r}: {error}", task=self.task)

    def result(self, encoded: bytes) -> Any:
        """Convert a stored result to what the function says that it returns; without a word of that, it is JSON.

        Raises:
            PayloadError: it does not fit.
        """
        if self._results is None:
            try:
                self._results = msgspec.json.Decoder(self._returns, dec_hook=_decode_other)
            except (TypeError, ValueError, NotImplementedError, RecursionError):  # what it returns is no JSON type
                self._results = msgspec.json.Decoder(Any)
        try:
            return self._results.decode(encoded)
        except Exception as error:  # pydantic's and the user's own validators may raise anything
            message = f"the result of task {self.task!r} is not what it says that it returns: {error}; see job.result"
            raise PayloadError(message, task=self.task) from error

    def decode(self, payload: bytes) -> dict[str, Any]:
        """Convert a payload to the named arguments of a call, without its Context.

        Raises:
            PayloadError: it does not fit the annotated types.
        """
        try:
            struct = self._decoder.decode(payload)
            if self.raw:
                return {self.names[0]: struct}
            named = {name: getattr(struct, name) for name in self.names}
            if self._open:
                named.update((k, v) for k, v in msgspec.json.decode(payload).items() if k not in named)
        except Exception as error:  # pydantic's and the user's own validators may raise anything
            raise self._misfit(error) from error
        return named


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    target = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    try:
        hints = typing.get_type_hints(target, include_extras=True)
    except Exception:  # noqa: BLE001 - a name that exists for type checkers only; those parameters take any JSON
        hints = {}
        for name, annotation in getattr(target, "__annotations__", {}).items():
            if not isinstance(annotation, str):
                hints[name] = annotation
                continue
            try:
                hints[name] = eval(annotation, getattr(target, "__globals__", {}))  # noqa: S307 - the task's own code
            except Exception:  # noqa: BLE001
                hints[name] = annotation if annotation in ("Context", "windlass.Context") else Any
    return hints
