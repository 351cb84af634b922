"""Searching by words: their beginnings are enough, case and accents don't matter, typos neither where they can't.

Words are folded when they are written and when they are looked for, so the database needs no dictionary. Typos are
told by trigrams, for which a database needs the extension pg_trgm; where it is not, words have to be spelled right.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Double,
    Index,
    Text,
    and_,
    cast,
    false,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import REGCONFIG
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateIndex
from sqlalchemy.sql.compiler import DDLCompiler

from amends.query import Query

__all__ = ["NO_TYPOS", "document", "folded", "matching", "trigram_index", "typos_forgiven", "word_index"]

MOST_WORDS = 16
"""So many words of a question are looked for; what follows them is left out."""

LONGEST_WORD = 100
"""So many letters of a word are looked for."""

ALIKE = 0.45
"""How much of its trigrams a word must share with one that it is taken for: one letter wrong in a word of five."""

THERE = "to_regprocedure('word_similarity(text,text)') is not null"
"""Whether pg_trgm is installed in this database, where its functions are found."""

TRIGRAMS = "gin_trgm_ops"
"""How pg_trgm lets an index find letters."""

NO_TYPOS = {"42883": {"typos": "can't be forgiven in this database, which lacks pg_trgm; ask `typos_forgiven` first"}}
"""What it means when a search is refused for a function that there is not."""

_SIMPLE: ColumnElement[Any] = cast(literal_column("'simple'"), REGCONFIG)


def folded(words: str) -> str:
    """Words as they are kept and compared: small letters and digits without accents, a blank between words."""
    small = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", words).casefold())
    plain = (letter for letter in small if not unicodedata.combining(letter))
    return " ".join("".join(letter if letter.isalnum() else " " for letter in plain).split())


def document(words: str) -> str:
    """The SQL expression of what the words in an SQL expression are found by."""
    return f"to_tsvector('simple'::regconfig, {words})"


def word_index(name: str, words: str) -> Index:
    """An index of words, for a table of a projection.

    Args:
        name: of the index.
        words: SQL expression of folded words.
    """
    return Index(name, text(document(words)), postgresql_using="gin")


def trigram_index(name: str, words: str) -> Index:
    """An index of letters, made where the database has pg_trgm when the index is made; arguments as `word_index`."""
    return Index(name, text(f"({words}) {TRIGRAMS}"), postgresql_using="gin")


@compiles(CreateIndex, "postgresql")
def _where_it_can_be(create: CreateIndex, compiler: DDLCompiler, **options: Any) -> str:
    """Tables are copied, and their indexes made by whoever builds them; so the statement itself looks what there is."""
    statement = str(compiler.visit_create_index(create, **options))  # type: ignore[no-untyped-call]
    if TRIGRAMS not in statement:
        return statement
    statement = statement.replace("CREATE INDEX CONCURRENTLY", "CREATE INDEX")  # which no block of code may do
    return f"do $do$ begin if {THERE} then execute $index${statement}$index$; end if; end $do$"


def typos_forgiven() -> Query[bool]:
    """Whether searches in this database can forgive typos."""
    return Query(select(literal_column(THERE).label("there")), lambda found: bool(found[0]["there"]))


def matching(
    question: str, document: ColumnElement[Any], words: ColumnElement[Any], *, typos: bool
) -> tuple[ColumnElement[bool], ColumnElement[Any]]:
    """How rows are found by words, each of which has to be there or begin a word that is.

    Args:
        question: what somebody has typed; anything at all.
        document: the column that holds what rows are found by.
        words: the column of folded words.
        typos: take a word for one that is spelled alike; the database must be able to, see `typos_forgiven`.

    Returns:
        the condition, and how well a row fits it: more is better.
    """
    wanted = [word[:LONGEST_WORD] for word in folded(question).split()[:MOST_WORDS]]
    if not wanted:
        return false(), cast(literal(0.0), Double)
    fits: ColumnElement[Any] = func.ts_rank(document, _tsquery(wanted, " | "))
    if not typos:
        return document.op("@@")(_tsquery(wanted, " & ")), cast(fits, Double)
    alike = [func.word_similarity(literal(word, Text), words) for word in wanted]
    for likeness in alike:
        fits = fits + likeness
    found = [
        or_(document.op("@@")(_tsquery([word], "")), and_(_shares_letters(word, words), likeness >= ALIKE))
        for word, likeness in zip(wanted, alike, strict=True)
    ]
    return and_(*found), cast(fits, Double)


def _tsquery(wanted: Sequence[str], between: str) -> ColumnElement[Any]:
    """Folded words are letters and digits only, so that nothing in them means anything to the query."""
    return func.to_tsquery(_SIMPLE, literal(between.join(f"'{word}':*" for word in wanted), Text))


def _shares_letters(word: str, words: ColumnElement[Any]) -> ColumnElement[bool]:
    """Three letters in a row in common: less than `ALIKE` asks for, but an index finds the rows."""
    letters = sorted({word[start : start + 3] for start in range(len(word) - 2)})
    return words.op("~", is_comparison=True)(literal("|".join(letters), Text)) if letters else false()
