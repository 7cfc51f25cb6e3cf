"""Which tokenizers may be cut, where, and that the others are left alone and the log says why."""

import pytest
from sglang.srt.entrypoints.openai.parallel_prompt_encode import parallel_prompt_encode
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from sfi_sglang.integration.cut_points import NotExact, cut_points
from sfi_sglang.integration.token_cache import TokenCache
from tests.made_tokenizers import CODE, EXACT, bytes_bpe, made, metaspace, wrapped

END = "<|im_end|>"


def with_token(**flags) -> Tokenizer:
    tokenizer = bytes_bpe()
    tokenizer.add_special_tokens([AddedToken("mask", **flags), "END"])
    return tokenizer


def with_part(name, part) -> Tokenizer:
    tokenizer = bytes_bpe()
    setattr(tokenizer, name, part)
    return tokenizer


def with_dropout() -> Tokenizer:
    tokenizer = bytes_bpe()
    tokenizer.model.dropout = 0.1
    return tokenizer


class Own(PreTrainedTokenizerFast):
    def encode(self, text, *args, **kwargs):
        return [7, *super().encode(text, *args, **kwargs)]


class Custom:
    def pre_tokenize(self, pretok):
        pretok.split(lambda i, text: [text])


def with_python_part(tokenizer):
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(Custom())
    return tokenizer


TWICE = processors.TemplateProcessing(single="$A <s> $A", special_tokens=[("<s>", 1)])
REFUSED = {
    "lstrip": lambda: wrapped(with_token(lstrip=True)),
    "rstrip": lambda: wrapped(with_token(rstrip=True)),
    "single_word": lambda: wrapped(with_token(single_word=True)),
    "prepend_scheme first": lambda: wrapped(metaspace("first")),
    "dropout": lambda: wrapped(with_dropout()),
    "post-processor does not leave": lambda: wrapped(with_part("post_processor", TWICE)),
    "pre-tokenizer is unknown: FixedLength": lambda: wrapped(
        with_part("pre_tokenizer", pre_tokenizers.Sequence([pre_tokenizers.FixedLength(length=5)]))
    ),
    "pre-tokenizer cannot be read": lambda: with_python_part(wrapped(bytes_bpe())),
    "no added token": lambda: PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE())),
    "Own is no plain fast tokenizer": lambda: Own(tokenizer_object=bytes_bpe()),
    "split_special_tokens": lambda: wrapped(bytes_bpe(), split_special_tokens=True),
    "Custom is no plain fast tokenizer": Custom,
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_tokenizer_that_may_not_be_cut_is_left_alone(reason, caplog):
    tokenizer = REFUSED[reason]()
    with pytest.raises(NotExact, match=reason.replace("(", r"\(")):
        cut_points(tokenizer)
    cache, seen = TokenCache(), []

    def original(*given):
        seen.append(given)
        return [1, 2]

    for _ in range(2):
        assert cache.encode(original, tokenizer, CODE, {}, 1000).ids == [1, 2]
    assert seen == [(tokenizer, CODE, {})] * 2
    (record,) = [record for record in caplog.records if record.name.startswith("sfi_sglang")]
    assert "tokenised whole" in record.message and reason in record.message


@pytest.mark.parametrize(
    ("tokenizer", "text", "cut"),
    [
        (wrapped(metaspace("first")), f"ships{END}ships", f"ships{END}"),
        (wrapped(with_token(rstrip=True)), "a mask  b", "a mask"),
        (wrapped(with_token(single_word=True)), "ENDmask", "END"),
        (wrapped(with_part("post_processor", TWICE)), f"a{END}b", f"a{END}"),
    ],
)
def test_those_that_are_refused_would_give_other_ids(tokenizer, text, cut):
    def ids(text):
        return tokenizer.encode(text)

    assert ids(text) != ids(cut) + ids(text.removeprefix(cut))


@pytest.mark.parametrize("name", [*EXACT, "embedded"])
def test_cuts_are_the_ends_of_added_tokens(name):
    text = f"é{END}b{END}!<|im_e<|im_end|c{END}"
    ends = cut_points(made(name)).ends(text.encode())
    joined = [text.encode()[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]
    if name == "embedded":
        assert joined == [f"é{END}", f"b{END}", f"!<|im_e<|im_end|c{END}"]
    else:  # which have "<|im_end|>!" and "<|" too
        assert joined == [f"é{END}", f"b{END}!", "<|", "im_e<|", f"im_end|c{END}"]


def test_a_token_looked_for_in_normalised_text_is_no_cut():
    assert cut_points(made("bert")).ends(b"the harbor master") == [17]


def truncate(tokenizer):
    tokenizer.backend_tokenizer.enable_truncation(3)


def pad(tokenizer):
    tokenizer.backend_tokenizer.enable_padding(length=100)


def split_specials(tokenizer):
    tokenizer.backend_tokenizer.encode_special_tokens = True


def add_token(tokenizer):
    tokenizer.add_tokens(["return one"])


@pytest.mark.parametrize("change", [truncate, pad, split_specials, add_token])
def test_a_tokenizer_that_was_changed_since_is_left_alone(change):
    tokenizer, cache = wrapped(bytes_bpe()), TokenCache()
    text, options = f"{CODE}{END}{CODE}", {"add_special_tokens": False}
    cache.encode(parallel_prompt_encode, tokenizer, text, options, 1 << 20)
    change(tokenizer)
    found = cache.encode(parallel_prompt_encode, tokenizer, text, options, 1 << 20)
    assert found.ids == tokenizer.encode(text, **options) and found.reused == 0


def test_options_that_are_not_ours_go_to_sglang():
    tokenizer, cache = wrapped(bytes_bpe()), TokenCache()
    found = [cache.encode(parallel_prompt_encode, tokenizer, CODE, {"max_length": 3, "truncation": True}, 9999)] * 2
    assert [len(each.ids) for each in found] == [3, 3] and len(found[1].ids) == 3


def test_every_kind_of_part_is_read():
    """A Sequence in a Sequence, and a Split by a regex."""
    inner = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\d"), "isolated"), pre_tokenizers.Metaspace(prepend_scheme="first")]
    )
    tokenizer = with_part("pre_tokenizer", pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), inner]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    with pytest.raises(NotExact, match="prepend_scheme first"):
        cut_points(wrapped(tokenizer))
