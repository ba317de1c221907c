"""Modules that hold modules or parameters: `Sequential`, and lists and dicts that register them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Generic, TypeVar, cast, overload

from tinygrad_mask.nn.module import Module, Parameter, describe_value
from tinygrad_mask.tensor import Tensor

T = TypeVar("T")
L = TypeVar("L", bound="_List[Any]")


class _Container(Module, Generic[T]):
    """What the containers have in common: items of one type, kept as attributes."""

    _item_type: ClassVar[type[Any]]

    def _named_items(self) -> dict[str, T]:
        return {k: v for k, v in vars(self).items() if isinstance(v, self._item_type)}

    def _check_item(self, item: Any, where: str) -> T:
        """Return an item, or raise `TypeError` for what cannot be one."""
        if not isinstance(item, self._item_type):
            got = describe_value(item)
            if isinstance(item, Tensor):
                got += "; wrap it in nn.Parameter(...)"
            raise TypeError(
                f"{type(self).__name__}: expected a {self._item_type.__name__} {where}, got {got}"
            )
        return item

    def __len__(self) -> int:
        return len(self._named_items())


# --- lists ------------------------------------------------------------------------------------


class _List(_Container[T]):
    """What the containers whose items are named by their positions have in common."""

    def _items(self) -> list[T]:
        return list(self._named_items().values())

    def _assign(self, items: list[T]) -> None:
        """Make these the items, named by their positions."""
        for name in self._named_items():
            delattr(self, name)
        for k, item in enumerate(items):
            setattr(self, str(k), item)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items())

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self: L, index: slice) -> L: ...
    def __getitem__(self, index: int | slice) -> Any:
        items = self._items()
        return self._part(index) if isinstance(index, slice) else items[index]

    def _part(self, index: slice) -> Any:
        return type(self)(self._items()[index])  # type: ignore[call-arg]

    def __setitem__(self, index: int, item: T) -> None:
        name = list(self._named_items())[index]
        setattr(self, name, self._check_item(item, f"at position {index}"))

    def __delitem__(self, index: int | slice) -> None:
        items = self._items()
        del items[index]
        self._assign(items)

    def append(self: L, item: T) -> L:
        """Add an item at the end; return self."""
        return self.extend([item])

    def extend(self: L, items: Iterable[T]) -> L:
        """Add items at the end; return self."""
        # A part of a Sequential keeps its names, which may be above its length.
        numbers = [int(name) for name in self._named_items() if name.isdecimal()]
        start = max([len(self) - 1, *numbers]) + 1
        checked = [self._check_item(v, f"at position {k}") for k, v in enumerate(items, start)]
        for k, item in enumerate(checked, start):
            setattr(self, str(k), item)
        return self

    def insert(self, index: int, item: T) -> None:
        """Add an item before a position; all are named by their positions then."""
        items = self._items()
        items.insert(index, self._check_item(item, f"at position {index}"))
        self._assign(items)

    def pop(self, index: int = -1) -> T:
        """Take an item away, by default the last, and return it."""
        item = self._items()[index]
        del self[index]
        return item

    def __add__(self: L, items: Iterable[T]) -> L:
        if not isinstance(items, Iterable):
            return NotImplemented
        return self[:].extend(items)

    def __iadd__(self: L, items: Iterable[T]) -> L:
        return self.extend(items)


class ModuleList(_List[Module]):
    """A list of modules whose parameters belong to the module that holds it.

    Items are named by their positions, `layers.0.weight`. It has no `forward`: index it, or loop
    over it.

    Example:
        >>> self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        >>> for layer in self.layers:
        ...     x = layer(x)
    """

    _item_type = Module

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)


class ParameterList(_List[Parameter]):
    """A list of parameters of the module that holds it, named by their positions.

    Example:
        >>> self.scales = nn.ParameterList([nn.Parameter([1.0]) for _ in range(3)])
    """

    _item_type = Parameter

    def __init__(self, parameters: Iterable[Parameter] = ()) -> None:
        super().__init__()
        self.extend(parameters)


class Sequential(_List[Module]):
    """Modules one after the other; their names are their positions.

    They are given one by one or as a list, or as a dict that also gives their names.

    Example:
        >>> nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> nn.Sequential({"hidden": nn.Linear(4, 8), "output": nn.Linear(8, 2)})
    """

    _item_type = Module

    def __init__(self, *layers: Module | Iterable[Module] | Mapping[str, Module]) -> None:
        super().__init__()
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            for name, layer in layers[0].items():
                self.add_module(name, self._check_item(layer, f"as {name!r}"))
        elif len(layers) == 1 and isinstance(layers[0], (list, tuple, ModuleList)):
            self.extend(layers[0])
        else:
            self.extend(cast(Any, layers))

    def _part(self, index: slice) -> "Sequential":
        return Sequential(dict(list(self._named_items().items())[index]))

    def forward(self, x: Any) -> Any:
        """Hand x from each layer to the next.

        A layer that can end with an activation is handed the one that follows it, so that both are
        a single pass over the memory; the result is the same.
        """
        layers = [value for value in vars(self).values() if isinstance(value, Module)]
        position = 0
        while position < len(layers):
            layer = layers[position]
            following = layers[position + 1] if position + 1 < len(layers) else None
            activation = _own(following, "fused_name")
            if activation and _own(layer, "takes_activation") and not _hooked(layer, following):
                x = cast(Any, layer).forward(x, activation)
                position += 2
            else:
                x = layer(x)
                position += 1
        return x


def _own(module: Module | None, name: str) -> Any:
    """An attribute that the module's own class defines: one that redefines `forward` has none."""
    return vars(type(module)).get(name)


def _hooked(*modules: Module | None) -> bool:
    return any(module is not None and module._hooks is not None for module in modules)


# --- dicts ------------------------------------------------------------------------------------


class _Dict(_Container[T]):
    """What the containers whose items have names have in common."""

    def __setitem__(self, name: str, item: T) -> None:
        checked = self._check_item(item, f"as {name!r}")
        self._check_name(name)
        setattr(self, name, checked)

    def __getitem__(self, name: str) -> T:
        return self._named_items()[name]

    def __delitem__(self, name: str) -> None:
        if name not in self._named_items():
            raise KeyError(name)
        delattr(self, name)

    def __contains__(self, name: object) -> bool:
        return name in self._named_items()

    def __iter__(self) -> Iterator[str]:
        return iter(self._named_items())

    def keys(self) -> Iterable[str]:
        """Return the names, in the order of assignment."""
        return self._named_items().keys()

    def values(self) -> Iterable[T]:
        """Return the items, in the order of assignment."""
        return self._named_items().values()

    def items(self) -> Iterable[tuple[str, T]]:
        """Return pairs of name and item, in the order of assignment."""
        return self._named_items().items()

    def update(self, items: Mapping[str, T] | Iterable[tuple[str, T]]) -> None:
        """Assign several items by name."""
        for name, item in dict(items).items():
            self[name] = item

    def pop(self, name: str) -> T:
        """Take an item away and return it."""
        item = self[name]
        del self[name]
        return item


class ModuleDict(_Dict[Module]):
    """A dict of modules whose parameters belong to the module that holds it.

    Items are named by their keys, `branches.left.weight`. It has no `forward`.

    Example:
        >>> self.branches = nn.ModuleDict({"left": nn.Linear(4, 4), "right": nn.Linear(4, 4)})
        >>> x = self.branches["left"](x)
    """

    _item_type = Module

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        super().__init__()
        self.update(modules)


class ParameterDict(_Dict[Parameter]):
    """A dict of parameters of the module that holds it, named by their keys.

    Example:
        >>> self.scales = nn.ParameterDict({"left": nn.Parameter([1.0])})
    """

    _item_type = Parameter

    def __init__(
        self, parameters: Mapping[str, Parameter] | Iterable[tuple[str, Parameter]] = ()
    ) -> None:
        super().__init__()
        self.update(parameters)
