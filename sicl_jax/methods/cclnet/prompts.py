"""Sentences with learned tokens, and their token ids (`docs/methods/cclnet.md` section 2).

The two published sentences need no tokenizer. Others need CLIP's file of byte pair merges and the
extra `prompts`.
"""

import gzip
import itertools
import pathlib

import numpy as np

from sicl_jax.errors import UsageError, UserError, one_line
from sicl_jax.methods.cclnet.model import PromptShape

VISIBLE = "a visible photo of a X X X X person."
INFRARED = "an infrared photo of a X X X X person."

_PUBLISHED = {
    VISIBLE: (320, 8626, 1125, 539, 320, 343, 343, 343, 343, 2533, 269),
    INFRARED: (550, 22867, 1125, 539, 320, 343, 343, 343, 343, 2533, 269),
}
_LEARNED = "x"  # The word that stands for a learned token.
_MERGES = 48_894  # Of CLIP's vocabulary; the file has more.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def token_ids(sentence: str, merges_file: str, context: int) -> tuple[np.ndarray, PromptShape]:
    """Token ids of a sentence, and where in it the learned tokens stand.

    Args:
        sentence: With `X` for each learned token.
        merges_file: CLIP's `bpe_simple_vocab_16e6.txt.gz`; not read for the published sentences.
        context: Positions of the text encoder.

    Returns:
        (context,) int32, padded with 0; and the shape.

    Raises:
        UsageError: The sentence is too long, has no learned tokens, or not in one run.
        UserError: There is no file of merges, or it cannot be read.
    """
    if sentence in _PUBLISHED:
        words, learned, start, end = _PUBLISHED[sentence], 343, 49406, 49407
    else:
        words, learned, start, end = _tokenized(sentence, merges_file)
    ids = np.array([start, *words, end], np.int32)
    places = np.flatnonzero(ids == learned)
    if len(ids) > context:
        raise UsageError(
            f"the prompt {sentence!r:.80} has {len(ids)} tokens, but the text encoder reads "
            f"{context}: shorten it"
        )
    if not len(places) or places[-1] - places[0] + 1 != len(places):
        raise UsageError(
            f"the prompt {sentence!r:.80} needs one run of words X, one for each learned token, "
            "as in 'a photo of a X X X X person.'"
        )
    shape = PromptShape(int(places[0]), len(places), len(ids) - int(places[-1]) - 1)
    return np.pad(ids, (0, context - len(ids))), shape


def _tokenized(sentence: str, merges_file: str) -> tuple[list[int], int, int, int]:
    """Ids of a sentence's tokens, of the word X, and of the start and end tokens."""
    if not merges_file:
        raise UsageError(
            f"the prompt {sentence!r:.80} is not a published one: name CLIP's "
            "bpe_simple_vocab_16e6.txt.gz in --config.prompts.merges"
        )
    try:
        import tokenizers
    except ImportError as error:
        raise UserError(
            "prompts other than the published ones need a tokenizer: "
            "pip install 'sicl-jax[prompts]'"
        ) from error
    merges = _read_merges(merges_file)
    letters = list(_byte_letters())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += [first + second for first, second in merges]
    model = tokenizers.models.BPE(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=merges,
        end_of_word_suffix="</w>",
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = tokenizers.normalizers.Sequence(
        [
            tokenizers.normalizers.NFC(),
            tokenizers.normalizers.Replace(tokenizers.Regex(r"\s+"), " "),
            tokenizers.normalizers.Lowercase(),
        ]
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(_WORDS), "removed", invert=True),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    learned = tokens.index(f"{_LEARNED}</w>")
    return tokenizer.encode(sentence).ids, learned, len(tokens), len(tokens) + 1


def _read_merges(file: str) -> list[tuple[str, str]]:
    """Pairs of tokens in the order in which they merge; the file's first line is a header."""
    path = pathlib.Path(file)
    merges = []
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in itertools.islice(lines, 1, 1 + _MERGES):
                first, second = line.split()
                merges.append((first, second))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise UserError(
            f"{path}: is not CLIP's gzipped file of merges, two tokens a line: {one_line(error)}"
        ) from error
    return merges


def _byte_letters() -> list[str]:
    """A printable letter for each byte, in the vocabulary's order (byte-level BPE)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]
