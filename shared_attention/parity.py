"""Our modules against published ones: build from the authors' arguments, load their state, compare what comes out.

A reference is a folder `NAME/CASE/` with `meta.json` (`constructor`, and where the module is called with more than
tensors `forward_args` and `recurrence`), `state.safetensors` (parameters and buffers under the authors' names) and
`io.safetensors` (`in.*` and `out*`); see `published` for how it is mapped onto ours.

    verdicts = verify(Path("golden"), ["swin_block", "window"])   # by reference, by case, or by mechanism
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import torch

from shared_attention.published import Adapter, Given, State, adapter_classes
from shared_attention.registry import card, cards

__all__ = ["Status", "Verdict", "verify"]

Status = Literal["equal", "different", "failed", "missing", "unclaimed"]


@dataclass(frozen=True)
class Verdict:
    """What came of one case."""

    case: str
    """`NAME/CASE`."""
    mechanism: str
    """Ours; empty where no card and no adapter names the reference."""
    status: Status
    """`equal`, `different`, `failed` (could not be built, loaded or run), `missing` (a card names the reference, but
    it has
    no adapter), `unclaimed` (no card names it)."""
    difference: float | None
    """Largest absolute difference of all outputs, None where nothing was compared."""
    tolerance: float | None
    message: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing is wrong; an unclaimed reference is not wrong."""
        return self.status in ("equal", "unclaimed")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"good": self.good}


def verify(golden: Path, names: Sequence[str] | None = None) -> list[Verdict]:
    """Hold our modules against references.

    Args:
        golden: Folder of references, `NAME/CASE/`.
        names: References, cases (`NAME/CASE`) or mechanisms to hold; all by default.

    Returns:
        A verdict for each case, sorted by name.

    Raises:
        ValueError: The folder holds no references, or a name is none of them.
    """
    found = sorted(meta.parent for meta in golden.glob("*/*/meta.json"))
    if not found:
        raise ValueError(f"{golden.name or golden} holds no references: NAME/CASE/meta.json")
    claims = _claims()
    if names is not None:
        found = list(_chosen(found, names, claims))
    return [_judge(folder, claims.get(folder.parent.name, "")) for folder in found]


def _claims() -> dict[str, str]:
    """Mechanism of each reference that a card or an adapter names."""
    claims = {fixture: adapter.mechanism for fixture, adapter in adapter_classes().items()}
    return claims | {fixture: name for name, one in cards().items() for fixture in one.fixtures}


def _chosen(found: Sequence[Path], names: Sequence[str], claims: Mapping[str, str]) -> Iterator[Path]:
    keys = {folder: (folder.parent.name, f"{folder.parent.name}/{folder.name}") for folder in found}
    known = {key for both in keys.values() for key in both} | set(claims.values())
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            raise ValueError(
                f"no reference or mechanism is called {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
            )
    for folder, both in keys.items():
        if not {*both, claims.get(both[0], "")}.isdisjoint(names):
            yield folder


def _judge(folder: Path, mechanism: str) -> Verdict:
    case = f"{folder.parent.name}/{folder.name}"
    adapter = adapter_classes().get(folder.parent.name)
    if adapter is None:
        if mechanism:
            return Verdict(
                case, mechanism, "missing", None, None, f"{mechanism} names this reference and has no adapter for it"
            )
        return Verdict(case, "", "unclaimed", None, None, "no mechanism names this reference")
    try:
        difference, message = _compare(folder, adapter)
    except Exception as error:  # noqa: BLE001 - one case ends here, the others go on
        return Verdict(case, mechanism, "failed", None, adapter.tolerance, f"{type(error).__name__}: {error}")
    return Verdict(case, mechanism, "different" if message else "equal", difference, adapter.tolerance, message)


def _compare(folder: Path, adapter: type[Adapter]) -> tuple[float, str]:
    from safetensors.torch import load_file

    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / "io.safetensors")
    inputs = {name[3:]: value for name, value in tensors.items() if name.startswith("in.")}
    expected = {name: value for name, value in tensors.items() if name == "out" or name.startswith("out.")}
    state = {name: value for name, value in load_file(folder / "state.safetensors").items() if name != "_empty"}
    call = dict(meta.get("forward_args") or {})
    if "recurrence" in meta:
        call["recurrence"] = meta["recurrence"]
    used = adapter(Given(meta.get("constructor") or {}), State(state), inputs, call)
    if "/" not in used.mechanism:  # of a network elsewhere, no card is known here
        card(used.mechanism)  # an adapter must belong to a registered mechanism
    module = used.load()
    with torch.no_grad():
        outputs = used.run(module)
    worst, messages = 0.0, []
    for name, wanted in expected.items():
        if name not in outputs:
            messages.append(f"{name} is not given")
            continue
        ours = outputs[name]
        if ours.shape != wanted.shape:
            messages.append(f"{name} is {tuple(ours.shape)}, not {tuple(wanted.shape)}")
            continue
        apart = (ours.double() - wanted.double()).abs()
        largest = float(apart.max()) if apart.numel() else 0.0
        worst = max(worst, largest) if largest == largest else largest
        exact = not wanted.is_floating_point()
        allowed = torch.zeros(()) if exact else used.tolerance * (1 + wanted.double().abs())
        if not bool((apart <= allowed).all()):
            messages.append(f"{name} differs by {largest:.3g}")
    return worst, "; ".join(messages)
