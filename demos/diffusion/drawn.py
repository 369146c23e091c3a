"""The drawings of the last half hour, each under a key that only its visitor holds: the sections look into one without drawing it again."""

import threading

from genkit import core, diffusion, keep, models

BYTES = 400_000_000  # of all drawings together


class Drawings(keep.Shelf):
    """(model, trace) by key. The oldest go first when there are too many, or too much of them."""

    def _tidy(self) -> None:
        super()._tidy()
        while len(self._models) > 1 and sum(trace.bytes() for _, (_, trace) in self._models.values()) > BYTES:
            self._models.popitem(last=False)


_shelf = Drawings(cap=64)
_first: dict[str, tuple] = {}  # what the tab opens with belongs to everybody, and stays
_writing = threading.Lock()


def put(model: str, trace, *, first: bool = False) -> str:
    """The key of a drawing."""
    if first:
        with _writing:
            _first["first"] = (model, trace)
        return "first"
    return _shelf.put((model, trace))


def get(key) -> tuple:
    """(model, trace) of a drawing. Raises Problem for one that is not kept any more."""
    if key in _first:
        return _first[key]
    try:
        return _shelf.get(str(key))
    except core.Problem:
        raise core.Problem(
            "this drawing is not kept any more (30 minutes after its last use); press Draw again",
            "这次绘制的步骤已不再保留（最后一次使用后保留 30 分钟）；请重新点“画图”",
        ) from None


def there(key):
    """The trace of a drawing, or None."""
    try:
        return get(key)[1]
    except core.Problem:
        return None


def looked(key, k, index) -> tuple:
    """(trace, x_t, x0, noise) of a drawing before step k, the three of one picture."""
    model, trace = get(key)
    with models.guarded():
        shown = diffusion.look(models.use("diffusion", model), trace, k, index)
    return trace, *shown
