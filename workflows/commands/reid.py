"""`reid`: a gallery that can be searched, and deleted."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.errors import ConfigurationError, ExitCode
from workflows.commands.arguments import JsonOption
from workflows.console import next_steps, print_json, print_table, say

if TYPE_CHECKING:
    from domains.reid.index.embedding_files import StoredEmbeddings
    from domains.reid.index.embedding_images import FailedImage, LabelledImage
    from domains.reid.index.search import Found

__all__ = ["reid"]

reid = typer.Typer(
    help="Search a gallery for people, vehicles or other individuals. Embeddings of people are biometric data.",
    no_args_is_help=True,
)

IndexArgument = Annotated[Path, typer.Argument(metavar="INDEX", help="An index, made by `pulvinar reid index`.")]
PatternOption = Annotated[
    str | None,
    typer.Option(metavar="PATTERN", help="What the paths of the images tell, like '{identity}/{camera}_*.png'."),
]
IdentityOption = Annotated[
    str | None,
    typer.Option(metavar="TEMPLATE", help="What the identity is made of, where {identity} is not: '{type}_{number}'."),
]
TableOption = Annotated[
    Path | None, typer.Option(metavar="CSV", help="Table of the images: path, identity and, where known, camera.")
]
DeviceOption = Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")]


@reid.command("index")
def make_index(
    gallery: Annotated[
        Path, typer.Argument(metavar="GALLERY", help="A folder of images, or what `pulvinar predict` made of them.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="INDEX", help="The folder that becomes the index.")],
    model: Annotated[Path | None, typer.Option(help="The model that embeds; for images.", metavar="MODEL")] = None,
    pattern: PatternOption = None,
    identity: IdentityOption = None,
    table: TableOption = None,
    images: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the images lie, when embeddings are indexed.")
    ] = None,
    false_match_rate: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Choose a threshold, like 0.001: below it nobody is recognised."),
    ] = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> int:
    """Embed a gallery and write an index of it. An index that is there is replaced in one step."""
    from domains.reid.index.embedding_files import holds_embeddings, read_embeddings
    from domains.reid.index.embedding_images import FailedImage, LabelledImage
    from domains.reid.index.gallery import write_index
    from domains.reid.index.labels import add_labels, labelled_images
    from domains.reid.index.operating_point import gallery_threshold

    if false_match_rate is not None and not 0 < false_match_rate < 1:
        raise ConfigurationError(
            f"--false-match-rate {false_match_rate:g} is no share of pairs",
            hint="Give a number above 0 and below 1, such as 0.001.",
        )
    root = images or (None if holds_embeddings(gallery) else gallery)
    labels, left_out = None, dict[str, str]()
    if pattern is not None or table is not None:
        below = root or (table.parent if table else gallery)
        labels, left_out = labelled_images(below, pattern=pattern, identity=identity, table=table)
    failed: list[FailedImage] = []
    if holds_embeddings(gallery):
        stored = read_embeddings(gallery)
        _check_digest(stored, model)
        if labels is not None:
            stored = add_labels(stored, labels, below)
    elif model is None:
        raise ConfigurationError(
            f"{gallery} holds no embeddings, and images need a model",
            hint=f"pulvinar reid index {gallery} --model MODEL --out {out}",
        )
    else:
        images_named = [LabelledImage(gallery)] if labels is None else labels
        stored, failed = _embed(model, images_named, (), gallery, device)
        failed += [FailedImage(name, reason) for name, reason in left_out.items()]
    chosen = None if false_match_rate is None else gallery_threshold(stored, false_match_rate)
    index = write_index(out, stored, threshold=chosen, model=model, images=root)
    code = ExitCode.SOME_FAILED if failed else ExitCode.OK
    if json:
        print_json({**index.record, "failed": [vars(one) for one in failed], "exit_code": int(code)})
        return code
    rows: list[tuple[str, object]] = [
        ("images", len(index)),
        ("identities", index.record["identities"]),
        ("cameras", index.record["cameras"]),
        ("channels", index.record["channels"]),
    ]
    if chosen:
        rows += [
            ("threshold", float(chosen["threshold"])),
            ("false-match rate", float(chosen["false_match_rate"])),
            ("true-match rate", "no pair to tell" if chosen["true_match_rate"] is None else chosen["true_match_rate"]),
        ]
    if index.record["approximate"]:
        rows.append(("recall of the approximate index", index.record["approximate"]["recall_at_10"]))
    print_table(("index", out.name), rows)
    _tell_failures(failed)
    say("embeddings of people are biometric data; delete the index with: pulvinar reid delete")
    next_steps({"index": out}, [f"pulvinar reid search {out} IMAGE", f"pulvinar reid delete {out}"])
    return code


@reid.command("search")
def search_index(
    index: IndexArgument,
    queries: Annotated[
        list[Path], typer.Argument(metavar="QUERY...", help="Images, one folder of images, or one of embeddings.")
    ],
    model: Annotated[
        Path | None, typer.Option(help="The model that embeds; that of the index by default.", metavar="MODEL")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many images to show for each query.")] = 10,
    threshold: Annotated[
        float | None, typer.Option(help="Below this score the answer is 'unknown'; that of the index by default.")
    ] = None,
    camera: Annotated[list[str] | None, typer.Option(help="Only images of this camera.")] = None,
    not_camera: Annotated[list[str] | None, typer.Option(help="No images of this camera.")] = None,
    pattern: PatternOption = None,
    identity: IdentityOption = None,
    table: TableOption = None,
    picture: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw the ranked lists to this file.")] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the gallery's images lie now, for the picture.")
    ] = None,
    query_images: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of the queries' images, which the pattern is below.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every image, however many there are.")] = False,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> int:
    """Find the most alike images of a gallery, and say who it is, or that it is unknown."""
    from domains.reid.index.approximate import faiss_is_installed
    from domains.reid.index.gallery import APPROXIMATE_FROM, read_index
    from domains.reid.index.labels import labelled_images
    from domains.reid.index.search import search_gallery

    opened = read_index(index)
    if len(opened) > APPROXIMATE_FROM and not exact and not (faiss_is_installed() and opened.record["approximate"]):
        say(f"comparing with all {len(opened):,} images; pip install 'pulvinar[search]' and a new index make it faster")
    root = query_images or _common_folder(queries)
    labels = None
    if pattern is not None or table is not None:
        labels, _ = labelled_images(root, pattern=pattern, identity=identity, table=table)
    asked, failed = _read_queries(queries, model or opened.place("model"), labels, root, device)
    found = search_gallery(
        opened,
        asked,
        top=top,
        threshold=threshold,
        cameras=camera or (),
        without_cameras=not_camera or (),
        exact=exact,
    )
    if picture is not None:
        _draw(found, picture, queries=root, gallery=images or opened.place("images"))
    code = ExitCode.SOME_FAILED if failed else ExitCode.OK
    if json:
        print_json(
            {
                "threshold": opened.threshold if threshold is None else threshold,
                "queries": [_plain(one) for one in found],
                "failed": [vars(one) for one in failed],
                "exit_code": int(code),
            }
        )
        return code
    for one in found:
        columns = ("rank", "score", "identity", "camera", "image", "")
        rows = [
            ("–" if hit.status == "junk" else hit.rank, hit.score, hit.identity, hit.camera, hit.item, hit.status)
            for hit in one.hits
        ]
        print_table(columns, rows, title=f"{one.query} → {one.answer}")
    _tell_failures(failed)
    next_steps({"picture": picture} if picture else {}, [])
    return code


@reid.command("delete")
def delete(
    index: IndexArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> int:
    """Delete an index whole. Anything that is no index, or holds other files, is left as it is."""
    from domains.reid.index.gallery import check_deletable, delete_index

    images = check_deletable(index)
    question = f"Delete {index} with the embeddings of {images:,} images?"
    if not yes and not (sys.stdin.isatty() and typer.confirm(question, err=True)):
        raise ConfigurationError("nothing was deleted", hint="Say yes, or give --yes.")
    delete_index(index)
    if json:
        print_json({"deleted": str(index), "images": images})
    else:
        say(f"deleted {index}: the embeddings of {images:,} images")
    return ExitCode.OK


def _embed(
    model: Path, images: Sequence[LabelledImage], labels: Sequence[LabelledImage], root: Path, device: str
) -> tuple[StoredEmbeddings, list[FailedImage]]:
    from domains.reid.index.embedding_images import embed_images
    from workflows.commands.arguments import known_device

    missing = [str(image.path) for image in images if not image.path.exists()]
    if missing:
        raise ConfigurationError(f"there is no {', '.join(missing[:3])}")

    def report(done: int, total: int) -> None:
        if done % 1000 == 0 or (done == total and total > 100):
            say(f"{done:,} of {total:,} images embedded")

    stored, failed = embed_images(model, images, root=root, labels=labels, device=known_device(device), report=report)
    _tell_unknown_cameras(model, stored)
    return stored, failed


def _tell_unknown_cameras(model: Path, stored: StoredEmbeddings) -> None:
    """A network that is told the camera embeds a picture otherwise where none is told: that should not go unseen."""
    from pipelines.modelfolder import read_model_record

    known = set(read_model_record(model).description.get("plan", {}).get("cameras", ()))
    unknown = int((~stored.table["camera"].isin(known)).sum())
    if known and unknown:
        say(
            f"the model is told which camera took a picture ({', '.join(sorted(known))}); "
            f"{unknown:,} of {len(stored):,} images name none of these: "
            "give --pattern or --table, in the index and in the search alike"
        )


def _read_queries(
    queries: list[Path], model: Path | None, labels: Sequence[LabelledImage] | None, root: Path, device: str
) -> tuple[StoredEmbeddings, list[FailedImage]]:
    from domains.reid.index.embedding_files import holds_embeddings, read_embeddings
    from domains.reid.index.embedding_images import LabelledImage
    from domains.reid.index.labels import add_labels

    if len(queries) == 1 and holds_embeddings(queries[0]):
        stored = read_embeddings(queries[0])
        return (stored if labels is None else add_labels(stored, labels, root)), []
    if model is None:
        raise ConfigurationError("images need a model, and the index names none", hint="Give --model MODEL.")
    return _embed(model, [LabelledImage(path) for path in queries], labels or (), root, device)


def _check_digest(stored: StoredEmbeddings, model: Path | None) -> None:
    """Raises `ConfigurationError` where embeddings and a model that was named do not belong together."""
    if model is None:
        return
    from pipelines.modelfolder import read_model_record

    digest = read_model_record(model).digest
    if stored.model_digest != digest:
        raise ConfigurationError(
            f"the embeddings were made by model {stored.model_digest[:12] or 'unknown'}, {model} is {digest[:12]}",
            hint="Name the model that made them, or predict again.",
        )


def _common_folder(paths: list[Path]) -> Path:
    return Path(os.path.commonpath([os.path.abspath(path if path.is_dir() else path.parent) for path in paths]))


def _draw(found: list[Found], picture: Path, *, queries: Path, gallery: Path | None) -> None:
    from PIL import Image

    from domains.reid.index.pictures import draw_ranked_lists, rows_of_search

    drawn = draw_ranked_lists(rows_of_search(found, queries=queries, gallery=gallery))
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(drawn).save(picture)


def _plain(found: Found) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(found)


def _tell_failures(failed: list[FailedImage]) -> None:
    if failed:
        print_table(("image without an embedding", "reason"), [(one.source, one.reason) for one in failed])
