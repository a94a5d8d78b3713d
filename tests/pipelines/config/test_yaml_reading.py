"""YAML is read as YAML 1.2 means it, and hostile files are refused in words."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pipelines.config.nodes import plain
from pipelines.config.reading import Source, read_scalar, read_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("1e-4", 1e-4, id="exponent without a point"),
        pytest.param("1E3", 1000.0, id="capital exponent"),
        pytest.param(".5", 0.5, id="no digit before the point"),
        pytest.param("5.", 5.0, id="no digit after the point"),
        pytest.param("-0.0", -0.0, id="negative zero"),
        pytest.param("-12", -12, id="negative"),
        pytest.param("+3", 3, id="plus"),
        pytest.param("0x1F", 31, id="hexadecimal"),
        pytest.param("0o17", 15, id="octal"),
        pytest.param("-.inf", -math.inf, id="infinity"),
        pytest.param("true", True, id="true"),
        pytest.param("FALSE", False, id="false"),
        pytest.param("null", None, id="null"),
        pytest.param("~", None, id="tilde"),
        pytest.param("", None, id="nothing"),
        *[
            pytest.param(text, text, id=f"text {text}")
            for text in [
                *("on", "off", "yes", "no", "y", "n", "On", "NO", "tRue", "0123", "0b11", "1_000", "0x", "1e", "1,5"),
                *("12:30:00", "190:20:30", "2026-01-31", "1.2.3", "inf", "nan", ".", "-", "१२"),
            ]
        ],
        pytest.param("9" * 5000, "9" * 5000, id="thousands of digits"),
    ],
)
def test_plain_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    read = read_scalar(text)
    assert type(read) is type(value)
    assert read == value
    assert math.copysign(1, read) == math.copysign(1, value) if isinstance(value, float) else True


def test_nan_is_a_number() -> None:
    assert math.isnan(read_scalar(".nan"))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["'1'", '"true"', "'null'", '"1e-4"', "'~'"])
def test_quoted_scalars_are_text(text: str) -> None:
    node, problems = read_text(text, Source("f", Path()))
    assert node is not None
    assert node.value == text[1:-1]
    assert not problems


def test_positions_count_characters_from_one() -> None:
    node, _ = read_text("ä:\n  - b: ü\n    c: [1, 'é', x]\n", Source("f.yaml", Path()))
    assert node is not None
    inner = node.value["ä"].value[0]  # type: ignore[index, call-overload, union-attr]
    assert inner.value["c"].key_origin.where == "f.yaml:3:5"
    assert inner.value["c"].value[2].origin.where == "f.yaml:3:17"


def test_small_anchors_are_written_out() -> None:
    node, problems = read_text("a: &x [1, {b: 2}]\nc: *x\n", Source("f", Path()))
    assert node is not None
    assert plain(node) == {"a": [1, {"b": 2}], "c": [1, {"b": 2}]}
    assert not problems


def test_whole_numbers_are_keys() -> None:
    node, problems = read_text("{1: a, '2': b}", Source("f", Path()))
    assert node is not None
    assert plain(node) == {"1": "a", "2": "b"}
    assert not problems


_LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(b"", "w.yaml:1:1  is empty", id="empty"),
        pytest.param(b"# only a comment\n", "w.yaml:1:1  is empty", id="only a comment"),
        pytest.param(b"---\n", "w.yaml:1:1  is empty", id="empty document"),
        pytest.param(
            b"- a\n", "w.yaml:1:1  expected keys with values at the top, as in 'task: …', got a list", id="list"
        ),
        pytest.param(
            b"hello\n", "w.yaml:1:1  expected keys with values at the top, as in 'task: …', got 'hello'", id="text"
        ),
        pytest.param(b"a: 1\n---\nb: 2\n", "w.yaml:2:1  a second document starts here", id="two documents"),
        pytest.param(b"a: \x00\n", "w.yaml:1:4  holds a control character (U+0000)", id="NUL"),
        pytest.param(b"a: 1\nb: \x1b[2J\n", "w.yaml:2:4  holds a control character (U+001B)", id="escape sequence"),
        pytest.param(b"\x89PNG\r\n\x1a\n", "w.yaml:1:1  not UTF-8 text (byte 0x89)", id="binary"),
        pytest.param("a: ü\n".encode("latin-1"), "w.yaml:1:4  not UTF-8 text (byte 0xfc)", id="Latin-1"),
        pytest.param("a: 1\n".encode("utf-16"), "w.yaml:1:1  not UTF-8 text", id="UTF-16"),
        pytest.param(b"a: [1, 2\nb: 3\n", "not valid YAML", id="open bracket"),
        pytest.param(b"a:\n\tb: 1\n", "indent with spaces, not with tabs", id="tab"),
        pytest.param(b"a: @x\n", "belongs in quotes", id="reserved character"),
        pytest.param(b"a: {b: ${c}}\n", "a ${…} belongs in quotes", id="reference in braces"),
        pytest.param(b"a: *b\n", "*b refers to no anchor above it", id="alias without anchor"),
        pytest.param(b"a: &a [*a]\n", "*a contains itself", id="alias to itself"),
        pytest.param(_LAUGHS.encode(), "aliases expand to more than 10000 values", id="billion laughs"),
        pytest.param(b"a: " + b"[" * 100_000, "nested deeper than 40 levels", id="deep lists"),
        pytest.param(b"{a: " * 100_000, "nested deeper than 40 levels", id="deep mappings"),
        pytest.param(
            b"".join(b" " * i + b"a:\n" for i in range(200)), "nested deeper than 40 levels", id="deep blocks"
        ),
        pytest.param(b"x" * (1 << 21), "'w.yaml' has 2.0 MiB; a workflow file has at most 1 MiB", id="2 MiB"),
    ],
)
def test_a_file_that_is_no_workflow_is_refused_with_its_place(workspace: Any, text: bytes, expected: str) -> None:
    (problem,) = workspace.problems(text)
    assert expected in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "x: !!python/object/apply:os.system ['touch hacked']\n", "w.yaml:7:4  x: the tag", id="python object"
        ),
        pytest.param("x: !custom 1\n", "w.yaml:7:4  x: the tag '!custom' is refused", id="custom tag"),
        pytest.param("x: !!int '3'\n", "w.yaml:7:4  x: the tag", id="standard tag"),
        pytest.param("_target_: os.system\n", "w.yaml:7:1  _target_: refused: a workflow is data", id="target"),
        pytest.param("train: {_target_: os.system}\n", "w.yaml:7:9  train._target_: refused", id="target inside"),
        pytest.param("<<: {a: 1}\n", "w.yaml:7:1  merge keys (<<) are refused", id="merge key"),
        pytest.param("true: 1\n", "w.yaml:7:1  a key is text, not true", id="boolean key"),
        pytest.param("1.5: 1\n", "w.yaml:7:1  a key is text, not 1.5", id="number key"),
        pytest.param("? [a, b]\n: 1\n", "w.yaml:7:3  a key is text, not a list", id="list key"),
        pytest.param("name: y\n", "w.yaml:7:1  name: duplicate key; it stands at w.yaml:2:1 already", id="duplicate"),
        pytest.param("? !x y\n: 1\n", "w.yaml:7:3  the tag '!x' is refused", id="tagged key"),
    ],
)
def test_what_is_not_plain_data_is_refused(workspace: Any, text: str, expected: str) -> None:
    problems = workspace.problems(workspace.valid + text)
    assert any(expected in problem for problem in problems), problems
    assert not (workspace.folder / "hacked").exists()
    assert not Path("hacked").exists()


def test_shell_text_is_just_text(workspace: Any) -> None:
    text = workspace.valid.replace("path: scans", "path: scans\n  note: $(touch hacked) `touch hacked` $HOME")
    assert workspace.load(text).config.data.note == "$(touch hacked) `touch hacked` $HOME"


def test_a_large_file_is_refused_before_it_is_read(workspace: Any) -> None:
    path = workspace.write("w.yaml", "")
    os.truncate(path, 100 << 20)
    started = time.perf_counter()
    (problem,) = _problems(workspace, path)
    assert "100.0 MiB" in problem
    assert time.perf_counter() - started < 1


def test_a_folder_is_refused_and_its_workflows_named(workspace: Any) -> None:
    workspace.write("flows/b.yaml", "a: 1")
    workspace.write("flows/a.yaml", "a: 1")
    (problem,) = _problems(workspace, workspace.folder / "flows")
    assert problem == "'flows' is a folder; name a workflow file; it holds a.yaml, b.yaml"


def test_a_pipe_is_refused_and_does_not_block(workspace: Any) -> None:
    os.mkfifo(workspace.folder / "pipe.yaml")
    (problem,) = _problems(workspace, workspace.folder / "pipe.yaml")
    assert problem == "'pipe.yaml' is not a regular file"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param("hipocampus.yaml", "no file 'hipocampus.yaml'; did you mean 'hippocampus.yaml'?", id="misspelt"),
        pytest.param(
            "hippocampus.yml", "no file 'hippocampus.yml'; did you mean 'hippocampus.yaml'?", id="other ending"
        ),
        pytest.param("hippocampus", "no file 'hippocampus'; did you mean 'hippocampus.yaml'?", id="no ending"),
        pytest.param(
            "zzz.yaml", "no file 'zzz.yaml' (in that folder: hippocampus.yaml, retina.yaml)", id="nothing near"
        ),
        pytest.param("no/where.yaml", "no file 'no/where.yaml': its folder does not exist", id="no folder"),
        pytest.param(
            "retina.yaml/x.yaml", "no file 'retina.yaml/x.yaml': its folder does not exist", id="below a file"
        ),
    ],
)
def test_a_missing_file_names_the_nearest(workspace: Any, asked: str, expected: str) -> None:
    workspace.write("hippocampus.yaml", "a: 1")
    workspace.write("retina.yaml", "a: 1")
    assert _problems(workspace, workspace.folder / asked) == [expected]


def test_a_byte_order_mark_and_windows_line_ends_are_fine(workspace: Any) -> None:
    text = b"\xef\xbb\xbf" + workspace.valid.replace("\n", "\r\n").encode()
    assert workspace.load(text).config.name == "x"


def test_a_name_of_any_letters_is_shown(workspace: Any) -> None:
    (problem,) = workspace.problems(workspace.valid + "zzz: 1\n", name="ärzte 脳 a:b.yaml")
    assert problem.startswith("ärzte 脳 a:b.yaml:7:1  zzz: unknown key")


def test_thousands_of_problems_are_cut_short_quickly(workspace: Any) -> None:
    text = workspace.valid + "".join(f"k{index}: 1\n" for index in range(10_000))
    started = time.perf_counter()
    problems = workspace.problems(text)
    assert len(problems) == 51
    assert problems[0].startswith("w.yaml:7:1  k0: unknown key")
    assert problems[-1] == "… and 9950 more problems"
    assert time.perf_counter() - started < 10


def _problems(workspace: Any, path: Path) -> list[str]:
    from pipelines.config import load_workflow
    from pipelines.errors import ConfigurationError

    with pytest.raises(ConfigurationError) as caught:
        load_workflow(path, env={}, cwd=workspace.folder)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        pytest.param('extends: "a\\0b"\n', [], "extends: expected a file, got 'a\\x00b'", id="NUL in extends"),
        pytest.param("extends: ~nobody-of-that-name/a\n", [], "extends: no file", id="unknown home in extends"),
        pytest.param("extends: " + "a" * 5000 + "\n", [], "extends: cannot read", id="long name in extends"),
        pytest.param(
            "task: test/stand-in\n", ["name=\udc80"], "name: holds a control character (U+DC80)", id="not Unicode"
        ),
        pytest.param(
            "task: test/stand-in\n", ["\udc80=1"], "holds a character that is not Unicode", id="key that is not Unicode"
        ),
        pytest.param(
            '"a\\nb\\e[31m": 1\ntask: test/stand-in\n', [], "w.yaml:1:1  a\\nb\\x1b[31m: unknown key", id="key"
        ),
    ],
)
def test_odd_characters_neither_crash_nor_reach_the_terminal(
    workspace: Any, text: str, overrides: list[str], expected: str
) -> None:
    problems = workspace.problems(text, *overrides)
    assert any(expected in problem for problem in problems), problems


def test_references_that_nest_without_end_are_refused(workspace: Any) -> None:
    nested = "".join(f"x{index + 1}: {'[' * 38}'${{x{index}}}'{']' * 38}\n" for index in range(60))
    assert workspace.problems(workspace.valid + "x0: 1\n" + nested)


def test_a_variable_that_is_not_unicode_is_refused_in_words(workspace: Any) -> None:
    text = workspace.valid.replace("path: scans", "path: scans\n  note: ${env:NOTE}")
    (problem,) = workspace.problems(text, env={"NOTE": "\udc80"})
    assert problem == "w.yaml:5:9  data.note: the environment variable NOTE holds bytes that are not UTF-8 text"
