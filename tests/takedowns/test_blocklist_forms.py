"""Lists of hashes are read in the forms that people and other tools write, or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from a_blocklist import block, listed
from a_project import Project

HASHES = [hashlib.sha256(bytes([n])).hexdigest() for n in range(3)]
MD5 = hashlib.md5(b"1").hexdigest()
FORMS = {
    "a column": (["--kind", "sha256"], "\n".join(HASHES), {("sha256", h) for h in HASHES}),
    "with a header": ([], f"sha256\n{HASHES[0]}\n", {("sha256", HASHES[0])}),
    "sha256sum": (
        ["--kind", "sha256"],
        f"{HASHES[0]}  a, b.jpg\n{HASHES[1]} *c.jpg",
        {("sha256", h) for h in HASHES[:2]},
    ),
    "kinds in a column": (
        [],
        f"# shared\n\nhash;kind;reason\n{HASHES[0]};PDQ;x\n{MD5.upper()};photo_md5;\n"
        f"{HASHES[1]};HASH_SHA256;y\n",
        {("pdq", HASHES[0]), ("md5", MD5), ("sha256", HASHES[1])},
    ),
    "a column of each kind": (
        [],
        f"file,md5,SHA-256\na.jpg,{MD5},{HASHES[0]}\nb.jpg,,{HASHES[1]}\n",
        {("md5", MD5), ("sha256", HASHES[0]), ("sha256", HASHES[1])},
    ),
    "threatexchange dataset": (
        [],
        "collab,signal_type,signal_str,category,tags\n"
        f"Sample,pdq,{HASHES[0]},WORTH_INVESTIGATING,\n"
        f"Sample,video_md5,{MD5},POSITIVE_CLASS,a b\n"
        f"Sample,pdq,{HASHES[1]},NEGATIVE_CLASS,\n"
        "Sample,raw_text,hello,POSITIVE_CLASS,\n",
        {("pdq", HASHES[0]), ("md5", MD5)},
    ),
    "hasher-matcher-actioner": (
        ["--kind", "pdq"],
        f"{HASHES[0]},2880742865368386,2020-07-31T18:47:52+0000,media_type_photo\n",
        {("pdq", HASHES[0])},
    ),
    "pdq-photo-hasher": (
        ["--kind", "pdq"],
        f"{HASHES[0]},100,a.jpg\n{HASHES[1]},49,flat.jpg\n{HASHES[2]},50,c.jpg\n",
        {("pdq", HASHES[0]), ("pdq", HASHES[2])},
    ),
    "quality in a column": (
        [],
        f"quality,hash,kind\n12,{HASHES[0]},pdq\n12,{HASHES[1]},sha256\n",
        {("sha256", HASHES[1])},
    ),
}


@pytest.mark.parametrize(("args", "text", "want"), FORMS.values(), ids=FORMS)
def test_lists_are_read_in_the_forms_that_other_tools_write(
    project: Project, args: list[str], text: str, want: set[tuple[str, str]]
) -> None:
    done = block(project, *args, of="\ufeff" + text.replace("\n", "\r\n"))
    assert set(project.query("SELECT kind, hash FROM blocked_hashes")) == want
    flat, left_out = text.count(",49,") + text.count("12,") // 2, text.count("NEGATIVE_CLASS")
    assert (done["low_quality"], done["harmless"]) == (flat, left_out)


@pytest.mark.parametrize(
    ("text", "args", "said"),
    [
        (HASHES[0], [], "line 1: 64 digits are a SHA-256 or a PDQ hash; say which with --kind"),
        ("", [], "no hash to import"),
        (f"{MD5}\nnothing\n", [], "line 2: 'nothing' is not a SHA-256, MD5 or PDQ hash"),
        (f"{MD5}\n", ["--kind", "sha256"], "line 1: a hash of kind sha256 has 64 digits, not 32"),
        ("name,reason\na,b\n", [], "no column of its header is one of hashes"),
        (f"pdq,quality\n{HASHES[0]},high\n", [], "line 2: the quality 'high' is not a number"),
        (MD5, ["--source", "takedown 1"], "is that of a takedown"),
        (MD5, ["--source", "a\nb"], "cannot be the name of a source"),
    ],
)
def test_a_list_with_anything_invalid_is_refused_as_a_whole(
    project: Project, text: str, args: list[str], said: str
) -> None:
    answer = listed(project, *args, of=text)
    assert answer.code == 2
    assert said in answer.stderr
    assert project.cli("blocklist", "list").stdout == "there are no blocklists\n"


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory(project: Project) -> None:
    answer = listed(project, of=f"{MD5}\n" + "0" * 1_000_001)
    assert answer.code == 2
    assert "line 2 has more than 1,000,000 characters" in answer.stderr


def test_of_many_invalid_lines_ten_are_named_and_the_rest_is_counted(project: Project) -> None:
    answer = listed(project, of="\n".join([MD5, *["x"] * 1_234]))
    lines = answer.stderr.splitlines()
    assert lines[0] == (
        "Error: list.txt: 1,234 lines are invalid; nothing is imported. Fix or remove them and "
        "import it again"
    )
    assert [line.strip().partition(":")[0] for line in lines[1:11]] == [
        f"line {n}" for n in range(2, 12)
    ]
    assert lines[11:] == ["  and 1,224 more"]


def test_an_export_reads_back_as_it_was(
    project: Project, make_project: Callable[[str], Project]
) -> None:
    block(project, "--source", "b", of=f'hash,kind,reason\n{HASHES[0]},pdq,"so, ""why"""\n')
    block(project, "--source", "a", "--kind", "sha256", of="\n".join(HASHES))
    text = project.cli("blocklist", "export").stdout
    other = make_project("other")
    block(other, of=text)
    columns = "SELECT kind, hash, source, reason FROM blocked_hashes ORDER BY 1, 2, 3"
    assert other.query(columns) == project.query(columns)
    assert other.cli("blocklist", "export").stdout == text
    exported = other.cli("blocklist", "export", "--json", "--source", "b").json
    assert exported == [{"kind": "pdq", "hash": HASHES[0], "source": "b", "reason": 'so, "why"'}]
