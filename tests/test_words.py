"""The words that the glossary leaves out: nobody should have to decipher the project."""

import re
import subprocess

import pytest

from tests.support.commands import ROOT

WORDS = [
    r"(go|goes|going|went) on", r"mend(s|ed|ing)?", r"told", r"(?<!study\.)tells?", r"anew", r"strangers?",
    r"grudges?",
    r"no numbers?", r"no plain yaml", r"no whole archive", r"not of this code", r"over views", r"times none",
    r"times cifar-plain", r"to its aim", r"set aside", r"same bytes again", r"multipl(y|ies) in bfloat16",
    r"what stands between", r"wrong of [\d,]+ against", r"machine is uneven",
]  # fmt: skip
# Words of their own, also within names such as test_it_went_on, and across the end of a line.
LEFT_OUT = re.compile(rf"(?<![a-z])({'|'.join(WORDS)})(?![a-z])".replace(" ", r"[ _\n]+"), re.IGNORECASE)
# Not written by people, or lists of texts from other files.
SKIPPED = re.compile(r"requirements.*\.lock|.*\.(svg|csv|npz|lock)|report/.*|tests/mutants/.*|tests/test_words\.py")

ALLOWED = {
    # A quote of the exercise's "book of grudges".
    "docs/results/exercise.md",
}


def left_out(text: str) -> list[str]:
    return [match[0] for match in LEFT_OUT.finditer(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It goes\non after a stop.", ["goes\non"]),
        ("def test_it_went_on():", ["went_on"]),
        ("He was told anew; Mend it.", ["told", "anew", "Mend"]),
        ("recommended, intellect, study.tell(1)", []),
    ],
)
def test_left_out_words_are_found_as_words(text, words):
    assert left_out(text) == words


def test_no_text_has_a_left_out_word():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    names = [name for name in filter(None, listed) if (ROOT / name).is_file() and not SKIPPED.fullmatch(name)]
    found = {name: words for name in names if (words := left_out((ROOT / name).read_text(encoding="utf-8")))}
    assert {name: words for name, words in found.items() if name not in ALLOWED} == {}
    assert sorted(ALLOWED - found.keys()) == [], "has none of the words: take it off the list"
